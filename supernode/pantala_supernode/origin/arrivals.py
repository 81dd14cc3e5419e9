"""How fast the bytes of each copy arrive, and whether the origin is the cause if they arrive slowly.

A second counts for the origin if a request is open, and this supernode does not hold back a body. It holds back a body
while the body waits for the rate limit of all origins, for the volume, or for a place.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pantala_protocol.redaction import RedactedURL
from pantala_protocol.task_id import TaskID
from pantala_supernode.origin.body import Body
from pantala_supernode.swarm.flows import FlowMeter

SLOW_RATE: Final = 1024 * 1024
"""An origin that sends fewer bytes per second is slow."""
_PATIENCE: Final = 8.0
"""Seconds for which an origin must be slow before it is reported."""
_SHORT: Final = 30.0
"""A slow origin is not reported if it needs fewer seconds for the rest of the file."""


class OpenRequest:
    """A request to an origin that has not ended."""

    __slots__ = ("body",)

    def __init__(self) -> None:
        self.body: Body | None = None
        """``None`` until the answer has arrived."""


class Arrival:
    """The bytes of one copy that arrive from its origin or from a replica. ``now`` is in monotonic seconds."""

    def __init__(self, shown: RedactedURL) -> None:
        self.slow_since: float | None = None
        """Since when the origin has been slow. ``None``: it is not slow."""
        self._shown = shown
        self._meter = FlowMeter()
        self._received: Callable[[], int] | None = None
        self._counted = 0
        self._waiting = 0
        """The bytes of ended tries that arrived since the last sample."""
        self._open: set[OpenRequest] = set()
        self._samples: deque[tuple[float, int]] = deque()
        """The last seconds that count for the origin: their times, and the bytes that arrived in each."""

    @property
    def running(self) -> bool:
        return self._received is not None

    @property
    def problem(self) -> str:
        """Describes the slow origin, in a sentence that does not change with each byte."""
        if any(amount for _, amount in self._samples):
            return f"{self._shown} sends less than {SLOW_RATE >> 20} MiB/s."
        return f"{self._shown} sends nothing."

    def rate(self, now: float) -> float:
        return self._meter.rates(now).get("", 0.0)

    def pace(self, now: float) -> float:
        return self._meter.pace(now)

    def ended(self, now: float) -> bool:
        """True if no try runs, all bytes are counted, and the rate is 0."""
        return not self.running and not self._waiting and self._meter.idle(now)

    @contextmanager
    def following(self, received: Callable[[], int]) -> Iterator[None]:
        """Count one try while the block runs. ``received`` returns how many bytes of the try have arrived."""
        self._received, self._counted = received, 0
        try:
            yield
        finally:
            self._waiting += received() - self._counted
            self._received = None
            self._excuse()

    @contextmanager
    def asking(self) -> Iterator[OpenRequest]:
        """Record that a request to the origin is open while the block runs."""
        request = OpenRequest()
        self._open.add(request)
        try:
            yield request
        finally:
            self._open.remove(request)

    def sample(self, missing: int | None, now: float) -> None:
        """Count the bytes since the last sample. ``missing``: the bytes that the copy lacks. ``None``: not known."""
        amount, self._waiting = self._waiting, 0
        if self._received is not None:
            received = self._received()
            amount += received - self._counted
            self._counted = received
        if amount:
            self._meter.add("", amount, now)
        if not self._open or any(request.body is not None and request.body.held for request in self._open):
            self._excuse()
            return
        self._samples.append((now, amount))
        self._judge(missing, now)

    def _judge(self, missing: int | None, now: float) -> None:
        while len(self._samples) > 1 and now - self._samples[1][0] >= _PATIENCE:
            self._samples.popleft()
        first = self._samples[0][0]
        span = now - first
        arrived = sum(amount for at, amount in self._samples if at > first)
        slow = span >= _PATIENCE and arrived < SLOW_RATE * span
        if slow and (missing is None or not arrived or missing * span / arrived > _SHORT):
            self.slow_since = first if self.slow_since is None else self.slow_since
        else:
            self.slow_since = None

    def _excuse(self) -> None:
        self._samples.clear()
        self.slow_since = None


class Arrivals:
    """The copies whose bytes arrive now."""

    def __init__(self) -> None:
        self._arrivals: dict[TaskID, Arrival] = {}

    def begin(self, task_id: TaskID, shown: RedactedURL) -> Arrival:
        if task_id not in self._arrivals:
            self._arrivals[task_id] = Arrival(shown)
        return self._arrivals[task_id]

    def get(self, task_id: TaskID) -> Arrival | None:
        return self._arrivals.get(task_id)

    def tick(self, missing: Callable[[TaskID], int | None], now: float) -> None:
        """Sample all copies. ``missing`` returns the bytes that a copy lacks. Call about once a second."""
        for task_id, arrival in list(self._arrivals.items()):
            arrival.sample(missing(task_id), now)
            if arrival.ended(now):
                del self._arrivals[task_id]

    def __iter__(self) -> Iterator[TaskID]:
        return iter(list(self._arrivals))
