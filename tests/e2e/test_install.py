"""A Task puts a file on every node, Tasks with one file share its copy, and bad input names its cause."""

from collections.abc import Callable, Iterator

import pytest

from pantala_protocol.reasons import Reason
from testbed.cluster import Cluster, layout
from testbed.origin import Behaviour, Generated, Origin
from tests.e2e.case import MIB, Case, passes
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


_SIZE = 32 * MIB
_OPERATOR = "deployment/pantala-operator"


def test_two_tasks_with_one_url_share_one_copy(case: Case, origin: Origin) -> None:
    """The origin is read once. Without the first Task the second keeps its file. Without both no file is left."""
    body = Generated(_SIZE, seed=20)
    origin.serve("/shared", body)
    url = origin.url("/shared")
    case.apply(case.task("first", url), case.task("second", url, path=f"{case.namespace}/shared/second"))

    case.ready("task/first", "task/second")
    case.assert_published("first", body)
    case.assert_published(f"{case.namespace}/shared/second", body)
    assert [_SIZE] == [access.sent for access in origin.requests("/shared")]
    [task_id] = {case.status(f"task/{name}")["taskID"] for name in ("first", "second")}
    assert 1 == _copies(case, task_id)

    case.kubectl.delete("task/first", case.namespace, timeout=10)

    case.assert_nothing_left("no such task", f"{case.namespace}/first")
    case.assert_published(f"{case.namespace}/shared/second", body)
    assert 1 == _copies(case, task_id)

    case.kubectl.delete("task/second", case.namespace, timeout=10)

    case.assert_nothing_left(task_id, f"{case.namespace}/shared/second")


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
        case.kubectl.scale(_OPERATOR, 2, NAMESPACE)

    case.release.wait_ready()
    case.assert_nothing_left(task_id, f"{case.namespace}/orphan")


def _copies(case: Case, task_id: str) -> int:
    return sum(task_id in file and file.endswith("/data") for file in case.environment.volume_files())


_DIGEST = f"sha256:{'0' * 64}"
_CASES: dict[str, tuple[Callable[[Origin, str], dict[str, object]], set[Reason]]] = {
    "not-found": (lambda origin, name: _served(origin, name, status=404), {Reason.SOURCE_NOT_FOUND}),
    "unauthorized": (lambda origin, name: _served(origin, name, status=401), {Reason.SOURCE_UNAUTHORIZED}),
    "refused": (lambda origin, name: {"url": f"http://{layout.at(origin.host, 1)}/{name}"}, {Reason.SOURCE_REFUSED}),
    "host-unknown": (lambda _, name: {"url": f"http://no-such-host.invalid/{name}"}, {Reason.SOURCE_HOST_UNKNOWN}),
    "wrong-digest": (lambda origin, name: _served(origin, name) | {"digest": _DIGEST}, {Reason.DIGEST_MISMATCH}),
    "reset": (lambda origin, name: _served(origin, name, reset_after=MIB, ranges=False),
              {Reason.SOURCE_INTERRUPTED, Reason.LENGTH_MISMATCH}),
    "short": (lambda origin, name: _served(origin, name, announced=1000, ranges=False),
              {Reason.LENGTH_MISMATCH, Reason.SOURCE_INTERRUPTED}),
    "no-secret": (lambda origin, name: _served(origin, name) | {"headersFrom": {"secretRef": {"name": "missing"}}},
        {Reason.SECRET_FORBIDDEN}),
    "internal": (lambda _, name: {"url": f"http://pantala-supernode.{NAMESPACE}.svc:8002/{name}"},
                 {Reason.SOURCE_DENIED}),
    "api-server": (lambda _, name: {"url": f"https://kubernetes.default.svc/{name}"}, {Reason.SOURCE_DENIED}),
    "no-node": (lambda origin, name: _served(origin, name) | {"target": {"nodeSelector": {"no-such": "label"}}},
                {Reason.NO_NODE_MATCHES}),
    "outside": (lambda origin, name: _served(origin, name) | {"path": "/etc/cron.d/pantala"},
                {Reason.PATH_OUTSIDE_ROOT}),
}  # fmt: skip


def test_each_bad_task_names_the_cause_and_the_remedy(case: Case, origin: Origin) -> None:
    """All Tasks run at once, so that none waits for another."""
    for name, (spec, _) in _CASES.items():
        given = spec(origin, name)
        case.apply(case.task(name, str(given.pop("url")), **given))

    for name, (_, reasons) in _CASES.items():
        passes(lambda name=name, reasons=reasons: _assert_explained(case, name, reasons))  # type: ignore[misc]
    for node in case.nodes:
        files = case.environment.node_files(node)
        assert [] == [file for file in files if file.startswith(f"files/{case.namespace}/")]


def _served(origin: Origin, name: str, **behaviour: object) -> dict[str, object]:
    origin.serve(f"/bad/{name}", Generated(2 * MIB, seed=31), always=Behaviour(**behaviour))  # type: ignore[arg-type]
    return {"url": origin.url(f"/bad/{name}")}


def _assert_explained(case: Case, name: str, reasons: set[Reason]) -> None:
    ready = case.condition(f"task/{name}", "Ready")
    assert (name, "False") == (name, ready.get("status")), ready
    causes = [case.condition(f"task/{name}", kind) for kind in ("Stalled", "Reconciling")]
    active = [each for each in causes if each.get("status") == "True"]
    assert active, f"{name} is neither Stalled nor Reconciling: {causes}"
    found = {each["reason"]: each["message"] for each in (ready, *active)}
    right = [reason for reason in reasons if reason in found]
    assert right, f"{name} has {found}, not one of {sorted(reasons)}"
    remedies = [*(reason.action for reason in right), "kubectl create rolebinding pantala-secrets"]
    assert any(remedy in message for remedy in remedies for message in found.values()), f"{name}: {found}"
