"""Peers that registered by themselves: what they may do, and what goes with whom."""

from __future__ import annotations

import pytest

from pantala_protocol.wrapping import Wrapping
from pantala_supernode.dragonfly.clients import Client
from pantala_supernode.dragonfly.visitors import PieceResult, PieceStatus, Visitors
from pantala_supernode.dragonfly.wire import Registration
from pantala_supernode.errors import ConflictError, EmptyValueError, InvalidValueError, NotFoundError, NotReadyError
from pantala_supernode.swarm.download import DfgetTaskStatus
from pantala_supernode.swarm.task_progress import SUPERNODE
from pantala_supernode.tasks.task import Task
from tests.unit.supernode.conftest import ID, URL, Bench, Leases, Wish

RANGE = Wrapping(10).range(1)


@pytest.fixture
def visitors(bench: Bench, leases: Leases) -> Visitors:
    numbers = iter(range(1_000_000))
    return Visitors(
        leases,
        bench.managers,
        bench.dispatcher,
        bench.clients,
        new_id=lambda: str(next(numbers)),
        clock=bench.clock,
    )


@pytest.fixture
def task(bench: Bench) -> Task:
    bench.lease()
    return bench.cached(4)


def register(visitors: Visitors, host: str = "host") -> str:
    return visitors.register(address="10.0.0.9", host=host, port=15001, version="1")


def begin(bench: Bench, visitors: Visitors, task: Task, peer: str, cid: str = "c1") -> Client:
    registration = Registration(cid, URL, URL, "10.0.0.9", 15001, "/p", "", "", {}, dfdaemon=False)
    client = bench.clients.enrol(registration, task, "10.0.0.9")
    visitors.join(peer, task.id, cid)
    return client


def report(
    visitors: Visitors, status: PieceStatus = PieceStatus.RUNNING, result: PieceResult = PieceResult.SUCCESS
) -> None:
    visitors.update_piece(ID, RANGE, "c1", "", status, result)


def test_each_registration_is_another_peer(bench: Bench, visitors: Visitors) -> None:
    first, second = register(visitors), register(visitors)
    assert ["host-10.0.0.9-0", "host-10.0.0.9-1"] == [first, second]
    assert [first, second] == [peer.name for peer in bench.managers.peers]


