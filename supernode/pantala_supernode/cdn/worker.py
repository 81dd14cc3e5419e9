"""The job that completes one copy: it tries, waits after a failure, and tries again."""

import asyncio
import time
from collections import Counter

import structlog

from pantala_pieces.errors import StoreError
from pantala_process import lifecycle
from pantala_protocol.reasons import Reason, Retry
from pantala_protocol.redaction import RedactedURL
from pantala_protocol.statement import Failure
from pantala_supernode.cdn.copy_state import CopyState, CopyUse
from pantala_supernode.cdn.disk import VolumeWriter, settled
from pantala_supernode.cdn.fetch import Fetch
from pantala_supernode.cdn.table import CopyTable
from pantala_supernode.cdn.tools import FetchTools
from pantala_supernode.errors import SupernodeError
from pantala_supernode.origin.arrivals import Arrivals
from pantala_supernode.origin.gated import GatedReader
from pantala_supernode.origin.source import SourceChoice, SourceReader
from pantala_supernode.tasks.copy import CopyPhase, FetchOrder

log = structlog.get_logger(__name__)

_AT_ONCE = 64
"""The most jobs that begin without a pause for other work."""


class Worker:
    """Fetches copies until they are complete."""

    def __init__(self, copies: CopyTable, reader: GatedReader, tools: FetchTools, choose: SourceChoice) -> None:
        self.uses: Counter[CopyUse] = Counter()
        """Counts how copies were used for new orders."""
        self.origin_bytes = 0
        """Bytes of bodies that were read from origins, including bytes that were discarded."""
        self.arrivals = Arrivals()
        """How fast the bytes of each copy arrive."""
        self.loaded = asyncio.Event()
        """Set once the copies on the volume are known."""
        self._beginning = asyncio.Semaphore(_AT_ONCE)
        self._store = copies.store
        self._on_change = copies.on_change
        self._reader = reader
        self._tools = tools
        self._choose = choose

    async def verify(self, copy: CopyState) -> SupernodeError | None:
        """Verify a copy from the volume, and forget it if the disk has lost it.

        Returns any other error, such as a read-only volume. It may pass, so the copy stays, unverified.
        """
        recorder = copy.attempts.recorder
        if recorder is None or recorder.verified or copy.phase is CopyPhase.REMOVED:
            return None
        try:
            read = await copy.executor.run(recorder.recover)
            copy.attempts.origin_bytes += read
        except SupernodeError as error:
            if not (isinstance(error.__cause__, StoreError) and error.__cause__.lost):
                log.warning("a file on the volume cannot be verified now", task=copy.task_id, error=str(error))
                return error
            log.warning("an unreadable file on the volume is fetched again", task=copy.task_id, error=str(error))
            copy.attempts.recorder = None
        if copy.whole and copy.attempts.recorder is recorder and copy.order is not None:
            copy.become(CopyPhase.SUCCESS)
        self._on_change(copy.task_id)
        return None

    def decide(self, copy: CopyState) -> None:
        """Decide how to use a copy for a new order. Does nothing before the copies on the volume are known."""
        if self.loaded.is_set():
            shown = copy.status
            use = copy.decide(now=self._tools.wall(), fresh_for=self._tools.fresh_for)
            if use is not None:
                self.uses[use] += 1
            if copy.status is not shown:
                self._on_change(copy.task_id)

    async def complete(self, copy: CopyState, blockers: list[asyncio.Task[None]]) -> None:
        """Try until the copy is complete or no try is allowed. First wait for ``blockers``, which use its files."""
        for job in blockers:
            await settled(job)
        await self.loaded.wait()
        async with self._beginning:  # else ten thousand new jobs would hold up all peers for a second
            await asyncio.sleep(0)
        self.decide(copy)
        while copy.order is not None:
            if copy.phase is CopyPhase.SUCCESS:
                if not await self._claim(copy, copy.order):
                    return
                continue
            delay = await self._try(copy, copy.order)
            if (me := asyncio.current_task()) is not None and me.cancelling():
                return  # the end of a transfer may have hidden the cancellation
            if delay is not None:
                await lifecycle.until(copy.woken, self._tools.sleep(delay))
            elif copy.phase is CopyPhase.FAILED:
                if not copy.woken.is_set():
                    return
                copy.become(CopyPhase.RETRYING, copy.failure)
            copy.woken.clear()

    def show(self, copy: CopyState, phase: CopyPhase, failure: Failure | None = None) -> None:
        if copy.become(phase, failure):
            self._on_change(copy.task_id)

    async def _try(self, copy: CopyState, order: FetchOrder) -> float | None:
        """Try once. Returns the seconds until the next try. ``None``: no further try."""
        copy.woken.clear()
        attempts = copy.attempts
        if (unreadable := await self.verify(copy)) is not None:
            return self._failed(copy, order, unreadable, str(unreadable))
        if copy.phase is CopyPhase.SUCCESS:
            return None
        asked_about = attempts.recorder if attempts.stale else None
        arrival = self.arrivals.begin(copy.task_id, RedactedURL(order.source.url))
        try:
            async with self._choose(order, self._reader.followed(arrival)) as reader:
                fetch = self._fetch(copy, order, reader)
                with arrival.following(fetch.received):
                    await fetch.run()
        except SupernodeError as error:
            if attempts.stale and not attempts.lost and order.stale_will_do and error.reason.retry is Retry.SOON:
                log.warning("the origin is not available; using an older copy", task=order.task_id, error=str(error))
                self._use(copy, CopyUse.STALE)
                return None
            return self._failed(copy, order, error, str(error))
        except Exception as error:
            log.exception("a download failed because of a bug", task=order.task_id, url=RedactedURL(order.source.url))
            return self._failed(
                copy, order, SupernodeError(), f"A bug: {type(error).__name__}. {Reason.INTERNAL.action}"
            )
        if attempts.lost:  # these pieces were found damaged during the fetch
            return 0.0
        log.info("the supernode has a whole file", task=order.task_id, url=RedactedURL(order.source.url))
        if asked_about is not None:
            self._use(copy, CopyUse.REVALIDATED if attempts.recorder is asked_about else CopyUse.MISS)
        else:
            self.show(copy, CopyPhase.SUCCESS)
        return None

    def _use(self, copy: CopyState, use: CopyUse) -> None:
        copy.attempts.stale = False
        self.uses[use] += 1
        self.show(copy, CopyPhase.SUCCESS)

    async def _claim(self, copy: CopyState, order: FetchOrder) -> bool:
        """Record on the volume which Task resources use a complete copy. Returns whether the record changed."""
        recorder = copy.attempts.recorder
        if recorder is None or not copy.unclaimed:
            return False
        try:
            await copy.executor.run(lambda: recorder.claim(order.claims))
        except SupernodeError as error:
            log.warning("cannot record on the volume which Tasks want a copy", task=copy.task_id, error=str(error))
            return False
        return True

    def _fetch(self, copy: CopyState, order: FetchOrder, reader: SourceReader) -> Fetch:
        def on_bytes(count: int) -> None:
            self.origin_bytes += count
            self.show(copy, CopyPhase.RUNNING)

        return Fetch(
            order,
            copy.attempts,
            reader,
            VolumeWriter(copy.executor, self._store, copy.attempts, self._tools.make_room),
            self._tools,
            on_bytes=on_bytes,
            on_pieces=lambda: self._on_change(copy.task_id),
        )

    def _failed(self, copy: CopyState, order: FetchOrder, error: SupernodeError, message: str) -> float | None:
        delay = copy.attempts.budget.delay(error, order.retry_limit, self._tools.rng)
        final = delay is None or error.reason.retry is not Retry.SOON
        log.warning("a download failed", task=order.task_id, reason=error.reason, message=message, next_try_in=delay)
        phase = CopyPhase.FAILED if delay is None else CopyPhase.RETRYING
        copy.failed_source, copy.retry_at = order.source, time.monotonic() + (error.retry_after or 0.0)
        copy.become(phase, Failure(error.reason, message, final))
        self._on_change(copy.task_id)  # also after an equal failure, because the time of the next try is another one
        return delay
