"""Applies the operator's statements, leases and the CDN's reports to the tasks and their copies."""

import asyncio
import time
from collections.abc import Callable

import structlog
from cachetools import TTLCache

from pantala_pieces.errors import PieceMissingError, StoreError
from pantala_pieces.file import PieceFile
from pantala_pieces.scrub import ScrubCandidate
from pantala_pieces.store import PieceStore
from pantala_pieces.verification import Finding
from pantala_process.flight import Turns, cancel_all
from pantala_protocol import ranges
from pantala_protocol.nodes import numbers
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import Statement, StatementReceipt
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.manager import CDNManager
from pantala_supernode.errors import ConflictError, SupernodeError
from pantala_supernode.events import Events
from pantala_supernode.replicas.membership import ReplicaSet
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.sync.feed import ChangeFeed
from pantala_supernode.tasks.manager import TaskChanges
from pantala_supernode.tasks.task import Lease
from pantala_supernode.tasks.tenancy import Tenancy
from pantala_supernode.volume.epochs import EpochFence

_log = structlog.get_logger(__name__)

_DAY = 86400

_AT_ONCE, _MOST_WAITING = 2, 256
"""The most accused pieces that are read at once, and the most that wait. The threads also have other work."""
_RIGHT, _RIGHT_SECONDS = 4096, 60.0
"""How many intact pieces are remembered, and for how long. A hostile peer may report a piece many times."""


