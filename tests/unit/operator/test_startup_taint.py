"""When a startup taint is removed."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.startup_taint import TaintVote, removable, vote
from pantala_operator.resources.api import Taint
from pantala_operator.resources.prefetch import StartupTaint
from tests.support.prefetch import NOW, cluster, node

KEY = "example.com/images-missing"
STARTUP = StartupTaint(KEY, 600)
TAINT = Taint(KEY, "NoSchedule")
UNTIL = NOW + timedelta(seconds=600)
NODES = cluster(node("new", TAINT), node("old"), node("late", TAINT, created=NOW - timedelta(hours=1))).nodes


def test_the_taint_stays_until_the_node_is_ready() -> None:
    found = vote(STARTUP, ["new", "old"], NODES, frozenset(), NOW)
    assert (TaintVote(KEY, keep=frozenset({"new"})), UNTIL) == found
    found = vote(STARTUP, ["new", "old"], NODES, frozenset({"new", "old"}), NOW)
    assert (TaintVote(KEY, release=frozenset({"new"})), None) == found


def test_the_taint_is_removed_at_its_deadline() -> None:
    assert TaintVote(KEY, release=frozenset({"new"})) == vote(STARTUP, ["new"], NODES, frozenset(), UNTIL)[0]
    assert TaintVote(KEY, release=frozenset({"late"})) == vote(STARTUP, ["late"], NODES, frozenset(), NOW)[0]


def test_there_is_no_vote_on_other_nodes_or_deleted_ones() -> None:
    assert (TaintVote(KEY), None) == vote(STARTUP, ["gone"], NODES, frozenset({"new"}), NOW)


def test_one_vote_keeps_the_taint() -> None:
    one = TaintVote(KEY, release=frozenset({"a", "b"}))
    other = TaintVote(KEY, keep=frozenset({"a"}), release=frozenset({"c"}))
    elsewhere = TaintVote("else", keep=frozenset({"b"}))
    assert {KEY: frozenset({"b", "c"})} == removable([one, other, elsewhere])


NAMES = st.frozensets(st.sampled_from("abcd"))
VOTES = st.lists(
    st.builds(lambda key, keep, release: TaintVote(key, keep, release - keep), st.sampled_from("xy"), NAMES, NAMES)
)


@given(VOTES)
def test_a_removable_taint_is_released_and_not_kept(votes: list[TaintVote]) -> None:
    for key, names in removable(votes).items():
        assert names
        for name in names:
            assert not [each for each in votes if each.key == key and name in each.keep]
            assert [each for each in votes if each.key == key and name in each.release]
