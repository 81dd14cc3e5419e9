"""Who is silent is forgotten, each in its time."""

import random

import pytest

from pantala_protocol import task_id
from pantala_protocol.statement import CDNStatus
from pantala_supernode.dragonfly.clients import Client, Clients, Lasting
from pantala_supernode.dragonfly.wire import Registration
from pantala_supernode.replicas.membership import ReplicaSet
from pantala_supernode.swarm.download import DfgetTaskManager
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.peer import PeerManager
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.scheduler import Managers, SchedulerManager
from pantala_supernode.sync.assignments import AssignmentTable
from pantala_supernode.sync.dispatch import Dispatcher, Endpoint, TicketCache
from pantala_supernode.sync.feed import ChangeFeed
from pantala_supernode.tasks.copy import Copy, FileSource
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.task import Lease, Task

URL = "http://origin.example/f"
ID = task_id.compute(URL)
P = 1024


class Stage:
    """The managers with one task of four cached pieces, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        peers, progress = PeerManager(), ProgressManager()
        scheduler = SchedulerManager(progress, policy=SchedulingPolicy(), chance=random.Random(1), lookup=peers.get)
        self.managers = Managers(TaskManager(grace=5.0), DfgetTaskManager(), peers, progress, scheduler)
        roster, reports = AssignmentTable(self.managers, ReplicaSet()), ChangeFeed("boot", self.managers)
        self.dispatcher = Dispatcher(
            self.managers,
            roster,
            reports,
            endpoint=Endpoint("127.0.0.1", 8001, b"k"),
            tickets=TicketCache(lambda: self.now),
            sha256=lambda _task_id, _piece: bytes(32),
            on_accused=lambda _task_id, _piece: None,
            clock=lambda: self.now,
        )
        self.clients = Clients(self.managers, self.dispatcher, clock=lambda: self.now, lasting=Lasting())
        self.managers.tasks.lease(ID, Lease(FileSource(URL), self.now + 600))
        self.managers.tasks.update(ID, Copy(ID, CDNStatus.SUCCESS, "g", P, 4 * P, 0b1111, 4, "sha256:" + "0" * 64))
        progress.init_task(ID).cached = 0b1111

    @property
    def task(self) -> Task:
        task = self.managers.tasks.get(ID)
        assert task is not None
        return task

    def enrol(self, cid: str = "c", port: int = 15000, ip: str = "10.0.0.1") -> Client:
        registration = Registration(cid, URL, URL, ip, port, "/peer/file/f", "", "", {}, dfdaemon=False)
        return self.clients.enrol(registration, self.task, "10.0.0.1")

    def given(self, client: Client) -> int:
        return len(self.dispatcher.given(client.session, self.task))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.clients.tick()


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_what_a_silent_client_was_given_is_free_again(stage: Stage) -> None:
    client = stage.enrol()
    stage.dispatcher.work(client.session)
    assert 4 == stage.given(client)
    stage.pass_time(90.0)
    assert 4 == stage.given(client)
    stage.pass_time(0.1)
    assert 0 == stage.given(client)
    assert client is stage.clients.get(ID, "c")


def test_a_client_that_did_not_end_is_forgotten_before_one_that_may_serve(stage: Stage) -> None:
    stage.enrol("dead")
    stage.enrol("done").finished = True
    stage.pass_time(300.1)
    assert (None, True) == (stage.clients.get(ID, "dead"), stage.clients.get(ID, "done") is not None)
    stage.pass_time(300.0)
    assert stage.clients.get(ID, "done") is None
    assert (0, set()) == (len(stage.dispatcher.sessions), stage.task.fetchers)


def test_a_word_renews_the_client_and_the_lease(stage: Stage) -> None:
    client = stage.enrol()
    stage.pass_time(299.0)
    stage.clients.heard(client)
    stage.pass_time(299.0)
    assert client is stage.clients.get(ID, "c")
    assert frozenset() == stage.managers.tasks.expire(now=stage.now).retired


def test_who_is_taken_from_is_alive(stage: Stage) -> None:
    provider, taker = stage.enrol("provider"), stage.enrol("taker")
    provider.finished = True
    stage.dispatcher.succeeded(provider.session, stage.task, 0b1111)
    stage.pass_time(599.0)
    taker = stage.enrol("later")
    stage.dispatcher.work(taker.session)
    stage.dispatcher.succeeded(taker.session, stage.task, 0b1111)
    stage.pass_time(599.0)
    assert provider is stage.clients.get(ID, "provider")


def test_a_withheld_piece_is_offered_once_it_is_served(stage: Stage) -> None:
    first, second = stage.enrol("first"), stage.enrol("second")
    stage.dispatcher.succeeded(first.session, stage.task, 0b1111, serves=False)
    assert {""} == {work.provider for work in stage.dispatcher.work(second.session)}
    stage.dispatcher.release(second.session)
    stage.dispatcher.succeeded(first.session, stage.task, 0b1111)
    assert {first.name} == {work.provider for work in stage.dispatcher.work(second.session)}


@pytest.mark.parametrize(("port", "ip"), [(0, "10.0.0.1"), (15000, "10.0.0.2")])
def test_who_cannot_be_reached_where_it_says_is_offered_to_nobody(stage: Stage, port: int, ip: str) -> None:
    first, second = stage.enrol("first", port, ip), stage.enrol("second")
    stage.dispatcher.succeeded(first.session, stage.task, 0b1111)
    assert {""} == {work.provider for work in stage.dispatcher.work(second.session)}


def test_registering_again_begins_anew_and_is_no_second_client(stage: Stage) -> None:
    former = stage.enrol()
    stage.dispatcher.succeeded(former.session, stage.task, 0b11)
    again = stage.enrol()
    assert (former.name, 0) == (again.name, stage.managers.progress.pieces_by_cid(ID, again.name))
    assert [again.name] == list(stage.managers.progress.peers_by_task(ID))
    assert [again] == list(stage.clients.of(ID))
