"""Making the node what the supernodes say: the full set of tasks to hold, and pieces to fetch for them.

Each task is settled by itself, one settling at a time, again and again until nothing changed meanwhile: what a
settling does follows from what is assigned and what is there, never from what happened.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import structlog

from pantala_peer.cache.pieces import Cache
from pantala_peer.cache.room import BlobRoom
from pantala_peer.download.jobs import Downloads, Outcome
from pantala_peer.errors import LOCAL, DeliveryError, DigestMismatchError, RotError, failed
from pantala_peer.sync.claims import fits
from pantala_peer.sync.deliveries import Deliveries
from pantala_peer.sync.reports import Reports
from pantala_pieces.errors import StoreError, StoreFullError
from pantala_protocol.sync import Assignment, DeliveryState, PieceFailure, Work

_BLOB_REST = 60.0
"""Seconds from a blob's last piece to the hash of the whole: its reader hashes it, too, and unpacks it just then."""

log = structlog.get_logger()


class _Given(NamedTuple):
    work: Work
    giver: str


class Assignments:
    """What this node shall hold, and what became of it."""

    def __init__(self, reports: Reports, cache: Cache, deliveries: Deliveries) -> None:
        self.downloads: Downloads
        """Set by who composes; it must tell its outcomes to :meth:`ended`."""
        self.room = BlobRoom()
        """For tasks that are published nowhere: blobs of images. Set by who composes."""
        self.kept: Callable[[str], bool] = lambda _name: False
        """Whether a task that nobody assigns is to stay all the same. Set by who composes."""
        self._released: set[str] = set()
        self._cramped: set[str] = set()
        self._reports = reports
        self._cache = cache
        self._deliveries = deliveries
        self._assigned: dict[str, Assignment] = {}
        self._complete = False
        self._ready: set[str] = set()
        self._waiting: dict[str, list[_Given]] = {}
        self._given: dict[tuple[str, int], list[_Given]] = {}
        self._troubles: dict[str, DeliveryState] = {}
        self._taken: dict[str, Counter[str]] = {}
        self._whole_since: dict[str, float] = {}
        self._dirty: set[str] = set()
        self._settling: dict[str, asyncio.Task[None]] = {}

    async def open(self) -> None:
        """Find what an earlier process left, and hash it before it counts. Raises :class:`StoreError`."""
        await self._deliveries.open()
        for name in await self._cache.open():
            log.warning("a published file rotted on the disk; it is withdrawn and fetched again", task=name)
            await self._deliveries.withdraw(name)

    async def keep_looking(self, interval: float) -> None:
        """Compare what is assigned with what is there, every ``interval`` seconds, for ever."""
        while True:
            await asyncio.sleep(interval)
            for name, assignment in list(self._assigned.items()):
                self.touch(name)
                if self._is_overlooked(assignment):
                    self._reports.state_inventory(name)
            self._make_room()
            self._reports.send()

    async def close(self) -> None:
        """Stop where we are. Published files stay."""
        tasks = list(self._settling.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.downloads.close()

    # What is said and what happened

    def assign(self, assigned: dict[str, Assignment], *, complete: bool) -> None:
        """Hold what is assigned, by task ID. Only what a ``complete`` set does not name is dropped."""
        former, self._assigned, self._complete = self._assigned, assigned, complete
        touched = {name for name in former.keys() | assigned.keys() if former.get(name) != assigned.get(name)}
        if complete:
            touched |= (self._cache.tasks() | self._deliveries.tasks()) - assigned.keys()
        self._ready -= touched
        self._released &= assigned.keys()
        self._cramped &= assigned.keys()
        self.room.keep_only(assigned.keys())
        for name in sorted(touched, key=lambda name: -assigned[name].priority if name in assigned else 0):
            self.touch(name)

    def give(self, work: Work, giver: str) -> None:
        """Fetch a piece for the supernode of boot ID ``giver``; one that is being fetched, if that fails."""
        assignment = self._assigned.get(work.task_id)
        self._released.discard(work.task_id)  # it is wanted again
        if assignment is None or not fits(work, assignment):
            log.info("work for a task that is not assigned like this", **_shown(work))
        elif self._cache.has(work.task_id, work.generation, work.piece):
            self._reports.piece_done(work.task_id, work.generation, work.piece)
            self._reports.send()
        elif work.task_id in self._ready:
            givers = self._given.setdefault((work.task_id, work.piece), [])
            if givers and givers[0].giver == giver and givers[0].work.provider != work.provider:
                if self.downloads.redirect(work):  # it was said that the piece does not come from there
                    givers[0] = _Given(work, giver)
                return
            if all(given.giver != giver for given in givers):
                givers.append(_Given(work, giver))
            self.downloads.start(work)
        else:
            self._waiting.setdefault(work.task_id, []).append(_Given(work, giver))
            self.touch(work.task_id)

    def ended(self, outcome: Outcome) -> None:
        """A download ended."""
        work = outcome.work
        given, *others = self._given.pop((work.task_id, work.piece))
        if not outcome.kind:
            self._reports.piece_done(work.task_id, work.generation, work.piece)
            self._taken.setdefault(work.task_id, Counter())[work.provider] += work.size
            cleared = self._troubles.pop(work.task_id, None) is not None
            if cleared or self._cache.is_whole(work.task_id):
                self.touch(work.task_id)
                self._make_room()
        else:
            log.warning("a piece was not had", kind=outcome.kind, error=str(outcome.error), **_shown(work))
            self._fail(given, outcome.kind)
            if isinstance(outcome.error, StoreError):
                self._troubles[work.task_id] = failed(outcome.error)
                if isinstance(outcome.error, StoreFullError):
                    self._make_room(free=work.size)
                self.touch(work.task_id)
            for other in others:
                self.give(*other)
        self._reports.send()

    def touch(self, name: str) -> None:
        """Something about a task may have changed: settle it."""
        self._dirty.add(name)
        if name not in self._settling:
            self._settling[name] = asyncio.create_task(self._settle_while_dirty(name))

    def reconsider(self) -> None:
        """Other tasks than before are :attr:`kept`."""
        if self._complete:
            for name in self._cache.tasks() - self._assigned.keys():
                self.touch(name)

    def trouble(self, name: str) -> DeliveryState | None:
        """Why the disk did not keep a task's pieces, when that was last tried; ``None``: it did."""
        return self._troubles.get(name)

    def _is_overlooked(self, assignment: Assignment) -> bool:
        """There is all to have, and nothing is given: are we misunderstood? Of blobs only what is wanted is given."""
        name = assignment.task_id
        wanted = bool(assignment.deliveries) or self.room.spared(name)
        return (
            wanted and bool(assignment.digest) and not self._cache.is_whole(name) and not self.downloads.fetches(name)
        )

    def _make_room(self, free: int = 0) -> None:
        """Let go of blobs if they take too much, or until ``free`` bytes come free."""
        held = {
            name: count
            for name, assignment in self._assigned.items()
            if not assignment.deliveries and name not in self._released and (count := self._cache.bytes_of(name))
        }
        for name in self.room.surplus(held, self._cache.is_whole, free=free):
            self._released.add(name)
            self.touch(name)

    def _fail(self, given: _Given, kind: str) -> None:
        work = given.work
        self._reports.piece_failed(PieceFailure(work.task_id, work.piece, work.provider, kind), given.giver)

    async def _cancel(self, name: str) -> None:
        await self.downloads.cancel(name)
        self._given = {key: givers for key, givers in self._given.items() if key[0] != name}

    # Settling one task

    async def _settle_while_dirty(self, name: str) -> None:
        try:
            while name in self._dirty:
                self._dirty.discard(name)
                await self._settle(name)
                self._reports.send()
        finally:
            del self._settling[name]

    async def _settle(self, name: str) -> None:
        assignment = self._assigned.get(name)
        try:
            if assignment is None:
                if self._complete and not self.kept(name):
                    await self._drop(name)
            elif name in self._released and not assignment.deliveries and not self.room.spared(name):
                await self._let_go(name)
            else:
                self._released.discard(name)
                await self._hold(assignment)
                await self._deliver(assignment)
        except (StoreError, DeliveryError) as error:
            log.warning("a task cannot be settled; trying again later", task=name, error=str(error))
            self._ready.discard(name)  # its cache may be gone: held anew before the next piece
            if isinstance(error, DigestMismatchError):
                self._reports.state_inventory(name)  # less is held than was said
            if isinstance(error, StoreError):
                self._troubles[name] = failed(error)
            if isinstance(error, StoreFullError) and assignment is not None:
                self._cramped.add(name)
                self._make_room(free=await self._cache.lacking(assignment))
            if assignment is not None:
                self._deliveries.state(assignment, failed(error))

    async def _drop(self, name: str) -> None:
        self._ready.discard(name)
        self._troubles.pop(name, None)
        self._taken.pop(name, None)
        self._whole_since.pop(name, None)
        await self._withdraw(name)
        await self._cancel(name)
        await self._cache.drop(name)
        self._waiting.pop(name, None)
        log.info("dropped a task", task=name)

    async def _let_go(self, name: str) -> None:
        """Drop a blob that may be fetched again. What it made room for is tried again at once."""
        if name not in self._cache.tasks():
            return
        size = self._cache.bytes_of(name)
        self._ready.discard(name)
        await self._cancel(name)
        await self._cache.drop(name)
        self._reports.state_inventory(name)
        log.info("dropped a blob to make room", task=name, size=size)
        cramped, self._cramped = self._cramped, set()
        for other in cramped - {name}:
            self.touch(other)

    async def _hold(self, assignment: Assignment) -> None:
        name = assignment.task_id
        try:
            if not self._cache.fits(assignment):
                self._ready.discard(name)
                await self._cancel(name)
                await self._cache.drop(name)
                self._reports.state_inventory(name)
            if await self._cache.hold(assignment) and self._assigned.get(name) == assignment:
                self._ready.add(name)
        except StoreError:
            self._ready.discard(name)
            raise
        finally:
            self._hand_on(name)

    def _hand_on(self, name: str) -> None:
        """Begin the work that waited for its room, or say that there is none."""
        if name in self._dirty:
            return  # assigned anew meanwhile: after the next settling
        for given in self._waiting.pop(name, ()):
            if name in self._ready:
                self.give(*given)
            else:
                self._fail(given, LOCAL)

    async def _deliver(self, assignment: Assignment) -> None:
        """Let the file appear at all its paths, once it is whole."""
        name = assignment.task_id
        await self._withdraw(name, assignment)
        if self._rests(assignment):
            self._troubles.pop(name, None)
            return
        try:
            file = await self._cache.check(assignment) if assignment.digest else None
        except RotError:
            await self._withdraw(name)
            raise
        if file is None:
            self._deliveries.state(assignment, self._troubles.get(name))
            return
        self._troubles.pop(name, None)
        await self._deliveries.publish(assignment, file.path)
        if taken := self._taken.pop(name, None):
            own = taken.pop("", 0)
            log.info("a task is whole", task=name, from_supernode=own, from_peers=taken.total())

    def _rests(self, assignment: Assignment) -> bool:
        """A blob is whole since a moment: nothing waits for us to read all of it once more."""
        name, now = assignment.task_id, asyncio.get_running_loop().time()
        if assignment.deliveries or not self._cache.is_whole(name):
            self._whole_since.pop(name, None)
            return False
        return now - self._whole_since.setdefault(name, now) < _BLOB_REST

    async def _withdraw(self, name: str, assignment: Assignment | None = None) -> None:
        """Unpublish what is not assigned; another task may wait for its path."""
        paths = set(await self._deliveries.withdraw(name, assignment.deliveries if assignment else ()))
        for other in self._assigned.values() if paths else ():
            if other.task_id != name and any(delivery.path in paths for delivery in other.deliveries):
                self.touch(other.task_id)


def _shown(work: Work) -> dict[str, object]:
    return {"task": work.task_id, "piece": work.piece, "provider": work.provider or "the supernode"}