class Supernode:
    """Keeps the desired tasks, and orders their copies from the CDN. ``clock`` returns monotonic seconds."""

    def __init__(
        self,
        boot: str,
        managers: Managers,
        members: ReplicaSet,
        cdn: CDNManager,
        feed: ChangeFeed,
        events: Events,
        fence: EpochFence,
        tenancy: Tenancy,
        *,
        clock: Callable[[], float],
    ) -> None:
        self.boot = boot
        self.stated = 0
        """The number of Task resources in the statement in force."""
        self.recovered = False
        """True once the volume was read, so that its copies are known."""
        self.dropped = 0
        """The number of copies that were deleted because no task wanted them any more."""
        self._tasks = managers.tasks
        self._dfget_tasks = managers.dfget_tasks
        self._progress = managers.progress
        self._members = members
        self._cdn = cdn
        self._feed = feed
        self._events = events
        self._fence = fence
        self._tenancy = tenancy
        self._clock = clock
        self._deletions: dict[TaskID, asyncio.Task[None]] = {}
        self._retired: set[TaskID] = set()
        """The tasks that ended a moment ago, and whose copies stay as a cache."""
        self._turns = Turns(self._settle)
        tenancy.tick(self._today)

    @property
    def _today(self) -> int:
        return int(time.time() // _DAY)

    def state(self, statement: Statement) -> StatementReceipt:
        """Apply a statement.

        Raises :class:`ValueError` if a task ID, a number or the membership is not valid. Raises :class:`ConflictError`
        if the statement's operator no longer leads, or if a newer statement is in force.
        """
        self._fence.check(statement.epoch)
        if statement.epoch <= self._fence.epoch and statement.revision < self._tasks.revision:
            text = f"revision {self._tasks.revision} is in force, so revision {statement.revision} is refused"
            raise ConflictError(f"{text}. The operator must read this supernode's changes first")
        statement = numbers.named(statement)
        if statement.membership is not None and not statement.member:
            raise ValueError("The operator's list of replicas lacks this supernode. Check the operator's flags.")
        first = not self._tasks.stated
        changes = self._tasks.state(statement, now=self._clock())
        self._fence.accept(statement.epoch)
        moved, self.stated = self._members.take(statement), len(statement.tasks)
        self.apply(changes)
        if first or moved:
            self._events.assignments_changed.publish(None)
        self._events.statement_taken.publish(statement)
        self._feed.touch_statement()
        return StatementReceipt(boot=self.boot, revision=statement.revision)

    def lease(self, task_id: str, lease: Lease) -> None:
        self.apply(self._tasks.lease(task_id, lease))

    def end_lease(self, task_id: str, *, keep: bool = False) -> None:
        self.apply(self._tasks.end_lease(task_id, keep=keep))

    def on_copy_report(self, task_id: TaskID) -> None:
        task = self._tasks.get(task_id)
        if task is None:
            return
        before, copy = task.copy, self._cdn.status(task_id)
        if copy == before:
            return
        left = self._tasks.update(task_id, copy)
        if left:
            self._events.assignments_changed.publish(left)
        self._tenancy.on_copy(task)
        self._events.copy_changed.publish(task, before)
        self._feed.touch_task(task_id)
        self._events.task_changed.publish(task_id)

    async def recover(self) -> None:
        await self._cdn.recover()
        self.recovered = True
        self._events.volume_read.publish()

    def on_sources(self) -> None:
        """Try denied sources again, because the SourcePolicies changed."""
        self._cdn.retry(Reason.SOURCE_DENIED)

    def tick(self) -> None:
        if self.recovered:
            self.apply(self._tasks.expire(now=self._clock()))
            self._tenancy.tick(self._today)

    async def close(self) -> None:
        self._turns.close()
        await cancel_all(self._deletions.values())
        await self._cdn.copies.close()

    def apply(self, changes: TaskChanges) -> None:
        self._tenancy.settle(changes)
        self._retired |= changes.retired
        self._turns.add((*changes.deleted, *changes.retired, *changes.tasks))
        self._events.assignments_changed.publish(changes.peers)
        for uid in changes.dropped:
            self._feed.touch_dropped(uid)

    def _settle(self, task_id: TaskID) -> None:
        """Order the copy of a task from the CDN, or end a task that is not wanted any more."""
        task, retired = self._tasks.get(task_id), task_id in self._retired
        self._retired.discard(task_id)
        if task is not None and self._is_wanted(task_id):
            if task.suspended:
                self._cdn.pause(task_id)
            else:
                self._cdn.trigger(task.order())
            self.on_copy_report(task_id)
        else:
            self._progress.delete_task(task_id)
            self._dfget_tasks.delete_task(task_id)
            if retired and task is None:
                self._cdn.retire(task_id)
            elif task_id not in self._deletions:
                self._deletions[task_id] = asyncio.create_task(self._delete_copy(task_id))
            self._events.task_changed.publish(task_id)
        self._feed.touch_task(task_id)

    def _is_wanted(self, task_id: TaskID) -> bool:
        task = self._tasks.get(task_id)
        return task is not None and (bool(task.wanted) or task.lease is not None)

    async def _delete_copy(self, task_id: TaskID) -> None:
        """Delete the copy, unless the task is wanted again. It may be wanted and dropped again during the deletion."""
        try:
            while not self._is_wanted(task_id):
                await self._cdn.copies.delete(task_id)
                self.dropped += 1
                _log.info("deleted the copy of a task", task=task_id)
                if self._cdn.copies.get(task_id) is None:
                    return
        except SupernodeError as error:  # no task wants the copy, so the janitor tries again
            _log.warning("cannot delete the copy of a task; trying again later", task=task_id, error=str(error))
        finally:
            del self._deletions[task_id]


class PieceInspector:
    """Checks pieces on the volume that a peer or replica reported as wrong or missing. Records the scrub's findings.

    The CDN fetches damaged pieces again. ``wall`` returns seconds since the epoch.
    """

    def __init__(self, store: PieceStore, cdn: CDNManager, *, wall: Callable[[], float] = time.time) -> None:
        self._store = store
        self._cdn = cdn
        self._wall = wall
        self._begun = wall()
        self._checked: dict[PieceFile, float] = {}
        self._inspections: dict[tuple[TaskID, str, int], asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._right: TTLCache[tuple[TaskID, str, int], None] = TTLCache(_RIGHT, _RIGHT_SECONDS)

    def inspect(self, task_id: TaskID, piece: int) -> None:
        """Read a piece in the background. If the piece is wrong or cannot be read, let the CDN fetch it again.

        A piece that was intact in the last minute is not read again.
        """
        file = self._store.get(task_id)
        if file is None:
            return
        key = task_id, file.meta.generation, piece
        if key not in self._inspections and key not in self._right and len(self._inspections) < _MOST_WAITING:
            self._inspections[key] = inspection = asyncio.create_task(self._inspect(file, key))
            inspection.add_done_callback(lambda _: self._inspections.pop(key, None))

    async def close(self) -> None:
        await cancel_all(self._inspections.values())

    def candidates(self) -> list[ScrubCandidate]:
        """The complete copies. The CDN has hashed each copy when it fetched the copy, or when the process began."""
        files = [file for file in self._store if self.serves(file, file.meta.digest)]
        self._checked = {file: self._checked.get(file, self._begun) for file in files}
        return [ScrubCandidate(file, file.meta.digest, checked) for file, checked in self._checked.items()]

    def serves(self, file: PieceFile, digest: str) -> bool:
        """True while the file is a complete copy with this digest."""
        copy = self._cdn.copies.get(TaskID(file.meta.task_id))
        current = copy is not None and copy.whole and self._store.get(file.meta.task_id) is file
        return current and file.meta.digest == digest

    async def conclude(self, file: PieceFile, digest: str, finding: Finding) -> None:
        """Record when a copy was verified, and let the CDN fetch its wrong pieces again."""
        if self.serves(file, digest):
            self._checked[file] = self._wall()
            if finding.wrong:
                self._refetch(TaskID(file.meta.task_id), finding.wrong)

    async def _inspect(self, file: PieceFile, key: tuple[TaskID, str, int]) -> None:
        task_id, _, piece = key
        try:
            async with self._turns:
                right = await asyncio.to_thread(file.read_verified, piece) is not None
        except PieceMissingError:
            return
        except StoreError:
            right = False
        if right:
            self._right[key] = None
        else:
            self._refetch(task_id, 1 << piece)

    def _refetch(self, task_id: TaskID, pieces: int) -> None:
        text = "pieces on the volume are damaged; the supernode fetches them again"
        _log.error(text, task=task_id, pieces=ranges.render(pieces))
        self._cdn.refetch(task_id, pieces)
