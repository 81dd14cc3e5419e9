"""Faults in the middle of a Task: it becomes Ready all the same, and nothing verified is read from the origin twice."""

import time

from testbed.cluster import Cluster
from testbed.origin import Generated, Origin
from tests.e2e.environment import Environment
from tests.e2e.kubectl import Kubectl, eventually
from tests.e2e.release import Release
from tests.e2e.tasks import MIB, assert_nothing_left, assert_published, manifest, status, wait_cached

_SIZE = 64 * MIB
_RATE = 6 * MIB
"""Bytes a second: half of the file takes 5 s, time enough for a fault to come in the middle."""

_IN_FLIGHT = 16 * MIB
"""What a cut may cost at most: bytes that were on the way and in no verified piece."""


def _start(kubectl: Kubectl, origin: Origin, name: str, namespace: str, seed: int) -> Generated:
    body = Generated(_SIZE, seed=seed)
    origin.rate = _RATE
    origin.serve(f"/{name}", body)
    kubectl.apply(manifest(name, namespace, origin.url(f"/{name}")))
    return body


def test_the_api_server_is_away_for_a_minute(
    environment: Environment, release: Release, kubectl: Kubectl, origin: Origin, namespace: str, cluster: Cluster
) -> None:
    """The swarm does not notice: the file is on every node before the API server is back; then the status says so."""
    body = _start(kubectl, origin, "outage", namespace, seed=15)
    wait_cached(kubectl, "outage", namespace, 0.3)
    nodes = environment.nodes()

    cluster.stop_apiserver()
    back_at = time.monotonic() + 60
    try:
        origin.rate = None
        eventually(lambda: assert_published(environment, nodes, f"{namespace}/outage", body), 50)
        time.sleep(max(0.0, back_at - time.monotonic()))
    finally:
        cluster.start_apiserver()

    kubectl.wait("task/outage", "Ready", namespace, timeout=60)
    assert [_SIZE] == [access.sent for access in origin.requests("/outage")]


def test_the_supernode_is_killed_half_way(
    environment: Environment, release: Release, kubectl: Kubectl, origin: Origin, namespace: str
) -> None:
    """The new one goes on where the old one was: what it had verified is not read from the origin again."""
    body = _start(kubectl, origin, "supernode-killed", namespace, seed=10)
    before = wait_cached(kubectl, "supernode-killed", namespace, 0.5)

    release.kill("supernode")

    release.wait_ready()
    origin.rate = None
    kubectl.wait("task/supernode-killed", "Ready", namespace)
    assert_published(environment, environment.nodes(), f"{namespace}/supernode-killed", body)
    verified = before["pieces"]["cached"] * before["pieceSize"]
    reads = origin.requests("/supernode-killed")
    assert len(reads) >= 2, "the kill cut nothing: the case proves nothing"
    assert all(access.range for access in reads[1:]), "the new supernode asked for the whole file"
    assert min(int(access.range.removeprefix("bytes=").split("-")[0]) for access in reads[1:]) >= verified
    assert origin.body_bytes("/supernode-killed") <= _SIZE + _IN_FLIGHT


def test_the_operator_is_killed_half_way(
    environment: Environment, release: Release, kubectl: Kubectl, origin: Origin, namespace: str
) -> None:
    """The download goes on without it, and the new one says how it ended."""
    body = _start(kubectl, origin, "operator-killed", namespace, seed=11)
    wait_cached(kubectl, "operator-killed", namespace, 0.3)

    release.kill("operator")

    origin.rate = None
    release.wait_ready()
    kubectl.wait("task/operator-killed", "Ready", namespace)
    assert_published(environment, environment.nodes(), f"{namespace}/operator-killed", body)
    assert [_SIZE] == [access.sent for access in origin.requests("/operator-killed")]


def test_a_node_is_added_while_the_task_runs(
    environment: Environment, release: Release, kubectl: Kubectl, origin: Origin, namespace: str, cluster: Cluster
) -> None:
    """The new node gets the file as well; when it is gone again, so is its Peer, and the Task stays Ready."""
    body = _start(kubectl, origin, "node-added", namespace, seed=12)
    wait_cached(kubectl, "node-added", namespace, 0.2)
    before = len(environment.nodes())

    added = cluster.add_node()

    try:
        kubectl.wait(f"peers.pantala.dev/{added}", "Ready", timeout=90)
        origin.rate = None

        def complete() -> None:
            assert {"desired": before + 1, "ready": before + 1} == _peers(kubectl, "node-added", namespace)

        eventually(complete, 90)
        assert_published(environment, environment.nodes(), f"{namespace}/node-added", body)
        assert [_SIZE] == [access.sent for access in origin.requests("/node-added")]
    finally:
        cluster.remove_node(added)

    def forgotten() -> None:
        assert not kubectl.exists("peers.pantala.dev", added), "the Peer outlives its node"
        assert {"desired": before, "ready": before} == _peers(kubectl, "node-added", namespace)

    eventually(forgotten, 90)
    kubectl.wait("task/node-added", "Ready", namespace, timeout=5)


def test_a_node_is_drained(
    environment: Environment, release: Release, kubectl: Kubectl, origin: Origin, namespace: str, cluster: Cluster
) -> None:
    """While it is drained the others are served, and the Task is Ready; afterwards it gets the file as well."""
    holder = release.node_of("supernode")
    node = next(name for name in environment.nodes() if name != holder)
    body = _start(kubectl, origin, "node-drained", namespace, seed=13)
    wait_cached(kubectl, "node-drained", namespace, 0.2)

    kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s")

    try:
        origin.rate = None
        release.wait_ready()
        kubectl.wait("task/node-drained", "Ready", namespace)
        others = [name for name in environment.nodes() if name != node]
        assert_published(environment, others, f"{namespace}/node-drained", body)
    finally:
        kubectl("uncordon", node)

    def complete() -> None:
        assert {"desired": len(others) + 1, "ready": len(others) + 1} == _peers(kubectl, "node-drained", namespace)

    eventually(complete, 60)
    assert_published(environment, environment.nodes(), f"{namespace}/node-drained", body)
    assert [_SIZE] == [access.sent for access in origin.requests("/node-drained")]


def test_the_task_is_deleted_half_way(
    environment: Environment, release: Release, kubectl: Kubectl, origin: Origin, namespace: str
) -> None:
    """It is gone at once, the origin is read no further, and nothing is left on the volume or on any node."""
    _start(kubectl, origin, "deleted", namespace, seed=14)
    task_id = wait_cached(kubectl, "deleted", namespace, 0.3)["taskID"]
    origin.rate = _RATE / 4  # it is read on for some seconds, in case the Task is made anew

    kubectl.delete("task/deleted", namespace, timeout=10)

    assert_nothing_left(environment, task_id, f"{namespace}/deleted", timeout=60)
    sent = origin.body_bytes("/deleted")
    time.sleep(2)
    assert sent == origin.body_bytes("/deleted")
    assert sent < _SIZE


def _peers(kubectl: Kubectl, name: str, namespace: str) -> dict[str, int]:
    peers = status(kubectl, name, namespace)["peers"]
    return {key: peers.get(key, 0) for key in ("desired", "ready")}
