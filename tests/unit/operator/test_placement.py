"""Where a task is stated, and whose report counts."""

import os
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan import statement
from pantala_operator.plan.paths import PublishedPaths
from pantala_operator.plan.secrets import Absent
from pantala_operator.plan.statement import PathClaim, TaskOrigin
from pantala_operator.plan.targets import Targets
from pantala_operator.resources.api import Metadata, Secret, TaskResource
from pantala_operator.resources.status import Obstacle
from pantala_operator.supernodes.placement import Placement, ReplicaReport, place
from pantala_protocol import task_id
from pantala_protocol.rules.names import SharedPath
from pantala_protocol.statement import CDNStatus, Failure, TaskReport

ALLOWED = {"pantala.dev/allow": "tasks"}

NODES = ("a", "b", "c")
FINAL = Failure("SourceNotFound", "gone", final=True)


def reported(
    status: CDNStatus = CDNStatus.SUCCESS,
    ready: str = "",
    connected: str = "abc",
    silent: bool = False,
    before_restart: bool = False,
    **more: Any,
) -> ReplicaReport:
    more.setdefault("attempt", "1/")
    more.setdefault("pieces_cached", 8 if status is CDNStatus.SUCCESS else 0)
    return ReplicaReport(
        TaskReport("u", "t", cdn_status=status, ready_peers=tuple(ready), **more),
        frozenset(ready),
        frozenset(connected),
        silent,
        before_restart,
    )


RUNNING, WAITING, FAILED = CDNStatus.RUNNING, CDNStatus.WAITING, CDNStatus.SOURCE_ERROR


def test_a_new_task_is_stated_to_its_owner() -> None:
    assert Placement(frozenset({"new"})) == place("new", {}, "1/")
    assert Placement(frozenset({"new"}), "new") == place("new", {"new": reported(RUNNING)}, "1/")


@pytest.mark.parametrize(
    ("own", "other", "counted"),
    [
        (None, reported(), "old"),
        (None, reported(WAITING), "old"),
        (reported(RUNNING, pieces_cached=2), reported(), "old"),
        (reported(RUNNING, pieces_cached=2), reported(RUNNING, pieces_cached=3), "old"),
        (reported(RUNNING), reported(RUNNING), "old"),
        (reported(ready="a"), reported(ready="ab"), "old"),
        (reported(ready="abc", attempt="0/"), reported(RUNNING), "old"),
        (reported(RUNNING, pieces_cached=2), reported(ready="a", silent=True), "new"),
        (reported(FAILED), reported(FAILED, pieces_cached=2), "old"),
    ],
)
def test_a_former_owner_keeps_the_task_meanwhile(own: ReplicaReport | None, other: ReplicaReport, counted: str) -> None:
    words = {"old": other} if own is None else {"old": other, "new": own}
    assert Placement(frozenset({"old", "new"}), counted, moving=True) == place("new", words, "1/")


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (reported(ready="ab"), reported(ready="ab")),
        (reported(ready="ab", connected="ab"), reported(ready="abc")),
        (reported(ready="abc"), reported(RUNNING, ready="a")),
        (reported(WAITING), reported(WAITING)),
        (reported(FAILED, failure=FINAL, pieces_cached=1), reported(FAILED, failure=FINAL, pieces_cached=2)),
    ],
    ids=["all", "all connected nodes", "more", "nothing cached", "nothing to fetch"],
)
def test_the_task_is_then_stated_to_the_owner_only(own: ReplicaReport, other: ReplicaReport) -> None:
    assert Placement(frozenset({"new"}), "new") == place("new", {"old": other, "new": own}, "1/")


def test_a_restarted_supernode_keeps_its_task_and_its_old_report_does_not_count() -> None:
    """It would drop its copy at a statement without the task."""
    before = reported(ready="ab", before_restart=True)
    assert Placement(frozenset({"old", "new"}), "", moving=True) == place("new", {"old": before}, "1/")
    assert Placement(frozenset({"old", "new"}), "old", moving=True) == place(
        "new", {"old": reported(), "new": before}, "1/"
    )


