"""The CDN of the supernode: each wanted file once from its origin onto the volume, piece by piece, come what may."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext

import structlog

from pantala_pieces.errors import PieceMissingError
from pantala_pieces.store import PieceStore
from pantala_protocol.reasons import Reason, Retry
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.statement import CDNStatus, Failure
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.copy import Copy, FetchOrder
from pantala_supernode.cdn.fetch import Fetch, Limiter
from pantala_supernode.cdn.gate import Gate, GatedSource
from pantala_supernode.cdn.kept import Kept
from pantala_supernode.cdn.lane import Lane, settled
from pantala_supernode.cdn.recorder import Recorder
from pantala_supernode.cdn.retry import RetryBudget
from pantala_supernode.cdn.source import Siblings, Source
from pantala_supernode.errors import SupernodeError

log = structlog.get_logger(__name__)

Sleep = Callable[[float], Awaitable[None]]


class CDNManager:
    """Keeps the copies that are ordered. At most one reads an origin for a task, at most ``fetches`` do in all.

    ``on_change`` is called with a task's ID, on the event loop, whenever its :class:`Copy` changed: it must not block.
    """

    def __init__(
        self,
        store: PieceStore,
        source: Source,
        *,
        siblings: Siblings | None = None,
        on_change: Callable[[TaskID], None],
        rng: random.Random,
        sleep: Sleep = asyncio.sleep,
        limiter: Limiter | None = None,
        fetches: int = 16,
    ) -> None:
        self._store = store
        self._source = source
        self._siblings = siblings
        self._on_change = on_change
        self._rng = rng
        self._sleep = sleep
        self._limiter = limiter
        self._gate = Gate(fetches)
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="cdn")
        self._kept: dict[TaskID, Kept] = {}
        self._deletions: dict[TaskID, asyncio.Task[None]] = {}
        self._loaded = asyncio.Event()

    @property
    def queue(self) -> int:
        """How many copies wait for their turn to be fetched."""
        return self._gate.queue

    async def recover(self) -> None:
        """Load the volume, then hash what its journals name: only what is right counts.

        Orders may come before and meanwhile; those tasks are looked at first. Raises
        :class:`pantala_supernode.errors.VolumeFailedError` if the volume cannot be read at all.
        """
        for file in await Lane(self._threads).run(self._store.open):
            kept = self._keep(TaskID(file.meta.task_id))
            kept.history.recorder = Recorder(file, verified=False)
        self._loaded.set()
        for kept in list(self._kept.values()):
            await self._verify(kept)

    def trigger(self, order: FetchOrder) -> None:
        """Have ``order`` done. The same order again changes nothing; another ``attempt`` tries a failed copy anew."""
        kept = self._keep(order.task_id)
        former = kept.order
        if order == former and not kept.paused:
            return
        resumed = kept.paused
        kept.order, kept.paused = order, False
        anew = former is None or former.attempt != order.attempt
        elsewhere = former is None or (former.url, former.headers) != (order.url, order.headers)
        if anew:
            kept.history.budget = RetryBudget()
        if kept.status is CDNStatus.SUCCESS or (kept.given_up and not anew):
            return
        if anew and kept.failure is not None and kept.failure.final:
            self._show(kept, CDNStatus.WAITING)  # that it failed for good is not true any more
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
            self._show(kept, CDNStatus.WAITING)

    def retire(self, task_id: TaskID) -> None:
        """Nobody wants the task any more: stop reading, and keep what is there as a cache."""
        self.pause(task_id)

    def refetch(self, task_id: TaskID, piece: int) -> None:
        """Fetch one piece anew, because its bytes went bad on the volume. The generation stays."""
        kept = self._kept.get(task_id)
        if kept is None or kept.history.recorder is None:
            return
        kept.history.lost |= 1 << piece
        kept.history.budget = RetryBudget()
        self._show(kept, CDNStatus.WAITING if kept.status is CDNStatus.SUCCESS else kept.status, kept.failure)
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
        kept = self._kept.pop(task_id, None)
        former = self._deletions.get(task_id)
        if former is None or kept is not None:
            former = asyncio.get_running_loop().create_task(self._remove(task_id, kept, former))
            self._deletions[task_id] = former
        await asyncio.shield(former)

    async def close(self) -> None:
        """Stop everything; what is durable stays and goes on after the next :meth:`recover`."""
        tasks = [kept.task for kept in self._kept.values() if kept.task is not None]
        for kept in self._kept.values():
            kept.stop()
        await asyncio.gather(*tasks, *self._deletions.values(), return_exceptions=True)
        self._threads.shutdown(wait=False)
        self._store.close()

    def _keep(self, task_id: TaskID) -> Kept:
        if task_id not in self._kept:
            self._kept[task_id] = Kept(task_id, Lane(self._threads))
        return self._kept[task_id]

    def _start(self, kept: Kept) -> None:
        """Have somebody work on a copy, now."""
        kept.given_up = False
        if kept.running:
            kept.woken.set()
        else:
            before = [task for task in (kept.task, self._deletions.get(kept.task_id)) if task is not None]
            kept.task = asyncio.get_running_loop().create_task(self._complete(kept, before))

    async def _verify(self, kept: Kept) -> None:
        recorder = kept.history.recorder
        if recorder is None or recorder.verified or self._kept.get(kept.task_id) is not kept:
            return
        try:
            read_before = await kept.lane.run(recorder.recover)
            kept.history.origin_bytes += read_before  # not in one statement: others verify the same copy meanwhile
        except SupernodeError as error:
            log.warning("a copy on the volume cannot be read and is fetched anew", task=kept.task_id, error=str(error))
            kept.history.recorder = None
        if kept.history.recorder is not None and recorder.meta.digest:
            kept.status = CDNStatus.SUCCESS
        self._on_change(kept.task_id)

    async def _complete(self, kept: Kept, before: list[asyncio.Task[None]]) -> None:
        """Try until the copy is whole or nothing more is to be tried; first wait for who is still at its files."""
        for task in before:
            await settled(task)
        await self._loaded.wait()
        await self._verify(kept)
        while kept.status is not CDNStatus.SUCCESS and kept.order is not None:
            delay = await self._try(kept, kept.order)
            if delay is not None:
                await self._rest(kept, delay)
            elif not kept.woken.is_set():
                kept.given_up = kept.status is CDNStatus.FAILED
                return
            kept.woken.clear()

    async def _try(self, kept: Kept, order: FetchOrder) -> float | None:
        """Try once; seconds until the next try, or ``None``."""
        kept.woken.clear()
        try:
            async with self._sourced(order) as source:
                await self._fetch(kept, order, source).run()
        except SupernodeError as error:
            return self._failed(kept, order, error, str(error))
        except Exception as error:
            log.exception("a fetch broke", task=order.task_id, url=RedactedURL(order.url))
            return self._failed(kept, order, SupernodeError(), f"{type(error).__name__}. {Reason.INTERNAL.action}")
        if kept.history.lost:  # it came to light while the rest was fetched
            return 0.0
        log.info("a copy is whole", task=order.task_id, url=RedactedURL(order.url))
        self._show(kept, CDNStatus.SUCCESS)
        return None

    def _sourced(self, order: FetchOrder) -> AbstractAsyncContextManager[Source]:
        """Where one try reads from."""
        origin = GatedSource(self._source, self._gate, order.priority)
        return nullcontext(origin) if self._siblings is None else self._siblings.trying(order, origin)

    def _fetch(self, kept: Kept, order: FetchOrder, source: Source) -> Fetch:
        return Fetch(
            order,
            kept.history,
            store=self._store,
            source=source,
            lane=kept.lane,
            rng=self._rng,
            limiter=self._limiter,
            on_answer=lambda: self._show(kept, CDNStatus.RUNNING),
            on_pieces=lambda: self._on_change(kept.task_id),
        )

    def _failed(self, kept: Kept, order: FetchOrder, error: SupernodeError, message: str) -> float | None:
        delay = kept.history.budget.delay(error, order.retry_limit, self._rng)
        final = delay is None or error.reason.retry is not Retry.SOON
        log.warning("a fetch failed", task=order.task_id, reason=error.reason, message=message, next_try_in=delay)
        self._show(kept, CDNStatus.FAILED, Failure(error.reason, message, final))
        return delay

    async def _rest(self, kept: Kept, delay: float) -> None:
        """Wait ``delay`` seconds, or until another order wakes the task."""
        loop = asyncio.get_running_loop()
        waits = {loop.create_task(_awaited(self._sleep(delay))), loop.create_task(_awaited(kept.woken.wait()))}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _remove(self, task_id: TaskID, kept: Kept | None, former: asyncio.Task[None] | None) -> None:
        try:
            if former is not None:
                await asyncio.wait({former})
            if kept is not None and kept.task is not None:
                kept.stop()
                await asyncio.wait({kept.task})
            lane = kept.lane if kept is not None else Lane(self._threads)
            await lane.run(lambda: self._store.delete(task_id))
        finally:
            if self._deletions.get(task_id) is asyncio.current_task():
                del self._deletions[task_id]
            self._on_change(task_id)

    def _show(self, kept: Kept, status: CDNStatus, failure: Failure | None = None) -> None:
        if (kept.status, kept.failure) != (status, failure) or status is CDNStatus.SUCCESS:
            kept.status, kept.failure = status, failure
            self._on_change(kept.task_id)


async def _awaited(awaitable: Awaitable[object]) -> None:
    await awaitable
