"""Which supernodes there are, as one of them sees it."""

import pytest

from pantala_protocol.statement import Member, Membership, Statement
from pantala_supernode.replicas.membership import ReplicaSet
from tests.unit.supernode.conftest import ID, Bench, Wish


def membership(revision: int, *names: str, leaving: tuple[str, ...] = ()) -> Membership:
    return Membership(revision, tuple(Member(name, f"http://{name}:8002", leaving=name in leaving) for name in names))


def told(said: Membership | None, name: str = "s-1") -> ReplicaSet:
    members = ReplicaSet()
    members.take(Statement(1, membership=said, member=name))
    return members


def test_the_newest_word_holds_and_no_word_means_alone() -> None:
    members = told(membership(5, "s-0", "s-1"))
    assert not members.take(Statement(2, membership=membership(4, "s-0"), member="s-0"))
    assert (5, "s-1") == (members.membership and members.membership.revision, members.name)
    assert not members.take(Statement(3, membership=membership(5, "s-0", "s-1"), member="s-1"))
    assert members.take(Statement(4))
    assert ((), None) == (members.others, members.membership)


def test_a_task_belongs_to_another_or_to_this_one() -> None:
    said = membership(1, "s-0", "s-1", "s-2")
    owner = said.owner(ID)
    assert owner is not None
    for name in ("s-0", "s-1", "s-2"):
        assert (None if owner.name == name else owner) == told(said, name).other_owner(ID)
    assert None is told(None).other_owner(ID)
    assert None is told(membership(1, "s-1", leaving=("s-1",))).other_owner(ID)


@pytest.mark.parametrize(
    ("said", "leaving", "may_leave"),
    [
        (None, False, False),
        (membership(1, "s-1"), False, False),
        (membership(1, "s-0", "s-1"), False, True),
        (membership(1, "s-1", "s-2"), False, False),
        (membership(1, "s-0", "s-1", leaving=("s-1",)), True, True),
        (membership(1, "s-0", "s-1", leaving=("s-0", "s-1")), False, True),
    ],
)
def test_who_is_alone_or_first_stops_at_once(said: Membership | None, leaving: bool, may_leave: bool) -> None:
    members = told(said)
    assert (leaving, may_leave) == (members.leaving, members.may_leave)


def test_another_membership_is_told_beside_the_assignments(bench: Bench, wanted: Wish) -> None:
    session = bench.peer("n1")
    bench.state(wanted("u", "n1"))
    assert bench.assignments.assign(session)
    said = membership(1, "s-0", "s-1")
    bench.members.take(Statement(2, membership=said, member="s-1"))
    assert bench.assignments.assign(session)
    assert (2, said) == (session.revision, session.membership)
    assert not bench.assignments.assign(session)
