"""Where a task is stated, and whose word on it counts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.supernodes.placement import Placement, ReplicaReport, place
from pantala_protocol.statement import CDNStatus, Failure, TaskReport

NODES = ("a", "b", "c")
FINAL = Failure("SourceNotFound", "gone", final=True)


def word(
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


def test_a_new_task_is_its_owners() -> None:
    assert Placement(frozenset({"new"})) == place("new", {}, "1/")
    assert Placement(frozenset({"new"}), "new") == place("new", {"new": word(RUNNING)}, "1/")


@pytest.mark.parametrize(
    ("own", "other", "counted"),
    [
        (None, word(), "old"),
        (None, word(WAITING), "old"),
        (word(RUNNING, pieces_cached=2), word(), "old"),
        (word(RUNNING, pieces_cached=2), word(RUNNING, pieces_cached=3), "old"),
        (word(RUNNING), word(RUNNING), "old"),
        (word(ready="a"), word(ready="ab"), "old"),
        (word(ready="abc", attempt="0/"), word(RUNNING), "old"),
        (word(RUNNING, pieces_cached=2), word(ready="a", silent=True), "new"),
        (word(FAILED), word(FAILED, pieces_cached=2), "old"),
    ],
)
def test_who_has_it_keeps_it_until_the_owner_has_caught_up(
    own: ReplicaReport | None, other: ReplicaReport, counted: str
) -> None:
    words = {"old": other} if own is None else {"old": other, "new": own}
    assert Placement(frozenset({"old", "new"}), counted, moving=True) == place("new", words, "1/")


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (word(ready="ab"), word(ready="ab")),
        (word(ready="ab", connected="ab"), word(ready="abc")),
        (word(ready="abc"), word(RUNNING, ready="a")),
        (word(WAITING), word(WAITING)),
        (word(FAILED, failure=FINAL, pieces_cached=1), word(FAILED, failure=FINAL, pieces_cached=2)),
    ],
    ids=["all", "all but who is not with it", "more", "nothing there", "nothing to come"],
)
def test_then_it_is_the_owners_alone(own: ReplicaReport, other: ReplicaReport) -> None:
    assert Placement(frozenset({"new"}), "new") == place("new", {"old": other, "new": own}, "1/")


def test_who_started_before_restart_has_what_it_had_and_says_nothing() -> None:
    """A statement without the task would have it drop its copy."""
    before = word(ready="ab", before_restart=True)
    assert Placement(frozenset({"old", "new"}), "", moving=True) == place("new", {"old": before}, "1/")
    assert Placement(frozenset({"old", "new"}), "old", moving=True) == place(
        "new", {"old": word(), "new": before}, "1/"
    )


def test_while_no_supernode_stays_all_is_kept_where_it_is() -> None:
    words = {"one": word(RUNNING), "two": word()}
    assert Placement(frozenset({"one", "two"}), "two", moving=True) == place(None, words, "1/")


words = st.builds(
    word,
    st.sampled_from(CDNStatus),
    ready=st.text("abc", max_size=3),
    connected=st.text("abc", max_size=3),
    silent=st.booleans(),
    before_restart=st.booleans(),
    attempt=st.sampled_from(["1/", "2/"]),
    pieces_cached=st.integers(0, 8),
    failure=st.sampled_from([None, FINAL, Failure("SourceRefused", "no")]),
)


@given(st.sampled_from("xyz"), st.dictionaries(st.sampled_from("xyz"), words), st.sampled_from(["1/", "2/"]))
def test_whatever_is_said(owner: str, said: dict[str, ReplicaReport], attempt: str) -> None:
    """It is stated to its owner, else only to those who have it, and the report that counts is of one of them."""
    placement = place(owner, said, attempt)
    assert owner in placement.stated
    assert placement.stated <= {owner, *said}
    assert placement.moving == (placement.stated != {owner})
    speaking = {name for name in placement.stated & said.keys() if not said[name].before_restart}
    assert placement.counted in (speaking or {""})


@given(st.dictionaries(st.sampled_from("xyz"), words, min_size=1))
def test_the_owners_becoming_alone_takes_no_node_from_the_task(said: dict[str, ReplicaReport]) -> None:
    placement = place("x", said, "1/")
    if placement.moving or said.keys() == {"x"}:
        return
    own = said["x"]
    for other in said.values():
        assert set(other.report.ready_peers) & own.connected <= set(own.report.ready_peers)
