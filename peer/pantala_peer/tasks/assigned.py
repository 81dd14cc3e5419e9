"""Carries out the supernodes' assignments and work: keeps tasks, downloads pieces and publishes files.

To settle a task is to compare its assignment with the disk, and to correct the difference. Earlier events do not
matter. Each task is settled on its own, and again if its assignment or its pieces changed meanwhile.
"""

import asyncio
from collections import Counter
from collections.abc import Collection

import structlog
from msgspec import structs

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.download.jobs import Downloads
from pantala_peer.errors import LOCAL, DeliveryError, FileMismatchError, RotError, failed
from pantala_peer.events import Assigned, DownloadEnded, DownloadsDelivered, FileDue, PeerEvents, WorkGiven
from pantala_peer.sync.assignment_set import fits
from pantala_peer.sync.supernodes import SupernodeSessions
from pantala_peer.tasks.deliveries import Deliveries
from pantala_peer.tasks.room import BlobRoom
from pantala_pieces.errors import StoreError, StoreFullError
from pantala_process.flight import cancel_all
from pantala_protocol.sync import Assignment, DeliveryState, PieceFailure, PieceWork

log = structlog.get_logger()


class AssignedTasks:
    """Makes the disk match the assignment of each task."""

    def __init__(
        self,
        supernodes: SupernodeSessions,
        cache: PieceCache,
        downloads: Downloads,
        deliveries: Deliveries,
        room: BlobRoom,
        events: PeerEvents,
    ) -> None:
        self._supernodes = supernodes
        self._cache = cache
        self._downloads = downloads
        self._deliveries = deliveries
        self._room = room
        self._events = events
        self._assigned: dict[str, Assignment] = {}
        self._complete = False
        self._ready: set[str] = set()
        """Tasks with a data file that can store pieces."""
        self._released: set[str] = set()
        """Blobs that were dropped to make room. The peer fetches a blob again when a reader or an order needs it."""
        self._cramped: set[str] = set()
        """Tasks that did not fit on the disk."""
        self._waiting: dict[str, list[WorkGiven]] = {}
        """Work for tasks that are not in ``_ready`` yet."""
        self._given: dict[tuple[str, int], list[WorkGiven]] = {}
        """Work by task and piece: first the running download, then other supernodes' work for the same piece."""
        self._troubles: dict[str, DeliveryState] = {}
        self._damage: dict[str, DeliveryState] = {}
        """Why a file was unpublished. The peer reports the reason until the file is published again."""
        self._received: dict[str, Counter[str]] = {}
        self._dirty: set[str] = set()
        self._settling: dict[str, asyncio.Task[None]] = {}
        events.subscribe(Assigned, self._on_assigned)
        events.subscribe(WorkGiven, self._on_work)
        events.subscribe(DownloadEnded, self._on_download_ended)
        events.subscribe(DownloadsDelivered, lambda _: supernodes.send(at_once=True))

    async def open(self) -> None:
        """Find and verify the pieces and files of an earlier process. Raises :class:`StoreError`."""
        await self._deliveries.open()
        changed = await self._cache.open()
        self._room.open((await self._cache.usage()).total)
        for name in changed:
            await self._deliveries.withdraw_changed(name)

    async def run(self, interval: float) -> None:
        """Compare all tasks with their assignments every ``interval`` seconds, until cancelled."""
        while True:
            await asyncio.sleep(interval)
            for name in self._assigned.keys() | self._unassigned():
                self.touch(name)
            for assignment in self._assigned.values():
                if self._is_overlooked(assignment):
                    self._supernodes.inventory_changed(assignment.task_id)
            self._make_room()
            self._supernodes.send()

    async def close(self) -> None:
        """Stop all work. Published files stay."""
        await cancel_all(self._settling.values())
        await self._downloads.close()

    def touch(self, name: str) -> None:
        """Settle a task soon, because its assignment or its pieces may have changed."""
        self._dirty.add(name)
        if name not in self._settling:
            self._settling[name] = asyncio.create_task(self._settle_while_dirty(name))

    def keep(self, names: Collection[str]) -> None:
        """Set the tasks that image orders keep. They stay even if no supernode assigns them."""
        self._room.order(names)
        for name in self._unassigned():
            self.touch(name)

    def trouble(self, name: str) -> DeliveryState | None:
        """Why the disk failed to store the task's pieces. ``None`` if the last attempt succeeded."""
        return self._troubles.get(name)

    # Events

    def _on_assigned(self, event: Assigned) -> None:
        former, self._assigned, self._complete = self._assigned, event.tasks, event.complete
        names = event.tasks.keys()
        touched = {name for name in former.keys() | names if former.get(name) != event.tasks.get(name)}
        touched |= self._unassigned()
        self._ready -= touched
        self._released &= names
        self._cramped &= names
        self._room.forget_others(names)
        for name in sorted(touched, key=lambda name: -event.tasks[name].priority if name in names else 0):
            self.touch(name)

    def _on_work(self, given: WorkGiven) -> None:
        """Download the piece. If the same download runs for another supernode, keep this work in case it fails."""
        work, supernode = given
        assignment = self._assigned.get(work.task_id)
        self._released.discard(work.task_id)
        if assignment is None or not fits(work, assignment):
            log.info("ignored work for a piece that is not assigned", **_described(work))
        elif self._cache.has(work.task_id, work.generation, work.piece):
            self._supernodes.piece_done(work.task_id, work.generation, work.piece)
            self._supernodes.send()
        elif work.task_id not in self._ready:
            self._waiting.setdefault(work.task_id, []).append(given)
            self.touch(work.task_id)
        else:
            queue = self._given.setdefault((work.task_id, work.piece), [])
            if queue and queue[0].supernode == supernode and queue[0].work.provider != work.provider:
                if self._downloads.redirect(work):  # the supernode has replaced the provider
                    queue[0] = given
                return
            if all(other.supernode != supernode for other in queue):
                queue.append(given)
            self._downloads.start(work)

    def _on_download_ended(self, event: DownloadEnded) -> None:
        work = event.work
        given, *others = self._given.pop((work.task_id, work.piece))
        if event.error is None:
            self._supernodes.piece_done(work.task_id, work.generation, work.piece)
            self._received.setdefault(work.task_id, Counter())[work.provider] += work.size
            cleared = self._troubles.pop(work.task_id, None) is not None
            if cleared or self._cache.is_whole(work.task_id):
                self.touch(work.task_id)
                self._make_room()
        else:
            why = str(event.error)
            log.warning(
                "a piece was not received; the supernode assigns it again",
                kind=event.kind,
                error=why,
                **_described(work),
            )
            trouble = failed(event.error) if isinstance(event.error, StoreError) else None
            self._fail(given, event.kind, trouble)
            if trouble is not None:
                self._troubles[work.task_id] = trouble
                if isinstance(event.error, StoreFullError):
                    self._make_room(free=work.size)
                self.touch(work.task_id)
            for other in others:
                self._on_work(other)

    def _unassigned(self) -> set[str]:
        """The tasks that must be removed, unless an order keeps them. Empty until all supernodes have answered."""
        return (self._cache.tasks() | self._deliveries.tasks()) - self._assigned.keys() if self._complete else set()

    def _is_overlooked(self, assignment: Assignment) -> bool:
        """True if pieces are missing, but no supernode gives work. The peer then reports all pieces again.

        Supernodes give work for a blob only while a reader or an order needs the blob.
        """
        name = assignment.task_id
        wanted = bool(assignment.deliveries) or self._room.must_stay(name)
        incomplete = bool(assignment.digest) and not self._cache.is_whole(name)
        return wanted and incomplete and not self._downloads.fetches(name)

    def _make_room(self, free: int = 0) -> None:
        """Drop blobs until they are within their limit, and ``free`` more bytes of the disk are free."""
        held = {
            name: count
            for name, assignment in self._assigned.items()
            if not assignment.deliveries and name not in self._released and (count := self._cache.bytes_of(name))
        }
        for name in self._room.surplus(held, self._cache.is_whole, free=free):
            self._released.add(name)
            self.touch(name)

    def _fail(self, given: WorkGiven, kind: str, trouble: DeliveryState | None = None) -> None:
        """Report a piece that was not received. ``trouble`` is the node's own failure, if any."""
        work = given.work
        failure = PieceFailure(work.task_id, work.piece, work.provider, kind)
        if trouble is not None:
            failure = structs.replace(failure, reason=trouble.reason, message=trouble.message)
        self._supernodes.piece_failed(failure, given.supernode)

    async def _cancel(self, name: str) -> None:
        await self._downloads.cancel(name)
        self._given = {key: queue for key, queue in self._given.items() if key[0] != name}

    # Settling one task

    async def _settle_while_dirty(self, name: str) -> None:
        try:
            while name in self._dirty:
                self._dirty.discard(name)
                await self._settle(name)
                self._supernodes.send()
        finally:
            del self._settling[name]

    async def _settle(self, name: str) -> None:
        assignment = self._assigned.get(name)
        try:
            if assignment is None:
                if self._complete and not self._room.is_ordered(name):
                    await self._drop(name)
            elif name in self._released and not assignment.deliveries and not self._room.must_stay(name):
                await self._release(name)
            else:
                self._released.discard(name)
                await self._hold(assignment)
                await self._deliver(assignment)
        except (StoreError, DeliveryError) as error:
            await self._on_trouble(name, assignment, error)

    async def _on_trouble(self, name: str, assignment: Assignment | None, error: StoreError | DeliveryError) -> None:
        log.warning("a file cannot be stored or published; trying again later", task=name, error=str(error))
        self._ready.discard(name)  # the data file may be lost: open the file again before the next piece
        if isinstance(error, FileMismatchError):
            self._supernodes.inventory_changed(name)
        if isinstance(error, StoreError):
            self._troubles[name] = failed(error)
        if isinstance(error, StoreFullError) and assignment is not None:
            self._cramped.add(name)
            self._make_room(free=await self._cache.lacking(assignment))
        if assignment is not None:
            self._deliveries.report(assignment, failed(error))

    async def _drop(self, name: str) -> None:
        await self._withdraw(name)
        await self._cancel(name)
        if name in self._assigned or self._room.is_ordered(name):
            return  # it is wanted again since then, so its pieces stay
        for known in (self._troubles, self._received, self._damage, self._waiting):
            known.pop(name, None)
        await self._drop_pieces(name)
        log.info("removed a task from the cache", task=name)

    async def _drop_pieces(self, name: str) -> None:
        self._ready.discard(name)
        await self._cancel(name)
        await self._cache.drop(name)
        self._supernodes.inventory_changed(name)

    async def _release(self, name: str) -> None:
        """Drop a blob to make room, and try again to hold the tasks that did not fit."""
        if name not in self._cache.tasks():
            return
        size = self._cache.bytes_of(name)
        await self._drop_pieces(name)
        log.info("removed an image's blob to make room", task=name, size=size)
        cramped, self._cramped = self._cramped, set()
        for other in cramped - {name}:
            self.touch(other)

    async def _hold(self, assignment: Assignment) -> None:
        name = assignment.task_id
        try:
            if name in self._cache.unread:
                if not await self._cache.verify(name):
                    await self._deliveries.withdraw_changed(name)
                self._supernodes.inventory_changed(name)
            if not self._cache.fits(assignment):
                log.info("the copy has other content, or its data is missing or denied; fetching it again", task=name)
                await self._drop_pieces(name)
            if await self._cache.hold(assignment) and self._assigned.get(name) == assignment:
                self._ready.add(name)
        except StoreError as error:
            self._ready.discard(name)
            self._troubles[name] = failed(error)
            raise
        finally:
            self._start_waiting(name)

    def _start_waiting(self, name: str) -> None:
        """Start the work that waited for the task's data file. Without a data file, report the work as failed."""
        if name in self._dirty:
            return  # the assignment changed meanwhile: wait until the task is settled again
        for given in self._waiting.pop(name, ()):
            if name in self._ready:
                self._on_work(given)
            else:
                self._fail(given, LOCAL, self._troubles.get(name))

    async def _deliver(self, assignment: Assignment) -> None:
        """Publish the file at all its paths if the file is complete."""
        name = assignment.task_id
        await self._withdraw(name, assignment)
        try:
            file = await self._cache.check(assignment) if assignment.digest else None
        except FileMismatchError as error:
            await self._remove_from_service(name, error)
            raise
        if file is None:
            self._deliveries.report(assignment, self._troubles.get(name) or self._damage.get(name))
            return
        self._troubles.pop(name, None)
        self._damage.pop(name, None)
        if not await self._deliveries.publish(assignment, file.path):
            self._cramped.add(name)
            self._make_room(free=1)
        if self._cache.is_due(name):
            self._events.emit(FileDue())
        if received := self._received.pop(name, None):
            own = received.pop("", 0)
            log.info("the node has a complete file", task=name, from_supernode=own, from_peers=received.total())

    async def _remove_from_service(self, name: str, error: FileMismatchError) -> None:
        """Unpublish a wrong file. If pieces are wrong, drop these pieces, so that the peer fetches them again."""
        if name in self._deliveries.tasks():
            await self._withdraw(name)
        if isinstance(error, RotError):
            self._damage[name] = failed(error)
            self._ready.discard(name)
            await self._cancel(name)
            await self._cache.repair(name)

    async def _withdraw(self, name: str, assignment: Assignment | None = None) -> None:
        """Unpublish the paths that are not assigned, and let other tasks publish at them."""
        paths = set(await self._deliveries.withdraw(name, assignment.deliveries if assignment else ()))
        for other in self._assigned.values() if paths else ():
            if other.task_id != name and any(delivery.path in paths for delivery in other.deliveries):
                self.touch(other.task_id)


def _described(work: PieceWork) -> dict[str, object]:
    return {"task": work.task_id, "piece": work.piece, "provider": work.provider or "the supernode"}
