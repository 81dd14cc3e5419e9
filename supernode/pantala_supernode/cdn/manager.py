"""Completes each ordered copy. A read of the origin continues after failures and restarts."""

import asyncio
from collections.abc import Mapping

from pantala_pieces.errors import PieceMissingError
from pantala_protocol.reasons import Reason
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.copy_state import CopyState
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.cdn.table import CopyTable
from pantala_supernode.cdn.tools import FetchTools
from pantala_supernode.cdn.worker import Worker
from pantala_supernode.origin.gated import GatedReader
from pantala_supernode.origin.source import SourceChoice, SourceReader
from pantala_supernode.tasks.copy import Copy, CopyPhase, FetchOrder
from pantala_supernode.tasks.shares import Shares


class CDNManager:
    """Completes each copy for which there is an order. Each copy has its own job."""

    def __init__(
        self, copies: CopyTable, reader: SourceReader, tools: FetchTools, *, choose: SourceChoice, shares: Shares
    ) -> None:
        self.copies = copies
        self.gate = tools.gate
        self.worker = Worker(copies, GatedReader(reader, tools.gate, shares=shares), tools, choose)

    async def recover(self) -> None:
        """Find the copies on the volume, then verify them by hashing. Ordered copies are verified first.

        Raises :class:`pantala_supernode.errors.VolumeFailedError` if the volume cannot be read.
        """
        for file in await self.copies.load():
            self.copies.ensure(TaskID(file.meta.task_id)).attempts.recorder = Recorder(file, verified=False)
        self.worker.loaded.set()
        for copy in self.copies:
            self.worker.decide(copy)
        for copy in self.copies:
            await self.worker.verify(copy)

    def trigger(self, order: FetchOrder) -> None:
        """Carry out ``order``. An equal order has no effect. Another ``attempt`` retries a failed copy."""
        copy = self.copies.ensure(order.task_id)
        former = copy.order
        if order == former and copy.phase is not CopyPhase.PAUSED:
            return
        if former is not None and former.source.origin != order.source.origin and not copy.whole:
            copy.stop()  # the former repository may be slow on purpose
        resumed = copy.take(order)
        self.worker.decide(copy)
        retried = former is None or former.source.attempt != order.source.attempt
        moved = former is None or _location(former) != _location(order)
        if retried:
            copy.attempts.renew()
        if copy.phase is CopyPhase.SUCCESS:
            if copy.unclaimed:
                self._start(copy)
            return
        if copy.phase is CopyPhase.FAILED and not retried:
            return
        if retried and copy.failure is not None and copy.failure.final:
            self.worker.show(copy, CopyPhase.WAITING)
        if retried or resumed or moved:
            self._start(copy)

    def pause(self, task_id: TaskID) -> None:
        """Stop reading the origin, and keep the pieces. :meth:`trigger` continues. Does nothing for a complete copy."""
        copy = self.copies.get(task_id)
        if copy is not None and copy.pause():
            self.copies.on_change(task_id)

    def retire(self, task_id: TaskID) -> None:
        """Stop reading the origin, and keep the pieces as a cache, because no task wants the copy any more."""
        copy = self.copies.get(task_id)
        if copy is not None:
            copy.release()
            self.copies.on_change(task_id)

    def retry(self, reason: Reason) -> None:
        """Retry the copies that failed for ``reason`` at once, because the cause may have ended."""
        for copy in self.copies:
            if copy.order is not None and copy.failure is not None and copy.failure.reason == reason:
                copy.attempts.renew()
                self._start(copy)

    def refetch(self, task_id: TaskID, pieces: int) -> None:
        """Fetch pieces (bit mask) again, because they are damaged on the volume. The copy keeps its generation."""
        copy = self.copies.get(task_id)
        if copy is None or copy.attempts.recorder is None:
            return
        copy.attempts.lost |= pieces
        copy.attempts.renew()
        if copy.phase is CopyPhase.SUCCESS:
            copy.become(CopyPhase.WAITING)
        self.copies.on_change(task_id)
        if copy.order is not None and copy.phase is not CopyPhase.PAUSED:
            self._start(copy)

    async def vouch(self, task_id: TaskID, generation: str, origin: str) -> None:
        """Record that a repository sent the whole blob of a copy. Does nothing if the copy has been replaced.

        Raises :class:`pantala_supernode.errors.SupernodeError` if the record cannot be written.
        """
        copy = self.copies.get(task_id)
        recorder = copy.attempts.recorder if copy is not None else None
        if copy is not None and recorder is not None and recorder.meta.generation == generation:
            await copy.executor.run(lambda: recorder.vouch(origin))
            self.copies.on_change(task_id)

    def status(self, task_id: TaskID) -> Copy:
        """The state of a copy. For an unknown task: the state of a waiting copy without pieces."""
        copy = self.copies.get(task_id)
        return Copy(task_id) if copy is None else copy.snapshot()

    def kept_bytes(self, task_id: str) -> int:
        """How many bytes of the copy are on the volume, including unfinished pieces."""
        copy = self.copies.get(TaskID(task_id))
        recorder = copy.attempts.recorder if copy is not None else None
        return recorder.kept_bytes if recorder is not None else 0

    def tick(self, now: float) -> None:
        """Measure how fast bytes arrive, and tidy up. Call about once a second. ``now`` is in monotonic seconds."""
        self.worker.arrivals.tick(self._missing_bytes, now)
        self.copies.tidy()

    def piece_digest(self, task_id: TaskID, piece: int) -> bytes:
        """The digest of a cached piece. Raises :class:`pantala_pieces.errors.PieceMissingError`."""
        copy = self.copies.get(task_id)
        if copy is None or copy.attempts.recorder is None:
            raise PieceMissingError(f"piece {piece} of task {task_id} is not cached")
        return copy.attempts.recorder.piece_digest(piece)

    def _missing_bytes(self, task_id: TaskID) -> int | None:
        """How many bytes a copy lacks. ``None``: its length is not known."""
        copy = self.copies.get(task_id)
        recorder = copy.attempts.recorder if copy is not None else None
        if recorder is None or recorder.meta.length is None:
            return None
        return max(0, recorder.meta.length - recorder.kept_bytes)

    def _start(self, copy: CopyState) -> None:
        if self.copies.closed:
            return
        if copy.phase is CopyPhase.FAILED:
            copy.become(CopyPhase.RETRYING, copy.failure)
        if copy.running:
            copy.woken.set()
        else:
            job = self.worker.complete(copy, self.copies.blockers(copy))
            copy.job = asyncio.get_running_loop().create_task(job)


def _location(order: FetchOrder) -> tuple[str, Mapping[str, str]]:
    return order.source.url, order.source.headers
