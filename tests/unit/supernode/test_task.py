"""The tasks that a supernode knows, and the replicas that own them."""

from dataclasses import replace

import msgspec
import pytest

from pantala_protocol.statement import CDNStatus, Member, Membership, Statement, WantedTask
from pantala_protocol.sync import Delivery
from pantala_protocol.task_id import TaskID, compute
from pantala_supernode.errors import EmptyValueError, NotFoundError
from pantala_supernode.replicas.membership import ReplicaSet
from pantala_supernode.tasks.copy import Copy, FetchOrder, FileSource
from pantala_supernode.tasks.manager import TaskChanges, TaskManager
from pantala_supernode.tasks.task import Lease, Task

URL, OTHER_URL = "http://origin.example/f", "http://origin.example/g"
ID, OTHER = compute(URL), compute(OTHER_URL)
A = WantedTask("a", "ns/a", ID, URL, path="p/a", peers=("n1", "n2"), attempt="1", retry_limit=3)
B = WantedTask("b", "ns/b", ID, URL, path="p/b", peers=("n2",), priority=5, suspended=True, retry_limit=7)


@pytest.fixture
def tasks() -> TaskManager:
    return TaskManager(grace=5.0)


def state(tasks: TaskManager, *wanted: WantedTask, now: float = 0.0) -> TaskChanges:
    return tasks.state(Statement(tasks.revision + 1, wanted), now=now)


def test_a_stated_task_is_registered(tasks: TaskManager) -> None:
    expected = TaskChanges(tasks={ID}, peers={"n1", "n2"})
    assert expected == state(tasks, A)
    assert [ID] == [task.id for task in tasks]
    assert tasks.of("a") is tasks.known(ID)
    assert 1 == tasks.revision


def test_the_same_statement_again_changes_nothing(tasks: TaskManager) -> None:
    state(tasks, A, B)
    assert TaskChanges() == state(tasks, A, B)


def test_unknown_and_empty_ids_raise_different_errors(tasks: TaskManager) -> None:
    assert tasks.get(ID) is None
    assert tasks.of("a") is None
    with pytest.raises(NotFoundError):
        tasks.known(ID)
    with pytest.raises(EmptyValueError):
        tasks.known("")


def test_an_invalid_id_changes_nothing(tasks: TaskManager) -> None:
    with pytest.raises(ValueError, match="64 lower-case hex"):
        state(tasks, A, WantedTask("b", "ns/b", "../etc", URL))
    with pytest.raises(ValueError, match="64 lower-case hex"):
        tasks.lease(TaskID("x"), Lease(FileSource(URL), 10.0))
    assert ([], 0) == (list(tasks), tasks.revision)


def test_a_removed_resource_is_dropped_after_the_grace(tasks: TaskManager) -> None:
    state(tasks, A)
    assert TaskChanges() == state(tasks, now=10.0)
    assert TaskChanges() == tasks.expire(now=14.9)
    dropped = TaskChanges(deleted={ID}, dropped={"a"}, peers={"n1", "n2"})
    assert dropped == tasks.expire(now=15.0)
    assert [] == list(tasks)
    assert TaskChanges() == tasks.expire(now=99.0)


def test_an_order_joins_all_resources_and_the_lease(tasks: TaskManager) -> None:
    state(tasks, A, B)
    order = tasks.known(ID).order()
    assert ("a:1 b:", 7, 5) == (order.source.attempt, order.retry_limit, order.source.priority)
    tasks.lease(ID, Lease(FileSource(URL, attempt="x"), 10.0))
    order = tasks.known(ID).order()
    assert ("a:1 b: lease:x", None) == (order.source.attempt, order.retry_limit)


def test_the_order_of_a_lease_alone_accepts_a_stale_copy(tasks: TaskManager) -> None:
    tasks.lease(ID, Lease(FileSource(URL, attempt="1"), 10.0))
    assert FetchOrder(ID, FileSource(URL, attempt="lease:1"), stale_will_do=True) == tasks.known(ID).order()


def test_a_source_does_not_show_its_secret() -> None:
    assert "secret" not in repr(FileSource(URL, {"Authorization": "Bearer secret"}))


def test_an_unwanted_task_has_no_order() -> None:
    with pytest.raises(ValueError, match="no lease wants"):
        Task(ID, Copy(ID)).order()


def test_a_peer_runs_a_task_that_is_not_suspended_there(tasks: TaskManager) -> None:
    state(tasks, B)
    task = tasks.known(ID)
    assert not task.runs_on("n2")
    state(tasks, A, B)
    assert (True, False) == (task.runs_on("n2"), task.runs_on("n3"))
    task.fetchers.add("client")
    assert task.runs_on("client")
    assert {"n1", "n2"} == task.recipients


def test_an_assignment_names_the_peers_own_paths_in_order(tasks: TaskManager) -> None:
    state(tasks, B, A, WantedTask("c", "ns/c", ID, URL, peers=("n2",)))
    task = tasks.known(ID)
    task.copy = Copy(ID, CDNStatus.RUNNING, "g", 4, 10, 0b011)
    assignment = task.assignment("n2")
    assert (Delivery("a", "p/a"), Delivery("b", "p/b")) == assignment.deliveries
    assert ("g", 4, 10, 5) == (assignment.generation, assignment.piece_size, assignment.length, assignment.priority)
    assert (Delivery("a", "p/a"),) == task.assignment("n1").deliveries


def test_the_cached_pieces_are_possible_until_the_length_is_known() -> None:
    task = Task(ID, Copy(ID, generation="g", piece_size=4, cached=0b101))
    assert (0b101, 4) == (task.possible, task.size(2))
    task.copy = replace(task.copy, length=10)
    assert (0b111, 2) == (task.possible, task.size(2))


# Leases


def test_a_lease_ends_later_when_it_is_renewed_and_never_sooner(tasks: TaskManager) -> None:
    assert {ID} == tasks.lease(ID, Lease(FileSource(URL), 10.0)).tasks
    assert TaskChanges() == tasks.lease(ID, Lease(FileSource(URL), 5.0)), "the source is the same"
    assert {ID} == tasks.lease(ID, Lease(FileSource(URL, {"Authorization": "x"}), 5.0)).tasks
    tasks.renew(ID, until=20.0)
    tasks.renew(ID, until=15.0)
    tasks.renew(OTHER, until=15.0)
    assert TaskChanges() == tasks.expire(now=19.9)
    assert TaskChanges(retired={ID}) == tasks.expire(now=20.0)
    assert tasks.get(ID) is None


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
def test_a_single_or_first_replica_stops_at_once(stated: Membership | None, leaving: bool, may_leave: bool) -> None:
    replicas = replica_set(stated)
    assert (leaving, may_leave) == (replicas.leaving, replicas.may_leave)


def test_h10_tasks_with_the_same_nodes_share_them(tasks: TaskManager) -> None:
    """They share one set, also after another statement."""
    state(tasks, *(replace_uid(A, str(number)) for number in range(5)))
    state(tasks, *(replace_uid(A, str(number)) for number in range(6)))
    sets = {id(tasks.known(ID).nodes(str(number))) for number in range(6)}
    assert 1 == len(sets)
    assert ("n1", "n2") == tasks.table.names


def replace_uid(wanted: WantedTask, uid: str) -> WantedTask:
    """An equal task of another resource, decoded again, as from the wire."""
    return msgspec.json.decode(msgspec.json.encode(msgspec.structs.replace(wanted, uid=uid)), type=WantedTask)
