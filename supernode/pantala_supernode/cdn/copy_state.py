"""One task's copy as the CDN manages it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from pantala_protocol.statement import CDNStatus, Failure
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.attempts import Attempts
from pantala_supernode.origin.freshness import is_sure
from pantala_supernode.tasks.copy import Copy, FetchOrder
from pantala_supernode.volume.lane import SerialExecutor


class Use(StrEnum):
    """What became of somebody's wish for a file."""

    HIT = "hit"
    """The whole was there, and sure to be right."""
    REVALIDATED = "revalidated"
    """The whole was there, and the origin confirmed it."""
    STALE = "stale"
    """The whole was there, and the origin could not be asked."""
    MISS = "miss"
    """All or a part of it was to be read from the origin."""


@dataclass(eq=False)
class CopyState:
    """One task's copy and who works on it."""

    task_id: TaskID
    lane: SerialExecutor
    order: FetchOrder | None = None
    paused: bool = False
    released: bool = False
    """Somebody wanted it since the start, and said to want it no more."""
    gone: bool = False
    """It was deleted."""
    idle: bool = True
    """Nobody wants it, or whether what is there is right for who does was not decided yet."""
    given_up: bool = False
    """The last failure is not tried again; a new attempt is wanted."""
    status: CDNStatus = CDNStatus.WAITING
    failure: Failure | None = None
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.history = Attempts()
        self.woken = asyncio.Event()

    @property
    def unclaimed(self) -> bool:
        """Some of those who want the whole as it is are not noted on the volume."""
        recorder, order = self.history.recorder, self.order
        return recorder is not None and order is not None and not order.claims <= frozenset(recorder.meta.claims)

    def take_up(self, *, now: float, fresh_for: float) -> Use | None:
        """Somebody wants what nobody wanted before: decide what is used of it. ``None``: that was decided already.

        A whole copy that may be out of date does not show any more, until the origin was asked.
        """
        recorder, order = self.history.recorder, self.order
        if not self.idle or order is None:
            return None
        self.idle = False
        if self.history.doubted:
            return None
        if recorder is None or not recorder.meta.digest:
            return Use.MISS
        if is_sure(recorder.meta, order, now=now, fresh_for=fresh_for):
            return Use.HIT
        self.history.doubted = True
        self.status = CDNStatus.WAITING
        return None

    @property
    def running(self) -> bool:
        """Somebody works on it, and was not told to stop."""
        return self.task is not None and not self.task.done() and not self.task.cancelling()

    def stop(self) -> None:
        """Tell who works on it to stop, once: a second cancellation would not wait for the disk."""
        if self.task is not None and self.running:
            self.task.cancel()

    def snapshot(self) -> Copy:
        """The copy as it is now."""
        attempt = self.order.source.attempt if self.order is not None else ""
        recorder = self.history.recorder
        if recorder is None or self.history.doubted:
            return Copy(
                self.task_id,
                self.status,
                origin_bytes=self.history.origin_bytes,
                failure=self.failure,
                attempt=attempt,
            )
        return Copy(
            task_id=self.task_id,
            status=self.status,
            generation=recorder.meta.generation,
            piece_size=recorder.meta.piece_size,
            length=recorder.meta.length,
            cached=recorder.have & ~self.history.lost,
            total=recorder.total,
            digest=recorder.meta.digest if self.status is CDNStatus.SUCCESS else "",
            origin_bytes=self.history.origin_bytes,
            failure=self.failure,
            attempt=attempt,
        )
