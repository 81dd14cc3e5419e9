"""Between the socket and the disk: pieces wait here while others are being made durable."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pantala_supernode.volume.lane import settled

Keep = Callable[[dict[int, bytearray]], Awaitable[None]]


class Pipeline:
    """Hands pieces to ``keep`` in groups: all that came while the former group was written share one sync.

    At most ``bound`` bytes (or one piece, if that is more) wait or are being written; then :meth:`give` waits, and the
    socket with it.
    """

    def __init__(self, keep: Keep, bound: int) -> None:
        self._keep = keep
        self._bound = bound
        self._waiting: dict[int, bytearray] = {}
        self._size = 0
        self._writer: asyncio.Task[None] | None = None
        self._room = asyncio.Event()

    async def give(self, number: int, data: bytearray) -> None:
        """Have a piece kept; waits while there is no room. Raises what ``keep`` raised."""
        while self._size and self._size + len(data) > self._bound:
            self._room.clear()
            self._check()
            await self._room.wait()
        self._check()
        self._waiting[number] = data
        self._size += len(data)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def drain(self) -> None:
        """Wait until all is kept. Raises what ``keep`` raised. A cancellation waits for it too."""
        if self._writer is not None:
            await settled(self._writer)
            self._check()

    async def _write(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, {}
                await self._keep(group)
                self._size -= sum(map(len, group.values()))
                self._room.set()
        finally:
            self._room.set()

    def _check(self) -> None:
        if self._writer is not None and self._writer.done():
            self._writer.result()
