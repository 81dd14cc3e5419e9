"""The replicas, as one of them sees them."""

import pytest

from pantala_protocol.statement import Member, Membership, Statement
from pantala_supernode.replicas.membership import ReplicaSet
from tests.unit.supernode.conftest import ID


def membership(revision: int, *names: str, leaving: tuple[str, ...] = ()) -> Membership:
    return Membership(revision, tuple(Member(name, f"http://{name}:8002", leaving=name in leaving) for name in names))


def replica_set(stated: Membership | None, name: str = "s-1") -> ReplicaSet:
    replicas = ReplicaSet()
    replicas.take(Statement(1, membership=stated, member=name))
    return replicas


def test_the_newest_membership_counts() -> None:
    replicas = replica_set(membership(5, "s-0", "s-1"))
    assert not replicas.take(Statement(2, membership=membership(4, "s-0"), member="s-0"))
    assert (5, "s-1") == (replicas.membership and replicas.membership.revision, replicas.name)
    assert not replicas.take(Statement(3, membership=membership(5, "s-0", "s-1"), member="s-1"))
    assert replicas.take(Statement(4))
    assert ((), None) == (replicas.others, replicas.membership)


def test_a_task_has_one_owner() -> None:
    stated = membership(1, "s-0", "s-1", "s-2")
    owner = stated.owner(ID)
    assert owner is not None
    for name in ("s-0", "s-1", "s-2"):
        assert (None if owner.name == name else owner) == replica_set(stated, name).other_owner(ID)
    assert None is replica_set(None).other_owner(ID)
    assert None is replica_set(membership(1, "s-1", leaving=("s-1",))).other_owner(ID)


@pytest.mark.parametrize(
    ("stated", "leaving", "may_leave"),
    [
        (None, False, False),
        (membership(1, "s-1"), False, False),
        (membership(1, "s-0", "s-1"), False, True),
        (membership(1, "s-1", "s-2"), False, False),
        (membership(1, "s-0", "s-1", leaving=("s-1",)), True, True),
        (membership(1, "s-0", "s-1", leaving=("s-0", "s-1")), False, True),
    ],
)
def test_a_replica_that_is_alone_or_first_stops_at_once(
    stated: Membership | None, leaving: bool, may_leave: bool
) -> None:
    replicas = replica_set(stated)
    assert (leaving, may_leave) == (replicas.leaving, replicas.may_leave)
