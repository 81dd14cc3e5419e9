"""The spine: a Task puts a file on every node, and the origin sends it once."""

from collections.abc import Iterator

import pytest

from testbed.cluster import Cluster
from testbed.origin import Generated, Origin
from tests.e2e.case import MIB, Case

_SIZE = 256 * MIB


@pytest.fixture
def shaped(cluster: Cluster) -> Iterator[None]:
    """Links of 200 Mbit/s."""
    for node in cluster.nodes:
        cluster.shape(node, "200mbit")
    yield
    for node in cluster.nodes:
        cluster.shape(node, "")


@pytest.mark.usefixtures("shaped")
def test_a_task_puts_the_file_on_every_node(case: Case, origin: Origin) -> None:
    """Each node has the right file. The origin sent it once, and the peers gave at least half of it."""
    body = Generated(_SIZE, seed=1)
    origin.serve("/spine", body)
    before = case.release.sent_bytes("supernode")
    case.apply(case.task("spine", origin.url("/spine")))

    case.ready("task/spine", timeout=180)

    case.assert_published("spine", body)
    reads = [access for access in origin.requests("/spine") if access.method == "GET"]
    assert [(200, _SIZE)] == [(access.status, access.sent) for access in reads]
    distributed = len(case.nodes) * _SIZE
    assert case.release.sent_bytes("supernode") - before <= distributed / 2, "by the supernode's network counter"
    counted = case.status("task/spine")["bytes"]
    assert _SIZE == counted["origin"]
    assert distributed == counted["fromSupernode"] + counted["fromPeers"]
    assert counted["fromPeers"] >= distributed / 2


def test_every_node_has_a_ready_peer(case: Case) -> None:
    for node in case.nodes:
        case.kubectl.wait(f"peers.pantala.dev/{node}", "Ready", timeout=60)
    peers = case.kubectl.list("peers.pantala.dev")
    assert sorted(case.nodes) == sorted(peer["metadata"]["name"] for peer in peers)
