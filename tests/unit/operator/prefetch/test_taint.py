"""When a startup taint goes."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.prefetch.taint import Vote, removable, vote
from pantala_operator.resources.api import Taint
from pantala_operator.resources.prefetch import StartupTaint
from tests.unit.operator.prefetch.world import NOW, cluster, node

KEY = "example.com/images-missing"
STARTUP = StartupTaint(KEY, 600)
TAINT = Taint(KEY, "NoSchedule")
UNTIL = NOW + timedelta(seconds=600)
NODES = cluster(node("new", TAINT), node("old"), node("late", TAINT, created=NOW - timedelta(hours=1))).nodes


def test_it_stays_until_the_node_is_ready() -> None:
    found = vote(STARTUP, ["new", "old"], NODES, frozenset(), NOW)
    assert (Vote(KEY, keep=frozenset({"new"})), UNTIL) == found
    found = vote(STARTUP, ["new", "old"], NODES, frozenset({"new", "old"}), NOW)
    assert (Vote(KEY, release=frozenset({"new"})), None) == found


def test_it_goes_at_its_deadline() -> None:
    assert Vote(KEY, release=frozenset({"new"})) == vote(STARTUP, ["new"], NODES, frozenset(), UNTIL)[0]
    assert Vote(KEY, release=frozenset({"late"})) == vote(STARTUP, ["late"], NODES, frozenset(), NOW)[0]


def test_nodes_that_are_no_target_or_gone_are_nobodys_matter() -> None:
    assert (Vote(KEY), None) == vote(STARTUP, ["gone"], NODES, frozenset({"new"}), NOW)


def test_all_that_target_a_node_must_release_it() -> None:
    one = Vote(KEY, release=frozenset({"a", "b"}))
    other = Vote(KEY, keep=frozenset({"a"}), release=frozenset({"c"}))
    elsewhere = Vote("else", keep=frozenset({"b"}))
    assert {KEY: frozenset({"b", "c"})} == removable([one, other, elsewhere])


NAMES = st.frozensets(st.sampled_from("abcd"))
VOTES = st.lists(
    st.builds(lambda key, keep, release: Vote(key, keep, release - keep), st.sampled_from("xy"), NAMES, NAMES)
)


@given(VOTES)
def test_none_goes_that_anybody_keeps_or_that_nobody_releases(votes: list[Vote]) -> None:
    for key, names in removable(votes).items():
        assert names
        for name in names:
            assert not [each for each in votes if each.key == key and name in each.keep]
            assert [each for each in votes if each.key == key and name in each.release]
