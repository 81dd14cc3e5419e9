"""Text that nodes and origins send never makes the API server refuse a status."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from pantala_operator.adapters import kubernetes
from pantala_operator.adapters.kubernetes import KubernetesCluster
from pantala_operator.plan import peer as peers
from pantala_operator.plan import task as tasks
from pantala_operator.plan.nodes import MAX_NODES
from pantala_operator.plan.paths import PublishedPaths
from pantala_operator.plan.prefetch.counts import _failure
from pantala_operator.plan.targets import Targets
from pantala_operator.plan.task import ObservedTask
from pantala_operator.resources import conditions
from pantala_operator.resources.api import API_VERSION, Metadata, PeerResource, TaskResource, TaskSource, TaskSpec
from pantala_operator.resources.prefetch import ImageKey, ImagePrefetch, PrefetchStatus
from pantala_protocol.images import PullState
from pantala_protocol.statement import PeerReport, TaskReport
from testbed.apiserver import ControlPlane
from tests.support.operator_process import URL, Kubectl

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(180)]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PATHS = PublishedPaths("/var/lib/pantala/files")
TEXTS = [
    "x" * 1_000_000, "é" * 40_000, "🙂" * 40_000, "a\nb\x00\x1b[31m\u202e\u2028" * 10_000, "", "NotFound", "Läuft 1",
    "\x7f\x85\ufeff\uffff ok 🙂",
]  # fmt: skip


@pytest.fixture
async def cluster(control_plane: ControlPlane, kubectl: Kubectl) -> AsyncIterator[KubernetesCluster]:
    found = await kubernetes.connect(str(control_plane.kubeconfig))
    metadata = {"name": "hostile", "namespace": "default"}
    await kubectl.apply(
        {"apiVersion": API_VERSION, "kind": "Task", "metadata": metadata, "spec": {"source": {"url": URL}}}
    )
    spec = {"images": [{"image": "a:1"}]}
    await kubectl.apply({"apiVersion": API_VERSION, "kind": "ImagePrefetch", "metadata": metadata, "spec": spec})
    await kubectl.apply({"apiVersion": API_VERSION, "kind": "Peer", "metadata": {"name": "hostile"}, "spec": {}})
    yield found
    await found.close()


def received(kind: type, **fields: Any) -> Any:
    """A message as it arrives from another process."""
    return msgspec.json.decode(msgspec.json.encode(fields), type=kind)


@pytest.mark.parametrize(
    "text", TEXTS, ids=["long", "two bytes", "four bytes", "control", "empty", "reason", "accents", "unprintable"]
)
async def test_m3_no_text_of_a_node_makes_the_api_server_refuse_a_status(cluster: KubernetesCluster, text: str) -> None:
    resource = await cluster.read(TaskResource(Metadata("hostile", "default"), TaskSpec(TaskSource(URL))))
    names = [f"{number:0253}" for number in range(1000)]
    failure = {"reason": text, "message": text, "peer": "n" * 253}
    report = received(
        TaskReport,
        uid=resource.metadata.uid,
        task_id="",
        attempt=resource.attempt,
        cdn_status=text[:1000] or "RUNNING",
        length=(1 << 53) - 1,
        failure={**failure, "final": True},
        failures=[{**failure, "peer": name} for name in names],
        failed_peers=(1 << 31) - 1,
    )
    known = tasks.plan(resource, ObservedTask(), PATHS, NOW).status.task_id
    report = msgspec.structs.replace(report, task_id=known)
    observed = ObservedTask(
        targets=Targets(wanted=tuple(names), desired=frozenset(names)), report=report, reported=True
    )
    status = tasks.plan(resource, observed, PATHS, NOW).status
    written = await cluster.apply_status(resource, status)
    assert MAX_NODES == len(written.status.failures)
    assert conditions.find(written.status.conditions, "Ready") is not None

    node = await cluster.read(PeerResource(Metadata("hostile")))
    runtime = {"name": text or "containerd", "version": text, "message": text, "mirror": False}
    peer = received(PeerReport, name="hostile", connected=True, zone=text, version=text, runtime=runtime, tasks=1 << 52)
    planned = peers.plan(node, peers.ObservedPeer(peer, reconnected=True), NOW)
    assert planned.status is not None
    assert "" != (await cluster.apply_status(node, planned.status)).status.address

    (prefetch,) = [each for each in await cluster.list_all(ImagePrefetch) if each.metadata.name == "hostile"]
    pull = received(PullState, phase="Failed", since=1, reason=text, message=text)
    failed = _failure("n" * 253, ImageKey("r/a"), pull.reason or "Failed", pull.message)
    after = await cluster.apply_status(prefetch, PrefetchStatus(failures=(failed,) * MAX_NODES))
    assert MAX_NODES == len(after.status.failures)
