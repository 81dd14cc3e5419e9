"""Work on copies: each is tried, rests after a failure and is tried again, until it is whole or nothing can be done."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

import structlog

from pantala_pieces.store import PieceStore
from pantala_protocol.geometry import PieceSizeRule
from pantala_protocol.reasons import Reason, Retry
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.statement import CDNStatus, Failure
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.copy_state import CopyState, Use
from pantala_supernode.cdn.fetch import Fetch
from pantala_supernode.cdn.intake import Limiter
from pantala_supernode.cdn.room import MakeRoom, Room
from pantala_supernode.errors import SupernodeError
from pantala_supernode.origin.source import Replicas, SourceReader
from pantala_supernode.tasks.copy import FetchOrder
from pantala_supernode.volume.lane import settled

log = structlog.get_logger(__name__)

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What copies are made with; all copies of one supernode share it."""

    store: PieceStore
    source: SourceReader
    replicas: Replicas | None
    limiter: Limiter | None
    """How fast all may together."""
    make_room: MakeRoom
    piece_size: PieceSizeRule
    fresh_for: float
    """Seconds for which a copy is used again without asking its origin, where that does not say."""
    rng: random.Random
    sleep: Sleep
    wall: Callable[[], float]
    """Seconds since the epoch."""


class Worker:
    """Works on copies. ``on_change`` is called with a task's ID whenever what can be seen of its copy changed."""

    def __init__(self, means: Means, on_change: Callable[[TaskID], None]) -> None:
        self.uses: Counter[Use] = Counter()
        """What became of those who wanted a task that nobody wanted before."""
        self.origin_bytes = 0
        """Bytes of body read from origins."""
        self.loaded = asyncio.Event()
        """It is known what the volume has."""
        self._means = means
        self._on_change = on_change

    async def verify(self, kept: CopyState) -> None:
        """Find out which pieces of a copy that was on the volume before are right, if that was not done yet."""
        recorder = kept.history.recorder
        if recorder is None or recorder.verified or kept.gone:
            return
        try:
            read_before = await kept.lane.run(recorder.recover)
            kept.history.origin_bytes += read_before  # not in one statement: others verify the same copy meanwhile
        except SupernodeError as error:
            log.warning("a copy on the volume cannot be read and is fetched anew", task=kept.task_id, error=str(error))
            kept.history.recorder = None
        if kept.history.recorder is recorder and recorder.meta.digest and not kept.history.doubted:
            kept.status = CDNStatus.SUCCESS
        self._on_change(kept.task_id)

    def take_up(self, kept: CopyState) -> None:
        """Decide what is used of a copy, if somebody wants it anew and it is known what there is."""
        if self.loaded.is_set():
            shown = kept.status
            use = kept.take_up(now=self._means.wall(), fresh_for=self._means.fresh_for)
            if use is not None:
                self.uses[use] += 1
            if kept.status is not shown:
                self._on_change(kept.task_id)

    async def complete(self, kept: CopyState, before: list[asyncio.Task[None]]) -> None:
        """Try until the copy is whole or nothing more is to be tried; first wait for who is still at its files."""
        for task in before:
            await settled(task)
        await self.loaded.wait()
        self.take_up(kept)
        await self.verify(kept)
        while kept.order is not None:
            if kept.status is CDNStatus.SUCCESS:
                if not await self._claimed(kept, kept.order):
                    return
                continue
            delay = await self._try(kept, kept.order)
            if delay is not None:
                await self._rest(kept, delay)
            elif kept.status is CDNStatus.FAILED and not kept.woken.is_set():
                kept.given_up = True
                return
            kept.woken.clear()

    async def _try(self, kept: CopyState, order: FetchOrder) -> float | None:
        """Try once; seconds until the next try, or ``None``."""
        kept.woken.clear()
        history = kept.history
        of_before = history.recorder if history.doubted else None
        try:
            async with self._sourced(order) as source:
                await self._fetch(kept, order, source).run()
        except SupernodeError as error:
            if history.doubted and not history.lost and order.stale_will_do and error.reason.retry is Retry.SOON:
                log.warning("the origin cannot be asked; its copy is used as it is", task=order.task_id, why=str(error))
                self._use(kept, Use.STALE)
                return None
            return self._failed(kept, order, error, str(error))
        except Exception as error:
            log.exception("a fetch broke", task=order.task_id, url=RedactedURL(order.source.url))
            return self._failed(kept, order, SupernodeError(), f"{type(error).__name__}. {Reason.INTERNAL.action}")
        if history.lost:  # it came to light while the rest was fetched
            return 0.0
        log.info("a copy is whole", task=order.task_id, url=RedactedURL(order.source.url))
        if of_before is not None:
            self._use(kept, Use.REVALIDATED if history.recorder is of_before else Use.MISS)
            return None
        self.show(kept, CDNStatus.SUCCESS)
        return None

    def _use(self, kept: CopyState, use: Use) -> None:
        """What was doubted is settled."""
        kept.history.doubted = False
        self.uses[use] += 1
        self.show(kept, CDNStatus.SUCCESS)

    async def _claimed(self, kept: CopyState, order: FetchOrder) -> bool:
        """Note on the volume who wants the whole as it is; tell whether that changed anything."""
        recorder = kept.history.recorder
        if recorder is None or not kept.unclaimed:
            return False
        try:
            await kept.lane.run(lambda: recorder.claim(order.claims))
        except SupernodeError as error:
            log.warning("cannot note who wants a copy", task=kept.task_id, error=str(error))
            return False
        return True

    def _sourced(self, order: FetchOrder) -> AbstractAsyncContextManager[SourceReader]:
        """Where one try reads from."""
        origin = self._means.source
        return nullcontext(origin) if self._means.replicas is None else self._means.replicas.trying(order, origin)

    def _fetch(self, kept: CopyState, order: FetchOrder, source: SourceReader) -> Fetch:
        return Fetch(
            order,
            kept.history,
            store=self._means.store,
            source=source,
            room=Room(kept.lane, self._means.store, kept.history, self._means.make_room),
            rng=self._means.rng,
            wall=self._means.wall,
            limiter=self._means.limiter,
            piece_size=self._means.piece_size,
            on_bytes=lambda count: self._came(kept, count),
            on_pieces=lambda: self._on_change(kept.task_id),
        )

    def _came(self, kept: CopyState, count: int) -> None:
        self.origin_bytes += count
        self.show(kept, CDNStatus.RUNNING)

    def _failed(self, kept: CopyState, order: FetchOrder, error: SupernodeError, message: str) -> float | None:
        delay = kept.history.budget.delay(error, order.retry_limit, self._means.rng)
        final = delay is None or error.reason.retry is not Retry.SOON
        log.warning("a fetch failed", task=order.task_id, reason=error.reason, message=message, next_try_in=delay)
        self.show(kept, CDNStatus.FAILED, Failure(error.reason, message, final))
        return delay

    async def _rest(self, kept: CopyState, delay: float) -> None:
        """Wait ``delay`` seconds, or until another order wakes the task."""
        loop = asyncio.get_running_loop()
        waits = {loop.create_task(_awaited(self._means.sleep(delay))), loop.create_task(_awaited(kept.woken.wait()))}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def show(self, kept: CopyState, status: CDNStatus, failure: Failure | None = None) -> None:
        """Let a copy's status be seen."""
        if (kept.status, kept.failure) != (status, failure) or status is CDNStatus.SUCCESS:
            kept.status, kept.failure = status, failure
            self._on_change(kept.task_id)


async def _awaited(awaitable: Awaitable[object]) -> None:
    await awaitable
