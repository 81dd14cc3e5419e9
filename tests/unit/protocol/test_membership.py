"""A task's owner: everybody computes the same one, and as few tasks as possible move."""

import hashlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pantala_protocol.statement import Member, Membership, owner_among

NAMES = st.sets(st.text("abc-0123", min_size=1, max_size=8), min_size=1, max_size=6)
TASKS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(600)]


def test_nobody_owns_anything_where_nobody_is() -> None:
    assert owner_among(TASKS[0], ()) is None
    assert Membership(1, (Member("a", "http://a", leaving=True),)).owner(TASKS[0]) is None


def test_the_shares_are_even() -> None:
    shares = Counter(owner_among(task, ["supernode-0", "supernode-1", "supernode-2"]) for task in TASKS)
    assert {"supernode-0", "supernode-1", "supernode-2"} == set(shares)
    assert 150 < min(shares.values())


@given(NAMES, st.sampled_from(TASKS), st.randoms(use_true_random=False))
def test_the_order_of_names_does_not_matter(names: set[str], task: str, random: object) -> None:
    shuffled = sorted(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert owner_among(task, sorted(names)) == owner_among(task, shuffled)


@given(NAMES, st.text("xyz", min_size=1), st.sampled_from(TASKS))
def test_one_more_takes_tasks_only_for_itself(names: set[str], new: str, task: str) -> None:
    assert owner_among(task, names | {new}) in (owner_among(task, names), new)


def test_who_leaves_owns_nothing_and_is_still_known() -> None:
    staying, leaving = Member("a", "http://a"), Member("b", "http://b", leaving=True)
    membership = Membership(1, (staying, leaving))
    assert {staying} == {membership.owner(task) for task in TASKS}
    assert leaving == membership.member("b")
