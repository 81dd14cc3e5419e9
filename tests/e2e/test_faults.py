"""Faults during a Task or an ImagePrefetch: the healthy part finishes, and no verified byte is read twice."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

from testbed.cluster import Cluster, runtime
from testbed.cluster.registry_host import RegistryHost
from testbed.origin import Generated, Origin
from tests.e2e.case import MIB, Case, passes
from tests.e2e.environment import NAMESPACE
from tests.e2e.images import Images, assert_on_nodes
from tests.e2e.kubectl import Resource
from tests.support.eventually import eventually_blocking

_COMPONENT = "app.kubernetes.io/component"
_ZONE = "topology.kubernetes.io/zone"
_SIZE = 64 * MIB
_RATE = 6 * MIB
"""Bytes a second. Half of the file takes 5 s, which leaves time for a fault."""
_IN_FLIGHT = 16 * MIB
"""The bytes that a cut may cost at most: they were on the way, and in no verified piece."""


def _start(case: Case, origin: Origin, name: str, seed: int) -> Generated:
    body = Generated(_SIZE, seed=seed)
    origin.rate = _RATE
    origin.serve(f"/{name}", body)
    case.apply(case.task(name, origin.url(f"/{name}")))
    return body


def test_the_api_server_is_away_for_a_minute(case: Case, origin: Origin, cluster: Cluster) -> None:
    """Every node gets the file during the outage. Afterwards the status reports it."""
    body = _start(case, origin, "outage", seed=15)
    case.cached("outage", 0.3)
    nodes = case.nodes

    cluster.stop_apiserver()
    back_at = time.monotonic() + 60
    try:
        origin.rate = None
        passes(lambda: case.assert_published("outage", body, nodes), within=50)
        time.sleep(max(0.0, back_at - time.monotonic()))
    finally:
        cluster.start_apiserver()

    case.ready("task/outage", timeout=60)
    assert [_SIZE] == [access.sent for access in origin.requests("/outage")]


def test_the_supernode_is_killed_half_way(case: Case, origin: Origin) -> None:
    """The new supernode continues: it does not read verified pieces from the origin again."""
    body = _start(case, origin, "supernode-killed", seed=10)
    before = case.cached("supernode-killed", 0.5)

    case.release.kill("supernode")

    case.release.wait_ready()
    origin.rate = None
    case.ready("task/supernode-killed")
    case.assert_published("supernode-killed", body)
    verified = before["pieces"]["cached"] * before["pieceSize"]
    reads = origin.requests("/supernode-killed")
    assert len(reads) >= 2, "the kill cut nothing, so the case proves nothing"
    assert all(access.range for access in reads[1:]), "the new supernode asked for the whole file"
    assert min(int(access.range.removeprefix("bytes=").split("-")[0]) for access in reads[1:]) >= verified
    assert origin.body_bytes("/supernode-killed") <= _SIZE + _IN_FLIGHT


def test_the_operator_is_killed_half_way(case: Case, origin: Origin) -> None:
    """The download continues without the operator. The new operator reports the result."""
    body = _start(case, origin, "operator-killed", seed=11)
    case.cached("operator-killed", 0.3)

    case.release.kill("operator")

    origin.rate = None
    case.release.wait_ready()
    case.ready("task/operator-killed")
    case.assert_published("operator-killed", body)
    assert [_SIZE] == [access.sent for access in origin.requests("/operator-killed")]


def test_a_node_is_cut_off_from_the_supernode(case: Case, origin: Origin, cluster: Cluster) -> None:
    """Within 15 s the Task and the Peer say so. The peer's zone is its Node's, which no pod had when it started."""
    node = next(name for name in case.nodes if name != case.release.node_of("supernode"))
    body = _start(case, origin, "cut-off", seed=16)
    case.cached("cut-off", 0.2)
    case.kubectl("label", "node", node, f"{_ZONE}=east")
    pods = case.kubectl.list("pods", NAMESPACE, "app.kubernetes.io/component in (peer,supernode)")
    of = {pod["metadata"]["labels"][_COMPONENT]: pod["status"]["podIP"] for pod in pods if _is_either(pod, node)}
    rule = ("FORWARD", "--source", of["peer"], "--destination", of["supernode"], "--jump", "DROP")

    cluster.enter(node, "iptables", "--insert", *rule)
    began = time.monotonic()
    try:
        passes(lambda: _assert_cut_off(case, "cut-off", node), within=20)
        took = time.monotonic() - began
    finally:
        cluster.enter(node, "iptables", "--delete", *rule)
    origin.rate = None

    case.ready("task/cut-off")
    case.assert_published("cut-off", body)
    assert "east" == case.kubectl.get(f"peers.pantala.dev/{node}")["status"]["zone"]
    case.kubectl("label", "node", node, f"{_ZONE}-")
    assert took < 15, took


def _is_either(pod: Resource, node: str) -> bool:
    """True for the supernode's pod, and for the peer's pod on this node."""
    return "supernode" == pod["metadata"]["labels"][_COMPONENT] or bool(pod["spec"]["nodeName"] == node)


def _assert_cut_off(case: Case, name: str, node: str) -> None:
    ready = case.condition(f"task/{name}", "Ready")
    assert ("False", "NodeCutOff") == (ready.get("status"), ready.get("reason")), ready
    assert node in ready["message"]
    assert [node] == [each["node"] for each in case.status(f"task/{name}").get("late", [])]
    peer = case.kubectl.get(f"peers.pantala.dev/{node}")["status"]["conditions"]
    assert "NodeCutOff" in {each["reason"] for each in peer if each["type"] == "Ready"}, peer


def test_a_node_joins_while_the_task_runs(case: Case, origin: Origin, cluster: Cluster) -> None:
    """The new node gets the file. After its removal its Peer is deleted, and the Task stays Ready."""
    body = _start(case, origin, "node-added", seed=12)
    case.cached("node-added", 0.2)
    before = len(case.nodes)

    added = cluster.add_node()

    try:
        case.kubectl.wait(f"peers.pantala.dev/{added}", "Ready", timeout=90)
        origin.rate = None
        passes(lambda: _assert_ready_peers(case, "node-added", before + 1), within=90)
        case.assert_published("node-added", body)
        assert [_SIZE] == [access.sent for access in origin.requests("/node-added")]
    finally:
        cluster.remove_node(added)

    def removed() -> None:
        assert not case.kubectl.exists(f"peers.pantala.dev/{added}"), "the Peer outlives its node"
        _assert_ready_peers(case, "node-added", before)

    passes(removed, within=90)
    case.ready("task/node-added", timeout=5)


def test_a_node_is_drained(case: Case, origin: Origin) -> None:
    """The other nodes get the file meanwhile, and the Task is Ready. Afterwards the drained node gets it."""
    holder = case.release.node_of("supernode")
    node = next(name for name in case.nodes if name != holder)
    body = _start(case, origin, "node-drained", seed=13)
    case.cached("node-drained", 0.2)

    case.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s")

    try:
        origin.rate = None
        case.release.wait_ready()
        case.ready("task/node-drained")
        others = [name for name in case.nodes if name != node]
        case.assert_published("node-drained", body, others)
    finally:
        case.kubectl("uncordon", node)

    passes(lambda: _assert_ready_peers(case, "node-drained", len(others) + 1))
    case.assert_published("node-drained", body)
    assert [_SIZE] == [access.sent for access in origin.requests("/node-drained")]


def test_the_task_is_deleted_half_way(case: Case, origin: Origin) -> None:
    """The Task is deleted at once. The origin is read no further, and no file is left."""
    _start(case, origin, "deleted", seed=14)
    task_id = case.cached("deleted", 0.3)["taskID"]
    origin.rate = _RATE / 4  # slow enough to notice a supernode that goes on reading

    case.kubectl.delete("task/deleted", case.namespace, timeout=10)

    case.assert_nothing_left(task_id, f"{case.namespace}/deleted")
    sent = origin.body_bytes("/deleted")
    time.sleep(2)
    assert sent == origin.body_bytes("/deleted")
    assert sent < _SIZE


def _assert_ready_peers(case: Case, name: str, count: int) -> None:
    peers = case.status(f"task/{name}")["peers"]
    assert {"desired": count, "ready": count} == {key: peers.get(key, 0) for key in ("desired", "ready")}


_CONTENT = "/var/lib/containerd/io.containerd.content.v1.content"
_ROOM = "/run/containerd/pantala-e2e"
_SUSPENDED_SECONDS = 4


def test_healthy_nodes_finish_and_causes_are_named(
    case: Case, cluster: Cluster, site: RegistryHost, images: Images
) -> None:
    """One runtime's disk is full, one node is down, and one image does not exist. After the repair it is Ready."""
    nodes = case.nodes
    busy = {case.release.node_of("supernode"), case.release.node_of("operator")}
    down = next(node for node in nodes if node not in busy)
    full, well = (node for node in nodes if node != down)
    image, missing = images.fresh(site, "faults", 8 * MIB), images.fresh(site, "comes-later", MIB)
    wrong = missing.name.removesuffix(":1") + ":2"
    spec = {"completionPolicy": "Continuous", "retry": {"backoffSeconds": 2}}

    def named() -> None:
        status = case.status("imageprefetch/faults")
        images = {(each["reason"], each.get("node", "")): each.get("image", "") for each in status.get("failures", [])}
        assert {("NodeSilent", down), ("NoSpace", full), ("NotFound", "")} <= images.keys(), status
        assert image.name in images["NoSpace", full], status
        assert wrong in images["NotFound", ""], status
        assert "NotFound" == case.condition("imageprefetch/faults", "Resolved")["reason"]
        assert wrong in json.dumps(status["conditions"])

    cluster.stop_node(down)
    try:
        with _full(cluster, full):
            case.apply(case.prefetch("faults", wrong, image, **spec))
            passes(named, within=120)
            passes(lambda: assert_on_nodes(cluster, [well], image), within=30)
            assert image.name not in runtime.images(cluster, full)
            assert "False" == case.condition("imageprefetch/faults", "Ready")["status"]
    finally:
        cluster.start_node(down)
    case.apply(case.prefetch("faults", missing, image, **spec))  # a corrected spec begins a new run

    passes(lambda: assert_on_nodes(cluster, nodes, image, missing), within=90)
    case.ready("imageprefetch/faults")
    assert f"{len(nodes)}/{len(nodes)}" == case.status("imageprefetch/faults")["summary"]