def test_while_no_supernode_stays_the_task_stays_where_it_is() -> None:
    words = {"one": reported(RUNNING), "two": reported()}
    assert Placement(frozenset({"one", "two"}), "two", moving=True) == place(None, words, "1/")


reports = st.builds(
    reported,
    st.sampled_from(CDNStatus),
    ready=st.text("abc", max_size=3),
    connected=st.text("abc", max_size=3),
    silent=st.booleans(),
    before_restart=st.booleans(),
    attempt=st.sampled_from(["1/", "2/"]),
    pieces_cached=st.integers(0, 8),
    failure=st.sampled_from([None, FINAL, Failure("SourceRefused", "no")]),
)


@given(st.sampled_from("xyz"), st.dictionaries(st.sampled_from("xyz"), reports), st.sampled_from(["1/", "2/"]))
def test_any_reports(owner: str, given_reports: dict[str, ReplicaReport], attempt: str) -> None:
    """The task is stated to its owner, and else only to supernodes that have it. One of their reports counts."""
    placement = place(owner, given_reports, attempt)
    assert owner in placement.stated
    assert placement.stated <= {owner, *given_reports}
    assert placement.moving == (placement.stated != {owner})
    speaking = {name for name in placement.stated & given_reports.keys() if not given_reports[name].before_restart}
    assert placement.counted in (speaking or {""})


@given(st.dictionaries(st.sampled_from("xyz"), reports, min_size=1))
def test_the_end_of_a_move_takes_no_node_from_the_task(given_reports: dict[str, ReplicaReport]) -> None:
    placement = place("x", given_reports, "1/")
    if placement.moving or given_reports.keys() == {"x"}:
        return
    own = given_reports["x"]
    for other in given_reports.values():
        assert set(other.report.ready_peers) & own.connected <= set(own.report.ready_peers)


ROOT = "/var/lib/pantala/files"
PRIVATE: dict[str, Any] = {"headersFrom": {"secretRef": {"name": "s"}}}
URL = "https://origin.example/f?sig=1&v=2"


def task(namespace: str = "ns", status: dict[str, Any] | None = None, **spec: Any) -> TaskResource:
    metadata = {"name": "t", "namespace": namespace, "uid": "u", "generation": 3}
    body = {"metadata": metadata, "spec": {"source": {"url": URL}, **spec}, "status": status or {}}
    return msgspec.convert(body, TaskResource)


def named(each: TaskResource, credentials: str = "s1") -> str:
    secret = Secret(Metadata("s", uid=credentials, labels=ALLOWED), {"Authorization": "eA=="})
    origin = statement.origin(each, secret)
    assert isinstance(origin, TaskOrigin)
    return origin.task_id


def test_public_tasks_are_shared_by_the_cluster_and_others_within_their_namespace_and_secret() -> None:
    assert task_id.compute(URL) == named(task("one")) == named(task("two"))
    one, two = (task(namespace, **PRIVATE) for namespace in ("one", "two"))
    assert 4 == len({named(task("one")), named(one), named(two), named(one, "s2")})
    assert named(one) == named(task("one", path="p", **PRIVATE))


def test_filtered_parameters_do_not_name_the_task_but_are_sent() -> None:
    each = task(filterQueryParams=["sig"])
    assert task_id.compute("https://origin.example/f?v=2", scope="ns") == named(each)
    wanted = statement.wanted(each, TaskOrigin(named(each), {}), "ns/t", Targets(("a",)), suspended=False)
    assert wanted is not None
    assert URL == wanted.url


