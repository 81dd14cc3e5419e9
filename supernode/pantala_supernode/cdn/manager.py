"""The CDN of the supernode: each wanted file once from its origin onto the volume, piece by piece, come what may."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping

from pantala_pieces.errors import PieceMissingError
from pantala_protocol import geometry
from pantala_protocol.geometry import PieceSizeRule
from pantala_protocol.statement import CDNStatus
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.copy_state import CopyState, Use
from pantala_supernode.cdn.intake import Limiter
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.cdn.retry import RetryBudget
from pantala_supernode.cdn.room import MakeRoom, no_room
from pantala_supernode.cdn.table import CopyTable
from pantala_supernode.cdn.worker import Means, Sleep, Worker
from pantala_supernode.origin.gate import Gate, GatedReader
from pantala_supernode.origin.source import Replicas, SourceReader
from pantala_supernode.tasks.copy import Copy, FetchOrder


class CDNManager:
    """Keeps the copies that are ordered. At most one reads an origin for a task, at most ``fetches`` do in all.

    A copy that nobody wanted for a while is used without asking its origin for ``fresh_for`` seconds, unless the origin
    said how long it holds; ``wall`` tells seconds since the epoch.
    """

    def __init__(
        self,
        copies: CopyTable,
        source: SourceReader,
        *,
        replicas: Replicas | None = None,
        rng: random.Random,
        sleep: Sleep = asyncio.sleep,
        limiter: Limiter | None = None,
        make_room: MakeRoom = no_room,
        piece_size: PieceSizeRule = geometry.piece_size,
        fresh_for: float = 60.0,
        wall: Callable[[], float] = time.time,
        fetches: int = 16,
    ) -> None:
        self.copies = copies
        self._gate = Gate(fetches)
        means = Means(
            store=copies.store,
            source=GatedReader(source, self._gate),
            replicas=replicas,
            limiter=limiter,
            make_room=make_room,
            piece_size=piece_size,
            fresh_for=fresh_for,
            rng=rng,
            sleep=sleep,
            wall=wall,
        )
        self._worker = Worker(means, copies.on_change)

    @property
    def uses(self) -> Mapping[Use, int]:
        """What became of those who wanted a task that nobody wanted before, as counts."""
        return self._worker.uses

    @property
    def origin_bytes(self) -> int:
        """Bytes of body read from origins since the start, also those that were of no use."""
        return self._worker.origin_bytes

    @property
    def queue(self) -> int:
        """How many copies wait for their turn to be fetched."""
        return self._gate.queue

    async def recover(self) -> None:
        """Load the volume, then hash what its journals name: only what is right counts.

        Orders may come before and meanwhile; those tasks are looked at first. Raises
        :class:`pantala_supernode.errors.VolumeFailedError` if the volume cannot be read at all.
        """
        for file in await self.copies.load():
            kept = self.copies.ensure(TaskID(file.meta.task_id))
            kept.history.recorder = Recorder(file, verified=False)
        self._worker.loaded.set()
        for kept in self.copies:
            self._worker.take_up(kept)
        for kept in self.copies:
            await self._worker.verify(kept)

    def trigger(self, order: FetchOrder) -> None:
        """Have ``order`` done. The same order again changes nothing; another ``attempt`` tries a failed copy anew."""
        kept = self.copies.ensure(order.task_id)
        former = kept.order
        if order == former and not kept.paused:
            return
        resumed = kept.paused
        kept.order, kept.paused = order, False
        self._worker.take_up(kept)
        anew = former is None or former.source.attempt != order.source.attempt
        elsewhere = former is None or _place(former) != _place(order)
        if anew:
            kept.history.budget = RetryBudget()
        if kept.status is CDNStatus.SUCCESS:
            if kept.unclaimed:
                self._start(kept)
            return
        if kept.given_up and not anew:
            return
        if anew and kept.failure is not None and kept.failure.final:
            self._worker.show(kept, CDNStatus.WAITING)  # that it failed for good is not true any more
        if anew or resumed or elsewhere:
            self._start(kept)

    def pause(self, task_id: TaskID) -> None:
        """Stop reading; what is there stays. :meth:`trigger` goes on. Nothing happens to an unknown or whole copy."""
        kept = self.copies.get(task_id)
        if kept is None or kept.paused or kept.status is CDNStatus.SUCCESS:
            return
        kept.paused = True
        kept.stop()
        if not kept.given_up:
            self._worker.show(kept, CDNStatus.WAITING)

    def retire(self, task_id: TaskID) -> None:
        """Nobody wants the task any more: stop reading, and keep what is there as a cache."""
        self.pause(task_id)
        kept = self.copies.get(task_id)
        if kept is not None:
            kept.order, kept.idle, kept.released = None, True, True

    def refetch(self, task_id: TaskID, piece: int) -> None:
        """Fetch one piece anew, because its bytes went bad on the volume. The generation stays."""
        kept = self.copies.get(task_id)
        if kept is None or kept.history.recorder is None:
            return
        kept.history.lost |= 1 << piece
        kept.history.budget = RetryBudget()
        self._worker.show(kept, CDNStatus.WAITING if kept.status is CDNStatus.SUCCESS else kept.status, kept.failure)
        if kept.order is not None and not kept.paused:
            self._start(kept)

    def status(self, task_id: TaskID) -> Copy:
        """How far a copy is; one that is not known waits with nothing."""
        kept = self.copies.get(task_id)
        return Copy(task_id) if kept is None else kept.snapshot()

    def piece_digest(self, task_id: TaskID, piece: int) -> bytes:
        """The sha256 of a cached piece. Raises :class:`pantala_pieces.errors.PieceMissingError`."""
        kept = self.copies.get(task_id)
        if kept is None or kept.history.recorder is None:
            raise PieceMissingError(f"piece {piece} of task {task_id} is not held")
        return kept.history.recorder.piece_digest(piece)

    def _start(self, kept: CopyState) -> None:
        """Have somebody work on a copy, now."""
        if self.copies.closed:
            return
        kept.given_up = False
        if kept.running:
            kept.woken.set()
        else:
            job = self._worker.complete(kept, self.copies.blockers(kept))
            kept.task = asyncio.get_running_loop().create_task(job)


def _place(order: FetchOrder) -> tuple[str, Mapping[str, str]]:
    return order.source.url, order.source.headers
