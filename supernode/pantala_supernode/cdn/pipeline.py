"""Cuts a body into pieces, and groups the pieces on their way to the disk."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from pantala_supernode.cdn.disk import settled

Keep = Callable[[dict[int, bytearray]], Awaitable[None]]


class PieceCutter:
    """Cuts the bytes ``[start, end)`` of a file into pieces of ``piece_size``. ``start`` is the start of a piece.

    The last piece ends at ``end``. With ``end=None`` it remains in :attr:`rest`.
    """

    def __init__(self, piece_size: int, start: int, end: int | None) -> None:
        self.rest = bytearray()
        """The bytes of the unfinished piece."""
        self.surplus = 0
        """Bytes that arrived after ``end``."""
        self.piece_size = piece_size
        self._number = start // piece_size
        self._end = end

    @property
    def position(self) -> int:
        """The first byte of the file that has not arrived."""
        return self._number * self.piece_size + len(self.rest) if not self.done else self._end or 0

    @property
    def done(self) -> bool:
        """All bytes up to ``end`` have arrived."""
        return self._end is not None and self._number * self.piece_size + len(self.rest) >= self._end

    def cut(self, data: memoryview) -> Iterator[tuple[int, bytearray]]:
        while data:
            first = self._number * self.piece_size
            size = self.piece_size if self._end is None else min(self.piece_size, self._end - first)
            if size <= 0:
                self.surplus += len(data)
                return
            taken = data[: size - len(self.rest)]
            self.rest += taken
            data = data[len(taken) :]
            if len(self.rest) == size:
                piece, self.rest = self.rest, bytearray()
                self._number += 1
                yield self._number - 1, piece


class Pipeline:
    """Passes pieces to ``keep`` in groups: pieces that arrive during one write share the next sync.

    At most ``bound`` bytes (or one larger piece) wait or are being written. Then :meth:`give` waits.
    """

    def __init__(self, keep: Keep, bound: int) -> None:
        self._keep = keep
        self._bound = bound
        self._waiting: dict[int, bytearray] = {}
        self._size = 0
        self._writer: asyncio.Task[None] | None = None
        self._room = asyncio.Event()

    async def give(self, number: int, data: bytearray) -> None:
        """Add a piece, and wait while the pipeline is full. Raises the errors of ``keep``."""
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
        """Wait until all pieces are kept, even when cancelled. Raises the errors of ``keep``."""
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
