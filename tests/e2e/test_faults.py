"""Faults during a Task: it still becomes Ready, and no verified byte is read from the origin twice."""

import time

from testbed.cluster import Cluster
from testbed.origin import Generated, Origin
from tests.e2e.case import MIB, Case, passes

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
