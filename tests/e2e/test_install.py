"""The spine: a Task puts a file on every node, once from its origin."""

from collections.abc import Iterator

import pytest

from testbed.cluster import Cluster
from testbed.origin import Generated, Origin
from tests.e2e.environment import Environment
from tests.e2e.kubectl import Kubectl
from tests.e2e.release import Release
from tests.e2e.tasks import MIB, assert_published, manifest, status

_SIZE = 256 * MIB


@pytest.fixture
def shaped(environment: Environment, cluster: Cluster) -> Iterator[None]:
    """Links of 200 Mbit/s."""
    for node in environment.nodes():
        cluster.shape(node, "200mbit")
    yield
    for node in environment.nodes():
        cluster.shape(node, "")


def test_a_task_puts_the_file_on_every_node(
    environment: Environment, release: Release, kubectl: Kubectl, origin: Origin, namespace: str, shaped: None
) -> None:
    """Right on each node, read once from the origin, and at least half of it taken from peers."""
    body = Generated(_SIZE, seed=1)
    origin.serve("/spine", body)
    before = release.sent_bytes("supernode")
    kubectl.apply(manifest("spine", namespace, origin.url("/spine")))

    kubectl.wait("task/spine", "Ready", namespace, timeout=180)

    nodes = environment.nodes()
    assert_published(environment, nodes, f"{namespace}/spine", body)
    reads = [access for access in origin.requests("/spine") if access.method == "GET"]
    assert [(200, _SIZE)] == [(access.status, access.sent) for access in reads]
    distributed = len(nodes) * _SIZE
    assert release.sent_bytes("supernode") - before <= distributed / 2, "of the supernode's own network counter"
    counted = status(kubectl, "spine", namespace)["bytes"]
    assert _SIZE == counted["origin"]
    assert distributed == counted["fromSupernode"] + counted["fromPeers"]
    assert counted["fromPeers"] >= distributed / 2


def test_every_node_has_a_peer_that_says_so(environment: Environment, release: Release, kubectl: Kubectl) -> None:
    """One Peer for each node, named as the node, and Ready."""
    nodes = environment.nodes()
    for node in nodes:
        kubectl.wait(f"peers.pantala.dev/{node}", "Ready", timeout=60)
    assert sorted(nodes) == sorted(peer["metadata"]["name"] for peer in kubectl.list("peers.pantala.dev"))
