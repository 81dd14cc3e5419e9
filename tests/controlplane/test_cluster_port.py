"""What the operator may expect of an API server."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from pantala_operator.adapters import kubernetes
from pantala_operator.errors import ClusterConflictError, ClusterNotFoundError
from pantala_operator.plan.prefetch.inputs import Workload
from pantala_operator.ports import ClusterAPI, DataKind, SystemClock
from pantala_operator.resources.api import (
    API_VERSION,
    Metadata,
    Node,
    PeerCache,
    PeerCount,
    PeerResource,
    PeerStatus,
    TaskResource,
    TaskSource,
    TaskSpec,
    TaskStatus,
)
from pantala_operator.resources.conditions import Condition, ConditionStatus, Verdict
from pantala_operator.resources.prefetch import ImagePrefetch, PrefetchStatus
from pantala_operator.resources.sources import SourcePolicy, SourcePolicyStatus
from pantala_operator.resources.status import Notice
from pantala_operator.term import Term
from pantala_process.identity import ClusterKeys, ServerClock
from testbed.apiserver import ControlPlane
from tests.support.cluster import MemoryCluster
from tests.support.operator_process import NODES, URL, Kubectl

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(180)]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LABELS = {"app": "web"}
TEMPLATE = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "main", "image": "a:1"}]}}
OBJECTS: list[tuple[str, dict[str, Any]]] = [
    ("tasks", {"metadata": {"name": "t", "namespace": "default"}, "spec": {"source": {"url": URL}}}),
    ("imageprefetches", {"metadata": {"name": "p", "namespace": "default"}, "spec": {"images": [{"image": "a:1"}]}}),
    ("sourcepolicies", {"metadata": {"name": "s"}, "spec": {"cidrs": ["10.0.0.0/8"]}}),
    (
        "deployments",
        {
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": 0, "selector": {"matchLabels": LABELS}, "template": TEMPLATE},
        },
    ),
]
HEADS = {
    "tasks": (API_VERSION, "Task"),
    "imageprefetches": (API_VERSION, "ImagePrefetch"),
    "sourcepolicies": (API_VERSION, "SourcePolicy"),
    "deployments": ("apps/v1", "Deployment"),
}
READY = Verdict(ConditionStatus.TRUE, "ImagesPresent", "The node has its images")
TASK = TaskResource(Metadata("t", "default"), TaskSpec(TaskSource(URL)))


@pytest.fixture(params=["memory", "real"])
async def cluster(
    request: pytest.FixtureRequest, control_plane: ControlPlane, kubectl: Kubectl
) -> AsyncIterator[ClusterAPI]:
    found: ClusterAPI
    if request.param == "memory":
        found = memory = MemoryCluster()
        for plural, body in OBJECTS:
            memory.put(plural, body)
        for name in NODES:
            memory.put("nodes", {"metadata": {"name": name}, "spec": {}})
        memory.put("namespaces", {"metadata": {"name": "default", "labels": {}}})
    else:
        found = await kubernetes.connect(str(control_plane.kubeconfig))
        for plural, body in OBJECTS:
            version, kind = HEADS[plural]
            await kubectl.apply({"apiVersion": version, "kind": kind, **body})
    yield found
    await found.close()


async def test_lists_and_reads(cluster: ClusterAPI) -> None:
    assert [] == await cluster.missing_kinds()
    (task,) = await cluster.list_all(TaskResource)
    assert ("default/t", task) == (task.metadata.key, await cluster.read(TASK))
    assert ["default/p"] == [each.metadata.key for each in await cluster.list_all(ImagePrefetch)]
    assert set(NODES) == {node.metadata.name for node in await cluster.list_all(Node)}
    assert [] == await cluster.list_all(PeerResource)
    assert [] == await cluster.list_pods("default")
    assert "default" in await cluster.list_namespaces()
    for namespace in ("default", ""):
        assert [Workload("Deployment", "default", "web")] == [
            Workload(each.kind, each.namespace, each.name)
            for each in await cluster.list_workloads("Deployment", namespace)
        ]
    assert [] == await cluster.list_workloads("Deployment", "other")


async def test_what_does_not_exist_is_not_found(cluster: ClusterAPI) -> None:
    missing = msgspec.structs.replace(TASK, metadata=Metadata("other", "default", "uid"))
    for call in (
        cluster.read(missing),
        cluster.delete(missing),
        cluster.apply_status(missing, TaskStatus(1)),
        cluster.read_data(DataKind.SECRET, "default", "other"),
        cluster.get_stateful_set("default", "other"),
        cluster.remove_taint("other", "key"),
        cluster.set_images_ready(Node(Metadata("other")), READY, NOW),
    ):
        with pytest.raises(ClusterNotFoundError):
            await call


async def test_a_status_is_replaced_as_a_whole(cluster: ClusterAPI) -> None:
    """An equal status changes no resource version, so no watch sees it."""
    task = await cluster.read(TASK)
    status = TaskStatus(
        1, (Condition("Ready", "False", "R", "m", NOW, 1),), "f" * 64, "RUNNING", peers=PeerCount(3, 0, 1, 0),
        start_time=NOW, last_handled_request="a \u2028 \u2029 \x85 b",
    )  # fmt: skip
    written = await cluster.apply_status(task, status)
    assert status == written.status == (await cluster.read(TASK)).status
    again = await cluster.apply_status(written, status)
    assert written.metadata.resource_version == again.metadata.resource_version
    less = msgspec.structs.replace(status, cdn_status="", peers=None)
    assert less == (await cluster.apply_status(again, less)).status
    (prefetch,) = await cluster.list_all(ImagePrefetch)
    assert "1/2" == (await cluster.apply_status(prefetch, PrefetchStatus(summary="1/2"))).status.summary


async def test_m2_a_policy_and_its_status(cluster: ClusterAPI) -> None:
    (policy,) = await cluster.list_all(SourcePolicy)
    status = SourcePolicyStatus(1, (Condition("Accepted", "True", "Accepted", "m", NOW, 1),))
    assert status == (await cluster.apply_status(policy, status)).status == (await cluster.read(policy)).status


async def test_h1_only_our_condition_of_a_node_changes(cluster: ClusterAPI) -> None:
    node = next(each for each in await cluster.list_all(Node) if each.metadata.name == NODES[0])
    others = [each for each in node.status.conditions if each != node.images_ready]
    waiting = READY._replace(status=ConditionStatus.FALSE, reason="ImagesMissing")
    for verdict in (waiting, READY):
        node = await cluster.set_images_ready(node, verdict, NOW)
        assert node.images_ready is not None
        assert verdict == (node.images_ready.status, node.images_ready.reason, node.images_ready.message)
        assert others == [each for each in node.status.conditions if each != node.images_ready]


@pytest.mark.parametrize("kind", DataKind)
async def test_h9_only_one_of_two_writers_changes_the_authority(
    cluster: ClusterAPI, kubectl: Kubectl, kind: DataKind
) -> None:
    metadata = {"name": "pantala-tls", "namespace": "default"}
    if isinstance(cluster, MemoryCluster):
        cluster.put(kind, {"metadata": metadata})
    else:
        name = "Secret" if kind is DataKind.SECRET else "ConfigMap"
        await kubectl.apply({"apiVersion": "v1", "kind": name, "metadata": metadata})
    found = await cluster.read_data(kind, "default", "pantala-tls")
    await cluster.write_data(kind, found.metadata, {"a": "YQ==", "b": "Yg=="})
    with pytest.raises(ClusterConflictError):
        await cluster.write_data(kind, found.metadata, {"a": "eA=="})
    found = await cluster.read_data(kind, "default", "pantala-tls")
    assert {"a": "YQ==", "b": "Yg=="} == found.data
    await cluster.write_data(kind, found.metadata, {"a": None})
    assert {"b": "Yg=="} == (await cluster.read_data(kind, "default", "pantala-tls")).data
    with pytest.raises(ClusterNotFoundError):
        await cluster.read_data(kind, "default", "other")


@pytest.mark.parametrize(
    "name",
    [
        "../../kube-public/secrets/theirs", "own/../../../kube-public/secrets/theirs",
        "%2e%2e/%2e%2e/kube-public/secrets/theirs", "own?x=y", "own#x", "own/", "..", "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("cluster", ["real"], indirect=True)
async def test_t1_no_name_leads_to_a_secret_of_another_namespace(
    cluster: ClusterAPI, kubectl: Kubectl, name: str
) -> None:
    """A Task's author writes the name of the Secret with its headers."""
    for namespace, secret in (("default", "own"), ("kube-public", "theirs")):
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "namespace": namespace}}
        await kubectl.apply(body)
        assert secret == (await cluster.read_data(DataKind.SECRET, namespace, secret)).metadata.name
    with pytest.raises(ClusterNotFoundError):
        await cluster.read_data(DataKind.SECRET, "default", name)


