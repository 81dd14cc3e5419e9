"""The supernode's heart: takes the operator's statement and the CDN's news to the managers and to the peers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable

import structlog

from pantala_pieces.errors import PieceMissingError, StoreError
from pantala_pieces.store import PieceStore
from pantala_protocol.statement import Changes, Statement, StatementReceipt
from pantala_protocol.sync import SyncAnswer, SyncRequest
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.manager import CDNManager
from pantala_supernode.errors import SupernodeError
from pantala_supernode.images.orders import StatedImages
from pantala_supernode.replicas.membership import Members
from pantala_supernode.swarm.managers import Managers
from pantala_supernode.sync.dispatch import Dispatcher
from pantala_supernode.sync.exchange import Exchange
from pantala_supernode.sync.reports import Reports
from pantala_supernode.tasks.manager import TaskChanges
from pantala_supernode.tasks.task import Lease

_log = structlog.get_logger(__name__)

_TICK = 1.0
"""Seconds between two looks at what time alone changes."""


class Supernode:
    """One supernode. ``clock`` tells monotonic seconds."""

    def __init__(
        self,
        boot: str,
        managers: Managers,
        members: Members,
        *,
        dispatcher: Dispatcher,
        exchange: Exchange,
        images: StatedImages,
        reports: Reports,
        cdn: CDNManager,
        store: PieceStore,
        clock: Callable[[], float],
    ) -> None:
        self.boot = boot
        self.members = members
        self.listeners: list[Callable[[TaskID], None]] = []
        """Told the ID of a task whose copy or lease changed, on the event loop."""
        self.on_statement: list[Callable[[], None]] = []
        """Called after a statement was taken."""
        self.on_recovery: list[Callable[[], None]] = []
        """Called once the volume was read."""
        self.stated = 0
        """How many Task resources the statement in force wants something of this supernode for."""
        self.recovered = False
        """The volume was read; before that nothing can be said of what is cached."""
        self.dropped = 0
        """Copies that were removed because nobody states them any more."""
        self._tasks = managers.tasks
        self._dfget_tasks = managers.dfget_tasks
        self._progress = managers.progress
        self._dispatcher = dispatcher
        self._exchange = exchange
        self._images = images
        self._reports = reports
        self._cdn = cdn
        self._store = store
        self._clock = clock
        self._deletions: dict[TaskID, asyncio.Task[None]] = {}
        self._inspections: set[asyncio.Task[None]] = set()

    def state(self, statement: Statement) -> StatementReceipt:
        """Take the full set of what is wanted. Raises :class:`ValueError` for what no operator states."""
        if statement.membership is not None and not statement.member:
            raise ValueError("a membership says nothing to a supernode that is not told its name among the members")
        first = not self._tasks.revision
        restated = self._tasks.state(statement, now=self._clock())
        moved, self.stated = self.members.take(statement), len(statement.tasks)
        self._apply(restated)
        if first or moved:
            self._exchange.all_assignments_changed()
        self._exchange.images_changed(self._images.take(statement))
        for listener in self.on_statement:
            listener()
        self._reports.touch_statement()
        return StatementReceipt(boot=self.boot, revision=statement.revision)

    def lease(self, task_id: str, lease: Lease) -> None:
        """Want a task for clients without a Task resource. Raises :class:`ValueError` for no task ID."""
        self._apply(self._tasks.lease(task_id, lease))

    def end_lease(self, task_id: str, *, keep: bool = False) -> None:
        """Those who hold the lease do not want the file any more; ``keep`` what the volume has of it as a cache."""
        self._apply(self._tasks.end_lease(task_id, keep=keep))

    def assignments_changed(self, peers: Iterable[str]) -> None:
        """What some peers shall hold may have changed."""
        self._exchange.assignments_changed(peers)

    async def changes(self, *, boot: str, since: int, wait: float) -> Changes:
        """What changed since ``since``."""
        return await self._reports.changes(boot=boot, since=since, wait=wait)

    async def sync(self, request: SyncRequest, host: str) -> SyncAnswer:
        """One exchange of a peer."""
        return await self._exchange.sync(request, host)

    def copy_changed(self, task_id: TaskID) -> None:
        """The CDN has news of a task: tell those whom it concerns."""
        task = self._tasks.get(task_id)
        if task is None:
            return
        before, copy = task.copy, self._cdn.status(task_id)
        if copy == before:
            return
        self._tasks.update(task_id, copy)
        swarm = self._progress.init_task(task_id)
        if copy.generation != before.generation:
            self._exchange.task_restarted(task_id)
        swarm.cached, swarm.arriving = copy.cached, not task.complete
        if (copy.length, copy.digest, copy.status) != (before.length, before.digest, before.status):
            self._exchange.task_changed(task)
        if (copy.cached, copy.status) != (before.cached, before.status):
            self._dispatcher.serve_waiting(task_id)
        self._reports.touch_task(task_id)
        self._tell(task_id)

    def accused(self, task_id: TaskID, piece: int) -> None:
        """A peer says that our piece is wrong or missing: look at the disk, and fetch it anew if that is true."""
        inspection = asyncio.create_task(self._inspect(task_id, piece))
        self._inspections.add(inspection)
        inspection.add_done_callback(self._inspections.discard)

    async def run(self) -> None:
        """Read the volume, then look after what time alone changes, until cancelled."""
        await self._cdn.recover()
        self.recovered = True
        for listener in self.on_recovery:
            listener()
        while True:
            await asyncio.sleep(_TICK)
            self._apply(self._tasks.expire(now=self._clock()))
            self._exchange.tick()

    def release(self) -> None:
        """Answer everybody who waits; those who are to be kept from coming back are cut off before."""
        self._exchange.close()
        self._reports.release()

    async def close(self) -> None:
        """Stop fetching."""
        for work in (*self._deletions.values(), *self._inspections):
            work.cancel()
        await asyncio.gather(*self._deletions.values(), *self._inspections, return_exceptions=True)
        await self._cdn.copies.close()

    def _apply(self, restated: TaskChanges) -> None:
        for task_id in restated.deleted:
            self._forget(task_id)
            self._delete(task_id, restated.dropped)
            self._tell(task_id)
        for task_id in restated.retired:
            self._forget(task_id)
            self._cdn.retire(task_id)
            self._tell(task_id)
        for task_id in restated.tasks:
            self._ask_cdn(task_id)
            self._reports.touch_task(task_id)
        self._exchange.assignments_changed(restated.peers)
        for uid in restated.dropped:
            self._reports.touch_dropped(uid)

    def _forget(self, task_id: TaskID) -> None:
        self._progress.delete_task(task_id)
        self._dfget_tasks.delete_task(task_id)

    def _tell(self, task_id: TaskID) -> None:
        for listener in self.listeners:
            listener(task_id)

    def _ask_cdn(self, task_id: TaskID) -> None:
        task = self._tasks.get(task_id)
        if task is None:
            return
        if task.suspended:
            self._cdn.pause(task_id)
        else:
            self._cdn.trigger(task.order())
        self.copy_changed(task_id)

    def _delete(self, task_id: TaskID, dropped: frozenset[str]) -> None:
        if task_id not in self._deletions:
            self._deletions[task_id] = asyncio.create_task(self._delete_copy(task_id, dropped))

    async def _delete_copy(self, task_id: TaskID, dropped: frozenset[str]) -> None:
        try:
            await self._cdn.copies.delete(task_id)
            self.dropped += 1
            _log.info("task deleted", task=task_id)
        except SupernodeError as error:  # nobody wants it, so the janitor tries again
            _log.warning("cannot delete a task from the volume; it is tried again", task=task_id, error=str(error))
        finally:
            del self._deletions[task_id]
        for uid in dropped:
            self._reports.touch_dropped(uid)

    async def _inspect(self, task_id: TaskID, piece: int) -> None:
        file = self._store.get(task_id)
        if file is None:
            return
        try:
            expected = file.sha256(piece)
            data = await asyncio.to_thread(file.read, piece)
            right = expected == await asyncio.to_thread(lambda: hashlib.sha256(data).digest())
        except PieceMissingError:
            return
        except StoreError:
            right = False
        if not right:
            _log.error("a piece on the volume is wrong; it is fetched anew", task=task_id, piece=piece)
            self._cdn.refetch(task_id, piece)
