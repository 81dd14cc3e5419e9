"""One task's copy as the CDN manages it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from pantala_protocol.statement import CDNStatus, Failure
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.copy import Copy, FetchOrder
from pantala_supernode.cdn.history import History
from pantala_supernode.cdn.lane import Lane


@dataclass(eq=False)
class Kept:
    """One task's copy and who works on it."""

    task_id: TaskID
    lane: Lane
    order: FetchOrder | None = None
    paused: bool = False
    given_up: bool = False
    """The last failure is not tried again; a new attempt is wanted."""
    status: CDNStatus = CDNStatus.WAITING
    failure: Failure | None = None
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.history = History()
        self.woken = asyncio.Event()

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
        attempt = self.order.attempt if self.order is not None else ""
        recorder = self.history.recorder
        if recorder is None:
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