async def test_h9_a_replica_that_does_not_lead_can_write_the_authority(
    control_plane: ControlPlane, kubectl: Kubectl
) -> None:
    """In an upgrade, the former replica may lead until the new ones are ready, and those need an authority for it."""
    await kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls", "namespace": "default"}})
    term = Term(SystemClock(), alone=False)
    cluster = await kubernetes.connect(str(control_plane.kubeconfig), term=term)
    found = await cluster.read_data(DataKind.SECRET, "default", "tls")
    await cluster.write_data(DataKind.SECRET, found.metadata, {"a": "YQ=="})
    assert {"a": "YQ=="} == (await cluster.read_data(DataKind.SECRET, "default", "tls")).data
    await cluster.close()


async def test_the_operator_verifies_tokens_with_the_keys_of_the_cluster(control_plane: ControlPlane) -> None:
    token = control_plane.kubectl("create", "token", "default", "--audience=pantala", "--duration=600s").strip()
    cluster = await kubernetes.connect(str(control_plane.kubeconfig))
    identity = await ClusterKeys(cluster.read_document, ServerClock()).verify(token)
    assert "system:serviceaccount:default:default" == identity.subject
    await cluster.close()


async def test_f13_an_old_reading_is_not_written(cluster: ClusterAPI) -> None:
    """Neither over a newer object, nor over a successor of the same name, nor after its deletion."""
    task = await cluster.read(TASK)
    written = await cluster.apply_status(task, TaskStatus(1))
    with pytest.raises(ClusterConflictError):
        await cluster.apply_status(task, TaskStatus(2))
    stranger = msgspec.structs.replace(task, metadata=msgspec.structs.replace(task.metadata, uid="another"))
    outdated = {"name": "t", "namespace": "default", "resourceVersion": task.metadata.resource_version}
    spec = {"source": {"url": "http://origin.example/other"}}
    body = {"apiVersion": API_VERSION, "kind": "Task", "metadata": outdated, "spec": spec}
    for call in (cluster.delete(stranger), cluster.delete(task), cluster.apply(TaskResource, body)):
        with pytest.raises(ClusterConflictError):
            await call
    assert URL == (await cluster.read(TASK)).spec.source.url
    assert await cluster.delete(written) is None
    for call in (cluster.apply_status(written, TaskStatus(3)), cluster.delete(written)):
        with pytest.raises(ClusterNotFoundError):
            await call


