"""The state of one copy."""

import asyncio
from dataclasses import replace
from enum import StrEnum

from pantala_protocol.statement import CDNStatus, Failure
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.attempts import Attempts
from pantala_supernode.cdn.disk import SerialExecutor
from pantala_supernode.origin.freshness import is_fresh
from pantala_supernode.tasks.copy import TRANSITIONS, Copy, CopyPhase, FetchOrder, FileSource

_IDLE = (CopyPhase.FOUND, CopyPhase.RELEASED)
_WORKING = (CopyPhase.WAITING, CopyPhase.RUNNING, CopyPhase.RETRYING)


class CopyUse(StrEnum):
    """How a copy was used for a new order."""

    HIT = "hit"
    """The copy was complete and known to be current."""
    REVALIDATED = "revalidated"
    """The copy was complete, and the origin confirmed it."""
    STALE = "stale"
    """The copy was complete. It was used without a confirmation, because the origin was not available."""
    MISS = "miss"
    """At least a part of the copy had to be read from the origin or from another replica."""


class CopyState:
    """One copy, its fetch order, and its job. Only the methods of this class change the phase and the order."""

    def __init__(self, task_id: TaskID, executor: SerialExecutor) -> None:
        self.task_id = task_id
        self.executor = executor
        self.attempts = Attempts()
        self.phase = CopyPhase.FOUND
        self.failure: Failure | None = None
        self.failed_source: FileSource | None = None
        """The source of the last try that failed."""
        self.retry_at = 0.0
        """See :attr:`Copy.retry_at`."""
        self.order: FetchOrder | None = None
        self.woken = asyncio.Event()
        """Set when the order changes while the job runs, to end a pause of the job."""
        self.job: asyncio.Task[None] | None = None

    @property
    def status(self) -> CDNStatus:
        return CDNStatus.SUCCESS if self.phase in _IDLE and self.whole else self.phase.status

    @property
    def whole(self) -> bool:
        """True if all pieces are on the volume and verified, and the copy is not stale."""
        attempts, recorder = self.attempts, self.attempts.recorder
        verified = recorder is not None and recorder.verified and bool(recorder.meta.digest)
        return verified and not attempts.stale and not attempts.lost

    @property
    def unclaimed(self) -> bool:
        """True if the file's metadata lacks the UID of a Task resource that the order names."""
        recorder, order = self.attempts.recorder, self.order
        return recorder is not None and order is not None and not order.claims <= frozenset(recorder.meta.claims)

    def become(self, phase: CopyPhase, failure: Failure | None = None) -> bool:
        """Enter a phase. Returns False if nothing changed, or if :data:`TRANSITIONS` forbids it."""
        allowed = phase is self.phase or phase in TRANSITIONS[self.phase]
        if not allowed or (phase, failure) == (self.phase, self.failure):
            return False
        self.phase, self.failure = phase, failure
        return True

    def take(self, order: FetchOrder) -> bool:
        """Replace the order. Returns whether the copy was paused."""
        self.order = order
        return self.phase is CopyPhase.PAUSED and self.become(CopyPhase.WAITING)

    def pause(self) -> bool:
        """Stop the job. Returns whether the phase changed. If the volume has not been read yet, drop the order."""
        if self.phase is CopyPhase.FOUND:
            self.order = None
            self.stop()
        if self.phase not in _WORKING:
            return False
        self.stop()
        return self.become(CopyPhase.PAUSED)

    def release(self) -> None:
        if self.phase is not CopyPhase.SUCCESS:
            self.stop()
        self.order = None
        self.become(CopyPhase.RELEASED)

    def decide(self, *, now: float, fresh_for: float) -> CopyUse | None:
        """Decide how to use a copy for a new order. ``None``: the origin must decide, or this was decided before.

        A complete copy that may be out of date is hidden until the origin has confirmed it.
        """
        if self.phase not in _IDLE or self.order is None:
            return None
        recorder, whole = self.attempts.recorder, self.whole
        if self.attempts.stale:
            self.become(CopyPhase.WAITING)
            return None
        if recorder is None or not recorder.meta.digest:
            self.become(CopyPhase.WAITING)
            return CopyUse.MISS
        if is_fresh(recorder.meta, self.order, now=now, fresh_for=fresh_for):
            self.become(CopyPhase.SUCCESS if whole else CopyPhase.WAITING)
            return CopyUse.HIT
        self.attempts.stale = True
        self.become(CopyPhase.WAITING)
        return None

    @property
    def running(self) -> bool:
        """True while a job works on the copy and was not stopped."""
        return self.job is not None and not self.job.done() and not self.job.cancelling()

    def stop(self) -> None:
        """Cancel the job, but only once. A second cancellation would end its wait for a running disk operation."""
        if self.job is not None and self.running:
            self.job.cancel()

    def snapshot(self) -> Copy:
        attempts, recorder = self.attempts, self.attempts.recorder
        attempt = self.order.source.attempt if self.order is not None else ""
        status = self.status
        seen = Copy(
            self.task_id,
            status,
            origin_bytes=attempts.origin_bytes,
            failure=self.failure,
            failed_source=self.failed_source if self.failure is not None else None,
            attempt=attempt,
            retry_at=self.retry_at,
        )
        if recorder is None or attempts.stale:
            return seen
        return replace(
            seen,
            generation=recorder.meta.generation,
            piece_size=recorder.meta.piece_size,
            length=recorder.meta.length,
            cached=recorder.have & ~attempts.lost,
            origins=recorder.meta.origins,
            client=recorder.client,
            digest=recorder.meta.digest if status is CDNStatus.SUCCESS else "",
        )
