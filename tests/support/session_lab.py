"""A peer with sessions to three scripted supernodes, without sockets."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Self

from pantala_peer.errors import ExchangeError
from pantala_peer.events import Assigned, ImagesOrdered, PeerEvents, WorkGiven
from pantala_peer.sync.connection import SyncConnection
from pantala_peer.sync.supernodes import SupernodeSessions
from pantala_protocol.statement import Membership
from pantala_protocol.sync import Assignment, HeldPieces, PieceWork, SyncAnswer, SyncRequest
from tests.support.eventually import eventually
from tests.support.peer import IDENTITY, membership
from tests.support.scripted_supernode import Known, ScriptedSupernode

NAMES = ("s-0", "s-1", "s-2")
FIRST = "http://any"
QUIET = 1.0
"""Seconds after which each exchange is held and no report is left."""


class PatientSupernode(ScriptedSupernode):
    """Sends the assignments and the work of a test. It holds an exchange for any time."""

    def __init__(self, name: str) -> None:
        super().__init__(name, key=name.encode())
        self.hold = None
        self.revision = 0
        self.assignments: tuple[Assignment, ...] | None = None
        self.work: tuple[PieceWork, ...] = ()
        self.under_way = 0

    @property
    def last(self) -> SyncRequest:
        return self.requests[-1]

    async def give(self, *assignments: Assignment, membership: Membership | None = None) -> None:
        self.assignments = assignments
        self.membership = membership or self.membership
        self.revision += 1
        await self.notify()

    async def give_work(self, *work: PieceWork) -> None:
        self.work = work
        await self.notify()

    async def exchange(self, request: SyncRequest, host: str = "") -> SyncAnswer | None:
        self.under_way += 1
        try:
            return await super().exchange(request, host)
        finally:
            self.under_way -= 1

    def _assignments(self, peer: str) -> tuple[Assignment, ...] | None:
        return self.assignments

    def _work(self, known: Known, request: SyncRequest) -> tuple[PieceWork, ...]:
        work, self.work = self.work, ()
        return work


class MemoryConnection(SyncConnection):
    """A connection to a scripted supernode without a socket. ``opened`` has the URLs of all open connections."""

    def __init__(self, url: str, supernode: PatientSupernode, opened: set[str]) -> None:
        super().__init__(url, token_file=None, timeout=1.0)
        self._base, self._supernode, self._opened = url, supernode, opened

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        assert self._base in self._opened
        answer = await self._supernode.exchange(request)
        if answer is None:
            raise ExchangeError("away")
        return answer

    async def __aenter__(self) -> Self:
        self._opened.add(self._base)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._opened.discard(self._base)


class SessionLab:
    """A peer with the supernodes s-0, s-1 and s-2. The configured address leads to s-0."""

    def __init__(self) -> None:
        self.fakes = {name: PatientSupernode(name) for name in NAMES}
        self.at = {f"http://{name}": fake for name, fake in self.fakes.items()} | {FIRST: self.fakes["s-0"]}
        self.opened: set[str] = set()
        self.held: dict[str, HeldPieces] = {}
        self.assigned: list[Assigned] = []
        self.given: list[WorkGiven] = []
        self.ordered: list[int] = []
        events = PeerEvents()
        events.subscribe(Assigned, self.assigned.append)
        events.subscribe(WorkGiven, self.given.append)
        events.subscribe(ImagesOrdered, lambda event: self.ordered.append(event.orders.revision))
        self.supernodes = SupernodeSessions(
            FIRST,
            IDENTITY,
            events,
            connect=lambda url: MemoryConnection(url, self.at[url], self.opened),
            rng=random.Random(1),
        )
        self.running: asyncio.Task[None]

    async def stop(self) -> None:
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running

    async def all_assign(self, members: Membership, **assignments: tuple[Assignment, ...]) -> None:
        for name, fake in self.fakes.items():
            await fake.give(*assignments.get(name.replace("-", ""), ()), membership=members)

    async def begin(self, *names: str, **assignments: tuple[Assignment, ...]) -> None:
        """All supernodes are members, or those with these names, and all sessions are quiet."""
        await self.all_assign(membership(1, *(names or NAMES)), **assignments)
        await self.until_complete()
        await asyncio.sleep(QUIET)
        assert {f"http://{name}" for name in names or NAMES} == self.opened

    async def until(self, condition: Callable[[], object]) -> None:
        await eventually(condition, within=3, every=0.005)

    async def until_complete(self) -> None:
        await self.until(lambda: bool(self.assigned) and self.assigned[-1].complete)

    def counts(self) -> list[int]:
        return [len(self.fakes[name].requests) for name in NAMES]