async def test_a_deleted_object_exists_until_its_last_finalizer_is_removed(
    cluster: ClusterAPI, kubectl: Kubectl
) -> None:
    body = {
        "metadata": {"name": "t", "namespace": "default", "finalizers": ["example.com/x"]},
        "spec": OBJECTS[0][1]["spec"],
    }
    if isinstance(cluster, MemoryCluster):
        cluster.put("tasks", body)
    else:
        await kubectl.apply({"apiVersion": API_VERSION, "kind": "Task", **body})
    for _ in range(2):
        left = await cluster.delete(await cluster.read(TASK))
        there = await cluster.read(TASK)
        assert left == there
        assert there.metadata.deletion_timestamp is not None
    if not isinstance(cluster, MemoryCluster):
        await kubectl("patch", "tasks.pantala.dev", "t", "--type=merge", '--patch={"metadata":{"finalizers":null}}')


async def test_apply_creates_and_changes(cluster: ClusterAPI) -> None:
    body = {"apiVersion": API_VERSION, "kind": "Peer", "metadata": {"name": "node-a"}}
    created = await cluster.apply(PeerResource, body)
    peer = await cluster.apply(PeerResource, body)
    assert created.metadata.uid == peer.metadata.uid
    status = PeerStatus(1, address="10.0.0.1:65002", cache=PeerCache(5, 1, "5"), succeeded=2)
    assert status == (await cluster.apply_status(peer, status)).status
    task = {
        "apiVersion": API_VERSION, "kind": "Task", "metadata": {"name": "t2", "namespace": "default"},
        "spec": {"source": {"url": URL}},
    }  # fmt: skip
    one = await cluster.apply(TaskResource, task)
    two = await cluster.apply(TaskResource, {**task, "spec": {"source": {"url": URL}, "priority": 7}})
    assert (one.metadata.uid, 1, 2) == (two.metadata.uid, one.metadata.generation, two.metadata.generation)
    assert 7 == two.spec.priority


async def test_only_taints_with_the_key_are_removed(cluster: ClusterAPI, kubectl: Kubectl) -> None:
    if isinstance(cluster, MemoryCluster):
        taints = [{"key": key, "effect": "NoSchedule"} for key in ("mine", "other")]
        cluster.put("nodes", {"metadata": {"name": "node-a"}, "spec": {"taints": taints}})
    else:
        await kubectl("taint", "node", "node-a", "mine=:NoSchedule", "other=:NoSchedule")
    for _ in range(2):
        left = await cluster.remove_taint("node-a", "mine")
        assert ["other"] == [taint.key for taint in left.spec.taints]


async def test_events_are_created(cluster: ClusterAPI, kubectl: Kubectl) -> None:
    task = await cluster.read(TASK)
    await cluster.create_event(task, Notice(True, "Reason", "text"), NOW)
    if isinstance(cluster, MemoryCluster):
        assert [("default/t", "Warning", "Reason")] == cluster.events
    else:
        found = (await kubectl.get("events", f"--field-selector=involvedObject.uid={task.metadata.uid}"))["items"]
        assert [("t", "Warning", "Reason", "text")] == [
            (each["involvedObject"]["name"], each["type"], each["reason"], each["message"]) for each in found
        ]
