"""Managers put together without a socket, a clock or a disk."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from pantala_protocol.statement import CDNStatus, Statement, WantedTask
from pantala_protocol.task_id import TaskID, compute
from pantala_supernode.dragonfly.clients import ClientLifetimes, Clients
from pantala_supernode.replicas.membership import ReplicaSet
from pantala_supernode.swarm.download import DfgetTaskManager
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.peer import PeerManager, SwarmPeer
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.scheduler import Managers, SchedulerManager
from pantala_supernode.sync.assignments import AssignmentTable
from pantala_supernode.sync.dispatch import Dispatcher
from pantala_supernode.sync.feed import ChangeFeed
from pantala_supernode.sync.session import PeerSession
from pantala_supernode.sync.tickets import Endpoint, TicketCache
from pantala_supernode.tasks.copy import Copy, FileSource
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.task import Lease, Task
from pantala_supernode.volume.epochs import EpochFence
from tests.support.blob_stage import BlobStage

Wish = Callable[..., WantedTask]
"""Makes what a Task resource wants: its UID, then the peers."""

URL = "http://origin.example/f"
ID = compute(URL)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """All managers but the CDN, and what stands between them."""

    clock: Clock = field(default_factory=Clock)
    accused: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        peers, progress = PeerManager(), ProgressManager()
        scheduler = SchedulerManager(progress, policy=SchedulingPolicy(), chance=random.Random(1), lookup=peers.get)
        self.replicas = ReplicaSet()
        self.managers = Managers(TaskManager(grace=5.0), DfgetTaskManager(), peers, progress, scheduler)
        self.assignments = AssignmentTable(self.managers, self.replicas)
        self.feed = ChangeFeed("boot", self.managers, EpochFence())
        self.dispatcher = Dispatcher(
            self.managers,
            self.assignments,
            self.feed,
            endpoint=Endpoint("supernode", 8001, b"s" * 32),
            tickets=TicketCache(lambda: 1_000_000.0),
            digest_of=lambda _task_id, _piece: b"d" * 32,
            on_accused=lambda task_id, piece: self.accused.append((task_id, piece)),
            clock=self.clock,
        )
        self.clients = Clients(self.managers, self.dispatcher, clock=self.clock, lifetimes=ClientLifetimes())

    def state(self, *wanted: WantedTask) -> None:
        tasks = self.managers.tasks
        tasks.state(Statement(tasks.revision + 1, wanted), now=self.clock.now)

    def lease(self) -> Task:
        self.managers.tasks.lease(ID, Lease(FileSource(URL), self.clock.now + 600))
        return self.managers.tasks.known(ID)

    def cached(self, pieces: int = 4, *, status: CDNStatus = CDNStatus.SUCCESS, name: TaskID = ID) -> Task:
        """The task's file of ``pieces`` pieces of 10 bytes is on the volume."""
        mask = (1 << pieces) - 1
        copy = Copy(name, status, "g", 10, pieces * 10, mask, digest="sha256:" + "0" * 64)
        self.managers.tasks.update(name, copy)
        self.managers.progress.init_task(name).copy = copy
        return self.managers.tasks.known(name)

    def peer(self, name: str, *, inventoried: bool = True, **more: int) -> PeerSession:
        session = PeerSession(name, "boot", inventoried=inventoried)
        address = f"10.0.0.{len(self.dispatcher.sessions) + 1}"
        self.dispatcher.add(session, SwarmPeer(name, address, 65002, b"k" * 32))
        self.managers.peers.update(name, **more)
        return session


@dataclass
class Leases:
    tasks: TaskManager = field(default_factory=lambda: TaskManager(grace=5.0))
    ended: list[tuple[str, bool]] = field(default_factory=list)

    def lease(self, task_id: str, lease: Lease) -> None:
        self.tasks.lease(task_id, lease)

    def end_lease(self, task_id: str, *, keep: bool = False) -> None:
        self.ended.append((task_id, keep))
        self.tasks.end_lease(task_id, keep=keep)


@pytest.fixture
def leases() -> Leases:
    return Leases()


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def wanted() -> Wish:
    def make(uid: str = "u", *peers: str, path: str = "p/f") -> WantedTask:
        return WantedTask(uid, f"ns/{uid}", ID, URL, path=path, peers=peers)

    return make


@pytest.fixture
def stage() -> BlobStage:
    return BlobStage()
