"""Tasks: which resources and leases want them, and what a change of that causes."""

from dataclasses import replace

import pytest

from pantala_protocol.statement import CDNStatus, Statement, WantedTask
from pantala_protocol.sync import Delivery
from pantala_protocol.task_id import TaskID, compute
from pantala_supernode.errors import EmptyValueError, NotFoundError
from pantala_supernode.tasks.copy import Copy, FileSource
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


def test_a_statement_with_an_invalid_id_changes_nothing(tasks: TaskManager) -> None:
    with pytest.raises(ValueError, match="64 lower-case hex"):
        state(tasks, A, replace_id(B, "../etc"))
    assert [] == list(tasks)
    assert 0 == tasks.revision


def replace_id(wanted: WantedTask, name: str) -> WantedTask:
    return WantedTask(wanted.uid, wanted.name, name, wanted.url)


def test_a_removed_resource_is_dropped_after_the_grace(tasks: TaskManager) -> None:
    state(tasks, A)
    assert TaskChanges() == state(tasks, now=10.0)
    assert TaskChanges() == tasks.expire(now=14.9)
    dropped = TaskChanges(deleted={ID}, dropped={"a"}, peers={"n1", "n2"})
    assert dropped == tasks.expire(now=15.0)
    assert [] == list(tasks)
    assert TaskChanges() == tasks.expire(now=99.0)


def test_a_resource_that_returns_in_time_stays(tasks: TaskManager) -> None:
    state(tasks, A)
    state(tasks, now=10.0)
    state(tasks, A, now=14.0)
    assert TaskChanges() == tasks.expire(now=99.0)
    assert tasks.of("a") is not None


def test_a_resource_that_replaces_another_keeps_the_task(tasks: TaskManager) -> None:
    state(tasks, A)
    state(tasks, B, now=10.0)
    gone = tasks.expire(now=15.0)
    assert ({ID}, frozenset(), {"a"}) == (gone.tasks, gone.deleted, gone.dropped)
    assert {"b"} == set(tasks.known(ID).wanted)


def test_a_resource_that_wants_another_file_leaves_the_former_at_once(tasks: TaskManager) -> None:
    state(tasks, A)
    moved = state(tasks, WantedTask("a", "ns/a", OTHER, OTHER_URL))
    assert ({OTHER}, {ID}) == (moved.tasks, moved.deleted)
    assert OTHER == getattr(tasks.of("a"), "id", None)


def test_a_task_that_moves_to_another_resource_is_not_deleted(tasks: TaskManager) -> None:
    state(tasks, A)
    moved = state(tasks, WantedTask("a", "ns/a", OTHER, OTHER_URL), B)
    assert ({ID, OTHER}, frozenset()) == (moved.tasks, moved.deleted)


def test_two_resources_that_change_places_lose_nothing(tasks: TaskManager) -> None:
    state(tasks, A, WantedTask("b", "ns/b", OTHER, OTHER_URL))
    copies = [Copy(name, CDNStatus.SUCCESS, "g") for name in (ID, OTHER)]
    for copy in copies:
        tasks.update(copy.task_id, copy)
    moved = state(tasks, WantedTask("a", "ns/a", OTHER, OTHER_URL), B)
    assert ({ID, OTHER}, frozenset()) == (moved.tasks, moved.deleted)
    assert copies == [tasks.known(name).copy for name in (ID, OTHER)]


def test_only_a_whole_copy_is_success(tasks: TaskManager) -> None:
    state(tasks, A)
    assert not tasks.known(ID).complete
    tasks.update(ID, Copy(ID, CDNStatus.SUCCESS, length=0))
    tasks.update(OTHER, Copy(OTHER, CDNStatus.SUCCESS))  # not wanted
    assert tasks.known(ID).complete
    assert OTHER not in tasks


def test_an_order_joins_all_resources_and_the_lease(tasks: TaskManager) -> None:
    state(tasks, A, B)
    order = tasks.known(ID).order()
    assert ("a:1 b:", 7, 5) == (order.source.attempt, order.retry_limit, order.source.priority)
    tasks.lease(ID, Lease(FileSource(URL, attempt="x"), 10.0))
    order = tasks.known(ID).order()
    assert ("a:1 b: lease:x", None) == (order.source.attempt, order.retry_limit)


def test_an_unwanted_task_has_no_order() -> None:
    with pytest.raises(ValueError, match="no lease wants"):
        Task(ID, Copy(ID)).order()


def test_a_task_is_suspended_when_all_its_resources_are(tasks: TaskManager) -> None:
    state(tasks, A, B)
    task = tasks.known(ID)
    assert not task.suspended
    state(tasks, B, now=0.0)
    tasks.expire(now=9.0)
    assert task.suspended
    tasks.lease(ID, Lease(FileSource(URL), 20.0))
    assert not task.suspended


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
    assert TaskChanges() == tasks.lease(ID, Lease(FileSource(URL), 5.0))
    tasks.renew(ID, until=20.0)
    tasks.renew(ID, until=15.0)
    tasks.renew(OTHER, until=15.0)
    assert TaskChanges() == tasks.expire(now=19.9)
    assert TaskChanges(retired={ID}) == tasks.expire(now=20.0)
    assert tasks.get(ID) is None


def test_a_lease_that_ends_leaves_a_task_that_a_resource_wants(tasks: TaskManager) -> None:
    state(tasks, A)
    tasks.lease(ID, Lease(FileSource(URL), 10.0))
    tasks.known(ID).fetchers.add("guest")
    assert TaskChanges(tasks={ID}) == tasks.expire(now=10.0)
    assert set() == tasks.known(ID).fetchers


def test_a_removed_resource_leaves_a_leased_task(tasks: TaskManager) -> None:
    state(tasks, A)
    tasks.lease(ID, Lease(FileSource(URL), 100.0))
    state(tasks)
    assert {ID} == tasks.expire(now=5.0).tasks
    assert {} == tasks.known(ID).wanted


@pytest.mark.parametrize(("keep", "expected"), [(False, TaskChanges(deleted={ID})), (True, TaskChanges(retired={ID}))])
def test_a_lease_can_be_ended_with_its_copy_or_without(tasks: TaskManager, keep: bool, expected: TaskChanges) -> None:
    tasks.lease(ID, Lease(FileSource(URL), 10.0))
    assert expected == tasks.end_lease(ID, keep=keep)
    assert TaskChanges() == tasks.end_lease(ID, keep=keep)


def test_a_lease_needs_a_valid_id(tasks: TaskManager) -> None:
    with pytest.raises(ValueError, match="64 lower-case hex"):
        tasks.lease(TaskID("x"), Lease(FileSource(URL), 10.0))
