"""Several Tasks with one file, and Tasks that are deleted while the operator is down."""

from testbed.origin import Generated, Origin
from tests.e2e.case import MIB, Case
from tests.e2e.environment import NAMESPACE

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
