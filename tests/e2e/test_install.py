"""A Task puts a file on every node, and Tasks with one file share its copy."""

from collections.abc import Iterator

import pytest

from testbed.cluster import Cluster
from testbed.origin import Generated, Origin
from tests.e2e.case import MIB, Case
from tests.e2e.environment import NAMESPACE

_SPINE_SIZE = 256 * MIB


@pytest.fixture
def shaped(cluster: Cluster) -> Iterator[None]:
    for node in cluster.nodes:
        cluster.shape(node, "200mbit")
    yield
    for node in cluster.nodes:
        cluster.shape(node, "")


@pytest.mark.usefixtures("shaped")
def test_a_task_puts_the_file_on_every_node(case: Case, origin: Origin) -> None:
    """Each node has the right file. The origin sent it once, and the peers gave at least half of it."""
    body = Generated(_SPINE_SIZE, seed=1)
    origin.serve("/spine", body)
    before = case.release.sent_bytes("supernode")
    case.apply(case.task("spine", origin.url("/spine")))

    case.ready("task/spine", timeout=180)

    case.assert_published("spine", body)
    reads = [access for access in origin.requests("/spine") if access.method == "GET"]
    assert [(200, _SPINE_SIZE)] == [(access.status, access.sent) for access in reads]
    distributed = len(case.nodes) * _SPINE_SIZE
    assert case.release.sent_bytes("supernode") - before <= distributed / 2, "by the supernode's network counter"
    counted = case.status("task/spine")["bytes"]
    assert _SPINE_SIZE == counted["origin"]
    assert distributed == counted["fromSupernode"] + counted["fromPeers"]
    assert counted["fromPeers"] >= distributed / 2


def test_every_node_has_a_ready_peer(case: Case) -> None:
    for node in case.nodes:
        case.kubectl.wait(f"peers.pantala.dev/{node}", "Ready", timeout=60)
    peers = case.kubectl.list("peers.pantala.dev")
    assert sorted(case.nodes) == sorted(peer["metadata"]["name"] for peer in peers)


_SIZE = 32 * MIB
_OPERATOR = "deployment/pantala-operator"


def test_two_tasks_with_one_url_share_one_copy(case: Case, origin: Origin) -> None:
    """The origin is read once. Without the first Task the second keeps its file. Without both no file is left."""
    body = Generated(_SIZE, seed=20)
    origin.serve("/shared", body)
    url = origin.url("/shared")
    case.apply(case.task("first", url), case.task("second", url, path="shared/second"))

    case.ready("task/first", "task/second")
    case.assert_published("first", body)
    case.assert_published("shared/second", body)
    assert [_SIZE] == [access.sent for access in origin.requests("/shared")]
    [task_id] = {case.status(f"task/{name}")["taskID"] for name in ("first", "second")}
    assert 1 == _copies(case, task_id)

    case.kubectl.delete("task/first", case.namespace, timeout=10)

    case.assert_nothing_left("no such task", f"{case.namespace}/first")
    case.assert_published("shared/second", body)
    assert 1 == _copies(case, task_id)

    case.kubectl.delete("task/second", case.namespace, timeout=10)

    case.assert_nothing_left(task_id, "shared/second")


def test_a_namespace_is_deleted_while_the_operator_is_down(case: Case, origin: Origin) -> None:
    """The namespace is deleted at once. Its files are removed when the operator runs again."""
    body = Generated(_SIZE, seed=21)
    origin.serve("/orphan", body)
    case.apply(case.task("orphan", origin.url("/orphan")))
    case.ready("task/orphan")
    task_id = case.status("task/orphan")["taskID"]
    case.kubectl.scale(_OPERATOR, 0, NAMESPACE)
    case.kubectl.wait_deleted("operator", NAMESPACE)

    try:
        case.kubectl.delete(f"namespace/{case.namespace}", timeout=30)
        case.assert_published("orphan", body)
    finally:
        case.kubectl.scale(_OPERATOR, 1, NAMESPACE)

    case.release.wait_ready()
    case.assert_nothing_left(task_id, f"{case.namespace}/orphan")


def _copies(case: Case, task_id: str) -> int:
    return sum(task_id in file and file.endswith("/data") for file in case.environment.volume_files())