def test_there_is_an_end_to_registrations(visitors: Visitors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pantala_supernode.dragonfly.visitors._MOST", 1)
    register(visitors)
    with pytest.raises(NotReadyError):
        register(visitors)


def test_with_a_visitor_go_all_its_downloads(bench: Bench, visitors: Visitors, task: Task) -> None:
    name, other = register(visitors), register(visitors)
    mine, others = begin(bench, visitors, task, name), begin(bench, visitors, task, other, "c2")
    bench.dispatcher.succeeded(mine.session, task, 0b1)
    bench.managers.progress.give(ID, others.name, 0, mine.name)
    visitors.deregister(name)
    assert [other, others.name] == [peer.name for peer in bench.managers.peers]
    assert [others.name] == list(bench.managers.progress.peers_by_task(ID))
    assert bench.managers.dfget_tasks.get(mine.name, ID) is None
    bench.dispatcher.release(others.session)
    assert mine.name not in bench.managers.progress.service
    with pytest.raises(NotFoundError):
        visitors.deregister(name)
    with pytest.raises(EmptyValueError):
        visitors.deregister("")


def test_one_download_goes_alone(bench: Bench, visitors: Visitors, task: Task) -> None:
    name = register(visitors)
    client = begin(bench, visitors, task, name)
    visitors.deregister(client.name)
    assert [name] == [peer.name for peer in bench.managers.peers]
    assert [] == list(bench.clients)


def test_a_nodes_peer_goes_when_it_is_away(bench: Bench, visitors: Visitors) -> None:
    for has_session in (True, False):
        bench.peer("n1")
        with pytest.raises(ConflictError):
            visitors.deregister("n1")
        bench.managers.peers.update("n1", connected=False)
        if not has_session:
            del bench.dispatcher.sessions["n1"]
        visitors.deregister("n1")
        assert bench.managers.peers.get("n1") is None


@pytest.mark.parametrize("full", [False, True])
def test_with_a_task_go_its_downloads_and_its_copy_if_wished(
    bench: Bench, visitors: Visitors, leases: Leases, task: Task, full: bool
) -> None:
    begin(bench, visitors, task, register(visitors))
    visitors.delete_task(ID, full=full)
    assert ([], [(ID, not full)]) == (list(bench.clients), leases.ended)
    assert [] == list(bench.managers.dfget_tasks)


def test_a_task_that_a_resource_wants_stays(bench: Bench, visitors: Visitors, wanted: Wish) -> None:
    bench.state(wanted("u"))
    with pytest.raises(ConflictError, match="ns/u"):
        visitors.delete_task(ID, full=True)
    with pytest.raises(NotFoundError):
        visitors.delete_task("x", full=True)


def test_a_success_is_taken_once_and_makes_a_provider(bench: Bench, visitors: Visitors, task: Task) -> None:
    client = begin(bench, visitors, task, register(visitors))
    bench.managers.progress.give(ID, client.name, 1, SUPERNODE)
    report(visitors, result=PieceResult.SEMISUC)
    progress = bench.managers.progress.tasks[ID].clients[client.name]
    assert (0b10, 0) == (progress.have, progress.served)
    report(visitors)
    report(visitors)
    assert (0b10, 10) == (progress.served, bench.managers.progress.supernode_bytes)


def test_a_failure_frees_the_piece(bench: Bench, visitors: Visitors, task: Task) -> None:
    client = begin(bench, visitors, task, register(visitors))
    bench.managers.progress.give(ID, client.name, 1, SUPERNODE)
    report(visitors, result=PieceResult.FAILED)
    assert {} == bench.managers.progress.tasks[ID].clients[client.name].given


@pytest.mark.parametrize(
    ("status", "result", "expected"),
    [
        (PieceStatus.STARTED, PieceResult.INVALID, DfgetTaskStatus.RUNNING),
        (PieceStatus.FINISHED, PieceResult.SUCCESS, DfgetTaskStatus.SUCCESS),
        (PieceStatus.FINISHED, PieceResult.FAILED, DfgetTaskStatus.FAILED),
    ],
)
def test_a_download_begins_and_ends_as_the_client_says(
    bench: Bench, visitors: Visitors, task: Task, status: PieceStatus, result: PieceResult, expected: DfgetTaskStatus
) -> None:
    client = begin(bench, visitors, task, register(visitors))
    report(visitors, status, result)
    assert expected is bench.managers.dfget_tasks.known(client.name, ID).status


def test_reports_that_make_no_sense_are_errors(bench: Bench, visitors: Visitors, task: Task) -> None:
    with pytest.raises(NotFoundError, match="'c1' does not download"):
        report(visitors)
    with pytest.raises(EmptyValueError, match="srcCid is empty"):
        visitors.update_piece(ID, RANGE, "", "", PieceStatus.RUNNING, PieceResult.SUCCESS)
    client = begin(bench, visitors, task, register(visitors))
    with pytest.raises(InvalidValueError):
        report(visitors, result=PieceResult.INVALID)
    for text, error in (("0-45565", InvalidValueError), (Wrapping(10).range(4), NotFoundError)):
        with pytest.raises(error):
            visitors.update_piece(ID, text, "c1", "", PieceStatus.RUNNING, PieceResult.SUCCESS)
    client.generation = "former"
    with pytest.raises(ConflictError):
        report(visitors)


def test_a_task_without_content_has_no_pieces_to_report(bench: Bench, visitors: Visitors) -> None:
    task = bench.lease()
    bench.managers.progress.init_task(ID)
    begin(bench, visitors, task, register(visitors))
    with pytest.raises(ConflictError, match="no pieces yet"):
        report(visitors)


def test_a_visitor_that_has_all_ends_its_downloads_of_the_task(bench: Bench, visitors: Visitors, task: Task) -> None:
    name = register(visitors)
    with pytest.raises(NotFoundError, match="does not download"):
        visitors.finish(name, ID)
    client = begin(bench, visitors, task, name)
    visitors.finish(name, ID)
    assert DfgetTaskStatus.SUCCESS is bench.managers.dfget_tasks.known(client.name, ID).status
    bench.peer("n1")
    with pytest.raises(NotFoundError, match="does not download"):
        visitors.finish("n1", ID)


def test_who_is_silent_is_forgotten_but_not_while_it_downloads(bench: Bench, visitors: Visitors, task: Task) -> None:
    idle, busy = register(visitors, "idle"), register(visitors, "busy")
    client = begin(bench, visitors, task, busy)
    visitors.join("nobody", ID, "c1")
    bench.clock.now += bench.clients.lasting.provider + 1
    visitors.tick()
    assert [busy, client.name] == [peer.name for peer in bench.managers.peers]
    bench.clients.forget(client)
    visitors.tick()
    assert bench.managers.peers.get(busy) is not None
    bench.clock.now += bench.clients.lasting.provider + 1
    visitors.tick()
    assert [] == list(bench.managers.peers)
    assert idle != busy
