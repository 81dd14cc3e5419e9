"""Limits that all fetches share: concurrent requests to origins, and bytes per second."""

import asyncio
import heapq
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pantala_supernode.origin.source import Answer, Resume, SourceReader
from pantala_supernode.tasks.copy import FileSource

_WINDOW = 0.1
"""Seconds. A burst may have as many bytes as the rate allows in this time."""


class Gate:
    """A semaphore with ``places`` places. A free place goes to the highest priority, then in order of arrival."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._arrivals = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []

    @property
    def queue(self) -> int:
        return sum(not turn.done() for _, _, turn in self._waiting)

    @property
    def spare(self) -> bool:
        """True if a place is free. Then no caller waits for one."""
        return self._free > 0

    @asynccontextmanager
    async def place(self, priority: int) -> AsyncIterator[None]:
        await self._enter(priority)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, priority: int) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        heapq.heappush(self._waiting, (-priority, self._arrivals, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the place arrived in the same moment: hand it on
                self._leave()
            raise

    def _leave(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class GatedReader:
    """Opens files with ``reader``. Each open file holds a place in ``gate``, and waits for it."""

    def __init__(self, reader: SourceReader, gate: Gate) -> None:
        self._reader = reader
        self._gate = gate

    @asynccontextmanager
    async def open(self, source: FileSource, resume: Resume | None = None) -> AsyncIterator[Answer]:
        async with self._gate.place(source.priority), self._reader.open(source, resume) as answer:
            yield answer


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
        await asyncio.sleep(self._reserve(amount))

    def block(self, amount: float) -> None:
        """Block the calling thread until ``amount`` bytes may pass."""
        time.sleep(self._reserve(amount))

    def _reserve(self, amount: float) -> float:
        """Reserve the next ``amount`` bytes. Returns the seconds until they may pass."""
        with self._lock:
            now = self._clock()
            self._free_at = max(self._free_at, now - _WINDOW) + amount / self._bytes_per_second
            return max(0.0, self._free_at - now)