PATHS = PublishedPaths(ROOT, (SharedPath("ns", "models"), SharedPath("ns", "data/one.bin"), SharedPath("b", "of-b")))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, "ns/t"),
        ({"path": "ns/a.bin"}, "ns/a.bin"),
        ({"path": f"{ROOT}/ns/models/a.bin"}, "ns/models/a.bin"),
        ({"path": "models/a.bin"}, "models/a.bin"),
        ({"path": f"{ROOT}/models/x/a.bin"}, "models/x/a.bin"),
        ({"path": "data/one.bin"}, "data/one.bin"),
        ({"depth": "Supernode"}, ""),
        ({"path": "/etc/passwd"}, "PathOutsideRoot"),
        ({"path": ROOT}, "PathOutsideRoot"),
        ({"path": f"{ROOT}/"}, "PathOutsideRoot"),
        ({"path": f"{ROOT}//etc"}, "PathOutsideRoot"),
        ({"path": f"{ROOT}-other/x"}, "PathOutsideRoot"),
        ({"path": "../x"}, "PathOutsideRoot"),
        ({"path": "ns/../b/x"}, "PathOutsideRoot"),
        ({"path": f"{ROOT}/../../x"}, "PathOutsideRoot"),
        ({"path": "a//b"}, "PathOutsideRoot"),
        ({"path": "a/./b"}, "PathOutsideRoot"),
        ({"path": "ns/"}, "PathOutsideRoot"),
    ],
)
def test_paths_stay_below_the_root(spec: dict[str, Any], expected: str) -> None:
    path = PATHS.of(task(**spec))
    if isinstance(path, Obstacle):
        assert (expected, True) == (path.reason, path.final)
    else:
        assert expected == path


@pytest.mark.parametrize(
    "path",
    ["b/x", "b/t", f"{ROOT}/b/x", "NS/x", "ns2/x", "ns", "x", "modelsx/a", "Models/a", "data", "data/x", "of-b/x"],
)
def test_h6_a_path_of_another_namespace_is_refused(path: str) -> None:
    """The attack: namespace b takes the default path of namespace a."""
    found = PATHS.of(task(path=path))
    assert isinstance(found, Obstacle)
    assert ("PathOutsideNamespace", False) == (found.reason, found.final)
    assert "paths.shared" in found.message


NAMES = st.sampled_from(["ns", "b", "models", "..", ".", "", "x", "NS"])


@given(st.lists(NAMES, min_size=1, max_size=4).map("/".join), st.booleans())
def test_h6_each_path_begins_with_its_namespace_or_a_shared_folder(path: str, absolute: bool) -> None:
    found = PATHS.of(task(path=f"{ROOT}/{path}" if absolute else path))
    if isinstance(found, str) and path:
        assert found.split("/")[0] in {"ns", "models"}
        assert found == os.path.normpath(found)


def test_a_task_without_its_secret_keeps_its_copies_and_gets_nothing_more() -> None:
    """Else the loss of a Secret would take files off nodes."""
    each = task(**PRIVATE, status={"taskID": "f" * 64})
    obstacle = statement.origin(each, Absent())
    wanted = statement.wanted(each, obstacle, "ns/t", Targets(("a",)), suspended=False)
    assert wanted is not None
    assert ("f" * 64, {}, True, ("a",)) == (wanted.task_id, wanted.headers, wanted.suspended, wanted.peers)
    fresh = task(**PRIVATE)
    assert statement.wanted(fresh, obstacle, "ns/t", Targets(("a",)), suspended=False) is None


def claim(uid: str, minute: int, *nodes: str, path: str = "p", content: str = "") -> PathClaim:
    return PathClaim(
        uid, f"ns/{uid}", path, content or uid, frozenset(nodes), datetime(2026, 1, 1, 0, minute, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("rival", "wins"),
    [
        (claim("r", 0, "a"), True),
        (claim("r", 2, "a"), False),
        (claim("r", 0, "b"), False),
        (claim("r", 0, "a", path="q"), False),
        (claim("r", 0, "a", content="mine"), False),
        (claim("a", 1, "a"), True),
        (claim("z", 1, "a"), False),
    ],
    ids=["older", "younger", "other node", "other path", "same content", "same age, first name", "same age, last name"],
)
def test_the_older_task_has_the_path(rival: PathClaim, wins: bool) -> None:
    mine = claim("m", 1, "a", content="mine")
    assert (rival if wins else None) == statement.winner(mine, {"m": mine, rival.uid: rival})
