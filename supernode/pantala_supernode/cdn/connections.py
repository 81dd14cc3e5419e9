"""Reads one copy over several connections. Their number grows while that raises the throughput."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from pantala_process.flight import cancel_all
from pantala_supernode import errors
from pantala_supernode.cdn.segments import ConnectionScale, Segment, SegmentPlan

_FATAL = (errors.SourceChangedError, errors.LengthMismatchError)
"""After these errors, no other connection can complete the copy either, because the origin's answers contradict."""


@dataclass(slots=True, eq=False, repr=False)
class Connections:
    """The connections of one attempt to complete a copy."""

    plan: SegmentPlan
    scale: ConnectionScale
    read: Callable[[Segment], Coroutine[Any, Any, None]]
    """Requests and reads a segment."""
    size: int
    """The number of missing bytes."""
    received: Callable[[], int]
    """Returns how many bytes have arrived on all connections."""
    spare: Callable[[], bool]
    """Returns True if a place for a connection is free, and no other copy waits for a place."""
    window: float
    """Seconds for which the throughput is measured."""
    clock: Callable[[], float] = time.monotonic
    _running: dict[asyncio.Task[None], Segment] = field(default_factory=dict)

    async def run(self, lead: Segment, reading: Coroutine[Any, Any, None]) -> None:
        """Read all segments of the plan. ``reading`` reads the first segment, ``lead``, on the open connection.

        If a connection fails while other connections work, these read the missing part of its segment. No new
        connection replaces the failed connection. Raises the error of the last connection, or a fatal error.
        """
        self._add(lead, reading)
        first = self.received()
        try:
            while self._running:
                started, before, count = self.clock(), self.received(), len(self._running)
                done, _ = await asyncio.wait(self._running, timeout=self.window, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    self._end(task)
                elapsed = self.clock() - started
                if not done and count == self.scale.target:
                    received = self.received()
                    self.scale.measured((received - before) / elapsed, self.size - (received - first))
                self._start(lead)
        finally:
            await cancel_all(self._running)

    def _add(self, segment: Segment, reading: Coroutine[Any, Any, None]) -> None:
        self._running[asyncio.create_task(reading)] = segment

    def _start(self, lead: Segment) -> None:
        """Start connections up to the target. After the first, a connection starts only while a place is spare."""
        while len(self._running) < self.scale.target and (not self._running or self.spare()):
            segment = self.plan.take()
            if segment is None and lead in self._running.values():
                self.plan.divide(lead)
                segment = self.plan.take()
            if segment is None:
                return
            self._add(segment, self.read(segment))

    def _end(self, task: asyncio.Task[None]) -> None:
        segment, error = self._running.pop(task), task.exception()
        self.plan.give_back(segment.rest)
        if error is None:
            return
        if not self._running or not isinstance(error, errors.SourceError) or isinstance(error, _FATAL):
            raise error
        self.scale.limit(len(self._running))