def test_too_many_failures_stop_the_rollout(case: Case, site: RegistryHost, images: Images) -> None:
    """The registry has lost a layer. One node tries and fails, and no other node begins."""
    image = images.fresh(site, "broken", 2 * MIB)
    site.lose(max(image.image.blobs, key=lambda digest: image.image.blobs[digest]))
    case.apply(case.prefetch("broken", image, rollout={"parallelism": 1, "maxFailures": 0}))

    def halted() -> None:
        stalled = case.condition("imageprefetch/broken", "Stalled")
        assert ("True", "TooManyFailures") == (stalled.get("status"), stalled.get("reason")), stalled

    passes(halted)
    time.sleep(2)
    counts = case.status("imageprefetch/broken")["nodes"]
    assert (1, len(case.nodes) - 1) == (counts["failed"], counts["waiting"]), counts


def test_suspended_pulls_stop_and_can_resume(case: Case, cluster: Cluster, site: RegistryHost, images: Images) -> None:
    """While it is suspended, no pull continues or begins. Afterwards all nodes get the image."""
    nodes = case.nodes
    image = images.fresh(site, "suspended", 24 * MIB)
    site.shape("16mbit")
    case.apply(case.prefetch("suspended", image, rollout={"parallelism": 2}))
    eventually_blocking(
        lambda: 2 == case.status("imageprefetch/suspended").get("nodes", {}).get("active", 0), within=30, every=0.1
    )
    _suspend(case, True)

    def quiet() -> None:
        assert "Suspended" == case.condition("imageprefetch/suspended", "Ready").get("reason")
        assert 0 == case.status("imageprefetch/suspended")["nodes"].get("active", 0)

    passes(quiet, within=10)
    site.shape("")
    time.sleep(_SUSPENDED_SECONDS)
    assert dict.fromkeys(nodes, False) == {node: image.name in runtime.images(cluster, node) for node in nodes}
    _suspend(case, False)

    case.ready("imageprefetch/suspended", timeout=60)
    assert_on_nodes(cluster, nodes, image)


def _suspend(case: Case, suspended: bool) -> None:
    patch = json.dumps({"spec": {"suspend": suspended}})
    command = ("patch", "imageprefetch/suspended", "--type=merge", f"--patch={patch}")
    case.kubectl(*command, f"--namespace={case.namespace}")


@contextmanager
def _full(cluster: Cluster, node: str) -> Iterator[None]:
    """Mount a disk over the runtime's folder that has room for two more MiB of content."""
    below = str(cluster.path(node, _CONTENT))
    used = int(cluster.enter(node, "du", "--summarize", "--block-size=1", _CONTENT).split()[0])
    size = f"size={used + 2 * MIB}"
    make = 'mkdir -p "$2" && mount -t tmpfs -o "$1" full "$2" && cp -a "$0/." "$2" && mount --bind "$2" "$0"'
    cluster.enter(node, "sh", "-ec", make, _CONTENT, size, _ROOM)
    try:
        yield
    finally:
        # The runtime knows the content that it wrote meanwhile, so it must exist on the disk below.
        cluster.enter(node, "cp", "-a", "--update", f"{_CONTENT}/.", below)
        cluster.enter(node, "umount", _CONTENT, _ROOM)
