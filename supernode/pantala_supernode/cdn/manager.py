"""The CDN of the supernode: each wanted file once from its origin onto the volume, piece by piece, come what may."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from pantala_pieces.errors import PieceMissingError
from pantala_pieces.store import PieceStore
from pantala_protocol import geometry
from pantala_protocol.geometry import PieceSizeRule
from pantala_protocol.statement import CDNStatus
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.copy_state import CopyState, Use
from pantala_supernode.cdn.intake import Limiter
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.cdn.retry import RetryBudget
from pantala_supernode.cdn.room import MakeRoom, no_room
from pantala_supernode.cdn.worker import Means, Sleep, Worker
from pantala_supernode.errors import VolumeFailedError
from pantala_supernode.origin.gate import Gate, GatedReader
from pantala_supernode.origin.source import Siblings, SourceReader
from pantala_supernode.tasks.copy import Copy, FetchOrder
from pantala_supernode.volume.lane import SerialExecutor


class CDNManager:
    """Keeps the copies that are ordered. At most one reads an origin for a task, at most ``fetches`` do in all.

    ``on_change`` is called with a task's ID, on the event loop, whenever its :class:`Copy` changed: it must not block.
    A copy that nobody wanted for a while is used without asking its origin for ``fresh_for`` seconds, unless the origin
    said how long it holds; ``wall`` tells seconds since the epoch.
    """

    def __init__(
        self,
        store: PieceStore,
        source: SourceReader,
        *,
        siblings: Siblings | None = None,
        on_change: Callable[[TaskID], None],
        rng: random.Random,
        sleep: Sleep = asyncio.sleep,
        limiter: Limiter | None = None,
        make_room: MakeRoom = no_room,
        piece_size: PieceSizeRule = geometry.piece_size,
        fresh_for: float = 60.0,
        wall: Callable[[], float] = time.time,
        fetches: int = 16,
    ) -> None:
        self._store = store
        self._on_change = on_change
        self._gate = Gate(fetches)
        means = Means(
            store=store,
            source=GatedReader(source, self._gate),
            siblings=siblings,
            limiter=limiter,
            make_room=make_room,
            piece_size=piece_size,
            fresh_for=fresh_for,
            rng=rng,
            sleep=sleep,
            wall=wall,
        )
        self._worker = Worker(means, on_change)
        self._closed = False
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="cdn")
        self._kept: dict[TaskID, CopyState] = {}
        self._deletions: dict[TaskID, asyncio.Task[None]] = {}

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
        for file in await SerialExecutor(self._threads).run(self._store.open):
            kept = self._keep(TaskID(file.meta.task_id))
            kept.history.recorder = Recorder(file, verified=False)
        self._worker.loaded.set()
        for kept in self._kept.values():
            self._worker.take_up(kept)
        for kept in list(self._kept.values()):
            await self._worker.verify(kept)

    def trigger(self, order: FetchOrder) -> None:
        """Have ``order`` done. The same order again changes nothing; another ``attempt`` tries a failed copy anew."""
        kept = self._keep(order.task_id)
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
        kept = self._kept.get(task_id)
        if kept is None or kept.paused or kept.status is CDNStatus.SUCCESS:
            return
        kept.paused = True
        kept.stop()
        if not kept.given_up:
            self._worker.show(kept, CDNStatus.WAITING)

    def retire(self, task_id: TaskID) -> None:
        """Nobody wants the task any more: stop reading, and keep what is there as a cache."""
        self.pause(task_id)
        kept = self._kept.get(task_id)
        if kept is not None:
            kept.order, kept.idle, kept.released = None, True, True

    def released(self, task_id: TaskID) -> bool:
        """Whether a copy was wanted since the start, until :meth:`retire`."""
        kept = self._kept.get(task_id)
        return kept is not None and kept.released

    def refetch(self, task_id: TaskID, piece: int) -> None:
        """Fetch one piece anew, because its bytes went bad on the volume. The generation stays."""
        kept = self._kept.get(task_id)
        if kept is None or kept.history.recorder is None:
            return
        kept.history.lost |= 1 << piece
        kept.history.budget = RetryBudget()
        self._worker.show(kept, CDNStatus.WAITING if kept.status is CDNStatus.SUCCESS else kept.status, kept.failure)
        if kept.order is not None and not kept.paused:
            self._start(kept)

    def status(self, task_id: TaskID) -> Copy:
        """How far a copy is; one that is not known waits with nothing."""
        kept = self._kept.get(task_id)
        return Copy(task_id) if kept is None else kept.snapshot()

    def piece_digest(self, task_id: TaskID, piece: int) -> bytes:
        """The sha256 of a cached piece. Raises :class:`pantala_pieces.errors.PieceMissingError`."""
        kept = self._kept.get(task_id)
        if kept is None or kept.history.recorder is None:
            raise PieceMissingError(f"piece {piece} of task {task_id} is not held")
        return kept.history.recorder.piece_digest(piece)

    async def delete(self, task_id: TaskID) -> None:
        """Stop reading and remove all that the volume has of a task, known or not.

        Raises :class:`pantala_supernode.errors.VolumeFailedError`; then it can be asked for again.
        """
        if self._closed:
            raise VolumeFailedError(f"Task {task_id} stays on the volume until this supernode has started again.")
        kept = self._kept.pop(task_id, None)
        if kept is not None:
            kept.gone = True
        former = self._deletions.get(task_id)
        if former is None or kept is not None:
            former = asyncio.get_running_loop().create_task(self._remove(task_id, kept, former))
            self._deletions[task_id] = former
        await asyncio.shield(former)

    async def close(self) -> None:
        """Stop everything; what is durable stays and goes on after the next :meth:`recover`. Nothing more begins."""
        self._closed = True
        tasks = [kept.task for kept in self._kept.values() if kept.task is not None]
        for kept in self._kept.values():
            kept.stop()
        await asyncio.gather(*tasks, *self._deletions.values(), return_exceptions=True)
        self._threads.shutdown(wait=False)
        self._store.close()

    def _keep(self, task_id: TaskID) -> CopyState:
        if task_id not in self._kept:
            self._kept[task_id] = CopyState(task_id, SerialExecutor(self._threads))
        return self._kept[task_id]

    def _start(self, kept: CopyState) -> None:
        """Have somebody work on a copy, now."""
        if self._closed:
            return
        kept.given_up = False
        if kept.running:
            kept.woken.set()
        else:
            before = [task for task in (kept.task, self._deletions.get(kept.task_id)) if task is not None]
            kept.task = asyncio.get_running_loop().create_task(self._worker.complete(kept, before))

    async def _remove(self, task_id: TaskID, kept: CopyState | None, former: asyncio.Task[None] | None) -> None:
        try:
            if former is not None:
                await asyncio.wait({former})
            if kept is not None and kept.task is not None:
                kept.stop()
                await asyncio.wait({kept.task})
            lane = kept.lane if kept is not None else SerialExecutor(self._threads)
            await lane.run(lambda: self._store.delete(task_id))
        finally:
            if self._deletions.get(task_id) is asyncio.current_task():
                del self._deletions[task_id]
            self._on_change(task_id)


def _place(order: FetchOrder) -> tuple[str, Mapping[str, str]]:
    return order.source.url, order.source.headers
