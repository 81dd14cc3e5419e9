"""Limits that all fetches share: concurrent requests to origins, and bytes per second."""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

_WINDOW = 0.1
"""Seconds. A burst may have as many bytes as the rate allows in this time."""


class GatePlace:
    """A place in a gate. Its holder may give it to others for a while, and then is the first of those that wait."""

    def __init__(self, gate: Gate, priority: int, arrival: int) -> None:
        self.rank = -priority, arrival
        self._gate = gate
        self._held = False

    async def take(self) -> None:
        if not self._held:
            await self._gate.enter(self.rank)
            self._held = True

    def give(self) -> None:
        if self._held:
            self._held = False
            self._gate.leave()


class Gate:
    """A semaphore with ``places`` places. A free place goes to the highest priority, then in order of arrival."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._free = places
        self._arrivals = 0
        self._waiting: list[tuple[tuple[int, int], asyncio.Future[None]]] = []
        self._came = asyncio.Event()

    @property
    def queue(self) -> int:
        return sum(not turn.done() for _, turn in self._waiting)

    @property
    def spare(self) -> bool:
        """True if a place is free. Then no caller waits for one."""
        return self._free > 0

    def busy(self) -> bool:
        """True if any place is taken."""
        return self._free < self._places

    @asynccontextmanager
    async def place(self, priority: int) -> AsyncIterator[GatePlace]:
        self._arrivals += 1
        place = GatePlace(self, priority, self._arrivals)
        await place.take()
        try:
            yield place
        finally:
            place.give()

    async def enter(self, rank: tuple[int, int]) -> None:
        """Wait for a place. The lowest ``rank`` is the first."""
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (rank, turn))
        self._came.set()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the place arrived in the same moment: hand it on
                self.leave()
            raise

    async def crowded(self) -> None:
        """Wait until a caller waits for a place."""
        while not self.queue:
            self._came.clear()
            await self._came.wait()

    def leave(self) -> None:
        while self._waiting:
            _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Rate:
    """Limits the bytes per second of all callers together, in asyncio tasks and in threads.

    After a pause, the bytes of at most ``_WINDOW`` seconds may pass at once.
    """

    def __init__(self, bytes_per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._bytes_per_second = bytes_per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock()

    async def acquire(self, amount: float) -> None:
        """Wait until ``amount`` bytes may pass."""
        await asyncio.sleep(self.reserve(amount))

    def reserve(self, amount: float) -> float:
        """Reserve the next ``amount`` bytes. Returns the seconds until they may pass."""
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now - _WINDOW) + amount / self._bytes_per_second
            return max(0.0, self._free_at - now)
