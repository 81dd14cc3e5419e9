"""Starts one write for each object when it is due, with a limited number of requests at once.

A failed write is dropped. The queue keeps only the earliest time of the next attempt, and the object is planned again.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import structlog

from pantala_operator.errors import ClusterError, ClusterUnavailableError, NotLeadingError
from pantala_operator.events import LeadershipChanged, OperatorEvents, WriteEnded
from pantala_operator.ports import Clock
from pantala_operator.term import Term
from pantala_operator.throttle import Throttle
from pantala_process.backoff import doubled, pause_until

log = structlog.get_logger(__name__)

_AT_ONCE = 8
"""Requests under way at once."""
_LONGEST_PAUSE = 8.0
"""The longest pause after a failed write, in seconds."""
_REPEATED: Final = 2 * _LONGEST_PAUSE
"""Seconds that a failed write counts as late. A write that still matters is tried again earlier."""

Job = Callable[[], Awaitable[None]]


class _Failures(NamedTuple):
    """The failed writes of one object since its last success: how many, and the times of the first and the last."""

    number: int
    first: float
    last: float
    again: float
    """The earliest time of the next attempt."""


class WriteQueue:
    """Holds one job for each object until it is due. See :class:`WriteEnded` for the keys of objects."""

    def __init__(self, events: OperatorEvents, clock: Clock, term: Term) -> None:
        self._events = events
        self._clock = clock
        self._term = term
        self._pending: dict[str, tuple[float, Job]] = {}
        self._queue: list[tuple[float, str]] = []
        self._busy: set[str] = set()
        self._failures: dict[str, _Failures] = {}
        self._closed_until = 0.0
        self._throttle = Throttle(clock)
        self.done = 0
        """The writes that have succeeded since the start."""
        self.failed = 0
        """The writes that have failed since the start."""
        self._signal = asyncio.Event()
        events.subscribe(LeadershipChanged, self._on_leadership)

    @property
    def queued(self) -> int:
        """The number of planned writes that have not begun."""
        return len(self._pending)

    def lag(self) -> float:
        """The seconds by which the oldest planned write is overdue, or has failed. 0 if no write is late."""
        now = self._clock.monotonic()
        failing = (each.first for each in self._failures.values() if now - each.last <= _REPEATED)
        return now - min([now, *(due for due, _ in self._pending.values()), *failing])

    def cancel(self, key: str) -> None:
        """Drop an object's pending write."""
        self._pending.pop(key, None)

    def forget(self, key: str) -> None:
        """Forget the pending write and the failures of a deleted object."""
        for kept in (self._pending, self._failures):
            kept.pop(key, None)

    def complain(self, error: ClusterError) -> None:
        """Log each kind of error once a minute: thousands of writes may fail in the same way."""
        if self._throttle.passes(type(error)):
            log.warning("A write to the API server failed. The operator retries.", error=str(error))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                self._signal.clear()
                pause = self._start(group)
                await pause_until(self._signal, pause)

    def submit(self, key: str, job: Job, due: float | None = None) -> None:
        """Replace the object's pending job. It runs at ``due`` or now, or after the pause that follows a failure."""
        if key in self._busy:
            return  # the object is planned again when the running request ends
        if due is None:
            due = self._clock.monotonic()
        if key in self._failures:
            due = max(due, self._failures[key].again)
        if key in self._pending:
            due = min(due, self._pending[key][0])
        self._pending[key] = (due, job)
        heapq.heappush(self._queue, (due, key))
        self._signal.set()

    def _start(self, group: asyncio.TaskGroup) -> float | None:
        """Start the jobs that are due. Returns the seconds until the next job. ``None``: wait for the signal."""
        now = self._clock.monotonic()
        if not self._term.leads:
            return None
        if now < self._closed_until:
            return self._closed_until - now
        while self._queue and len(self._busy) < _AT_ONCE:
            due, key = self._queue[0]
            if key not in self._pending or self._pending[key][0] != due:
                heapq.heappop(self._queue)  # superseded
                continue
            if due > now:
                return due - now
            heapq.heappop(self._queue)
            _, job = self._pending.pop(key)
            self._busy.add(key)
            group.create_task(self._run(key, job))
        return None

    def _on_leadership(self, _: LeadershipChanged) -> None:
        """Drop all writes that were planned in another term. The loop plans all objects again."""
        self._pending.clear()
        self._queue.clear()
        self._signal.set()

    async def _run(self, key: str, job: Job) -> None:
        try:
            await job()
        except NotLeadingError:
            pass  # the new leader plans the object again
        except ClusterError as error:
            self._fail(key, error)
        except Exception as error:  # an error with one object must not stop the writes of all other objects
            log.exception("A write failed because of a bug. Please report it.", key=key)
            self._fail(key, ClusterError(repr(error)))
        else:
            self.done += 1
            self._failures.pop(key, None)
        finally:
            self._busy.discard(key)
            self._signal.set()
            self._events.publish(WriteEnded(key))

    def _fail(self, key: str, error: ClusterError) -> None:
        self.complain(error)
        self.failed += 1
        now = self._clock.monotonic()
        former = self._failures.get(key)
        if former is None or now - former.last > _REPEATED:  # It was cancelled meanwhile, or another operator led.
            former = _Failures(0, now, now, now)
        again = now + doubled(1.0, _LONGEST_PAUSE, former.number + 1)
        self._failures[key] = former._replace(number=former.number + 1, last=now, again=again)
        if isinstance(error, ClusterUnavailableError):
            self._closed_until = again
