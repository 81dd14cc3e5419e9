"""A lease keeps a task wanted for clients without a Task resource."""

from pantala_protocol import task_id
from pantala_protocol.statement import Statement, WantedTask
from pantala_supernode.tasks.copy import FetchOrder, FileSource
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.task import Lease

URL = "http://origin.example/f"
ID = task_id.compute(URL)


def leased(until: float = 10.0) -> TaskManager:
    tasks = TaskManager(grace=5.0)
    tasks.lease(ID, Lease(FileSource(URL), until))
    return tasks


def test_a_lease_wants_a_task_and_orders_its_copy() -> None:
    tasks = TaskManager(grace=5.0)
    assert frozenset({ID}) == tasks.lease(ID, Lease(FileSource(URL, attempt="1"), 10.0)).tasks
    task = tasks.get(ID)
    assert task is not None
    assert FetchOrder(ID, FileSource(URL, attempt="lease:1"), stale_will_do=True) == task.order()
    assert not task.suspended


def test_only_another_source_is_a_change() -> None:
    tasks = leased()
    assert frozenset() == tasks.lease(ID, Lease(FileSource(URL), 20.0)).tasks
    assert frozenset({ID}) == tasks.lease(ID, Lease(FileSource(URL, {"Authorization": "x"}), 20.0)).tasks


def test_a_lease_that_ends_retires_its_task_and_keeps_the_copy() -> None:
    tasks = leased()
    assert frozenset() == tasks.expire(now=9.9).retired
    restated = tasks.expire(now=10.0)
    assert (frozenset({ID}), frozenset()) == (restated.retired, restated.deleted)
    assert tasks.get(ID) is None


def test_a_renewed_lease_ends_later_and_never_earlier() -> None:
    tasks = leased()
    tasks.renew(ID, until=20.0)
    tasks.renew(ID, until=15.0)
    assert frozenset() == tasks.expire(now=19.0).retired
    assert frozenset({ID}) == tasks.expire(now=20.0).retired


def test_an_unknown_task_cannot_be_renewed() -> None:
    tasks = TaskManager(grace=5.0)
    tasks.renew(ID, until=20.0)
    assert tasks.get(ID) is None


def test_a_task_resource_outlives_a_lease_and_a_lease_a_task_resource() -> None:
    tasks = leased()
    tasks.state(Statement(1, (WantedTask("u", "ns/n", ID, URL),)), now=0.0)
    assert frozenset() == tasks.expire(now=10.0).retired
    assert tasks.get(ID) is not None
    tasks.lease(ID, Lease(FileSource(URL), 100.0))
    tasks.state(Statement(2), now=20.0)
    restated = tasks.expire(now=25.0)
    assert (frozenset({"u"}), frozenset()) == (restated.dropped, restated.deleted)
    assert frozenset({ID}) == tasks.expire(now=100.0).retired


def test_fetchers_run_a_task_while_the_lease_lasts() -> None:
    tasks = leased()
    task = tasks.get(ID)
    assert task is not None
    task.fetchers.add("client")
    assert task.runs_on("client")
    tasks.state(Statement(1, (WantedTask("u", "ns/n", ID, URL),)), now=0.0)
    tasks.expire(now=10.0)
    assert not task.runs_on("client")
