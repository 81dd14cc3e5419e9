"""Silent clients are released, then removed, each after its time."""

import pytest

from pantala_supernode.dragonfly.clients import Client
from pantala_supernode.dragonfly.wire import Registration
from pantala_supernode.tasks.task import Task
from tests.unit.supernode.conftest import ID, URL, Bench


@pytest.fixture
def task(bench: Bench) -> Task:
    bench.lease()
    return bench.cached(4)


def add(bench: Bench, task: Task, cid: str = "c", port: int = 15000, ip: str = "10.0.0.1") -> Client:
    registration = Registration(cid, URL, URL, ip, port, "/peer/file/f", "", "", {}, dfdaemon=False)
    return bench.clients.add(registration, task, "10.0.0.1")


def pass_time(bench: Bench, seconds: float) -> None:
    bench.clock.now += seconds
    bench.clients.tick()


def providers(bench: Bench, client: Client) -> set[str]:
    return {work.provider for work in bench.dispatcher.work(client.session)}


def test_the_work_of_a_silent_client_is_released(bench: Bench, task: Task) -> None:
    client = add(bench, task)
    bench.dispatcher.work(client.session)
    for seconds, expected in ((90.0, 4), (0.1, 0)):
        pass_time(bench, seconds)
        assert expected == len(bench.dispatcher.given(client.session, task))
    assert client is bench.clients.get(ID, "c")


def test_an_unfinished_client_is_removed_before_a_finished_one(bench: Bench, task: Task) -> None:
    add(bench, task, "dead")
    add(bench, task, "done").finished = True
    pass_time(bench, 300.1)
    assert (None, True) == (bench.clients.get(ID, "dead"), bench.clients.get(ID, "done") is not None)
    pass_time(bench, 300.0)
    assert bench.clients.get(ID, "done") is None
    assert (0, set()) == (len(bench.dispatcher.sessions), task.fetchers)


def test_a_request_renews_the_client_and_the_lease(bench: Bench, task: Task) -> None:
    client = add(bench, task)
    pass_time(bench, 299.0)
    bench.clients.renew(client)
    pass_time(bench, 299.0)
    assert client is bench.clients.get(ID, "c")
    assert frozenset() == bench.managers.tasks.expire(now=bench.clock.now).retired


def test_an_upload_keeps_a_provider(bench: Bench, task: Task) -> None:
    provider = add(bench, task, "provider")
    provider.finished = True
    bench.dispatcher.succeeded(provider.session, task, 0b1111)
    pass_time(bench, 599.0)
    later = add(bench, task, "later")
    bench.dispatcher.work(later.session)
    bench.dispatcher.succeeded(later.session, task, 0b1111)
    pass_time(bench, 599.0)
    assert provider is bench.clients.get(ID, "provider")


@pytest.mark.parametrize(("port", "ip"), [(0, "10.0.0.1"), (15000, "10.0.0.2")])
def test_a_client_without_a_port_or_with_another_address_is_not_a_provider(
    bench: Bench, task: Task, port: int, ip: str
) -> None:
    first, second = add(bench, task, "first", port, ip), add(bench, task, "second")
    bench.dispatcher.succeeded(first.session, task, 0b1111)
    assert {""} == providers(bench, second)


def test_a_second_registration_restarts_the_client(bench: Bench, task: Task) -> None:
    former = add(bench, task)
    bench.dispatcher.succeeded(former.session, task, 0b11)
    again = add(bench, task)
    assert (former.name, 0) == (again.name, bench.managers.progress.pieces_by_cid(ID, again.name))
    assert [again.name] == list(bench.managers.progress.peers_by_task(ID))
    assert [again] == list(bench.clients.of(ID))
