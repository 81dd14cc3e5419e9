"""Where a task is stated, and whose report counts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.supernodes.placement import Placement, ReplicaReport, place
from pantala_protocol.statement import CDNStatus, Failure, TaskReport

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
def test_the_former_owner_keeps_the_task_until_the_owner_has_caught_up(
    own: ReplicaReport | None, other: ReplicaReport, counted: str
) -> None:
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
