"""The body of an answer. It is cut into blocks while it arrives, so a piece is copied once."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Protocol


class Body(Protocol):
    """A body that is read once, from start to end."""

    @property
    def received(self) -> int:
        """The bytes that have arrived."""

    def blocks(self, size: int, skip: int = 0) -> AsyncGenerator[bytearray, None]:
        """Read the bytes after the first ``skip`` in blocks of ``size`` bytes. The last block may be shorter.

        Raises :class:`pantala_supernode.errors.SupernodeError` if the body is cut. Its unfinished block is lost.
        """


class BlockCutter:
    """Copies chunks into blocks."""

    def __init__(self, size: int, skip: int) -> None:
        self._size = size
        self._skip = skip
        self._block = bytearray()
        self._filled = 0

    def cut(self, chunk: bytes) -> Iterator[bytearray]:
        """Add a chunk, and yield each block that it completes."""
        view = memoryview(chunk)[self._skip :]
        self._skip -= len(chunk) - len(view)
        while view:
            if not self._filled:
                self._block = bytearray(self._size)
            taken = view[: self._size - self._filled]
            self._block[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            view = view[len(taken) :]
            if self._filled == self._size:
                self._filled = 0
                yield self._block

    def rest(self) -> Iterator[bytearray]:
        """The unfinished block, if it has any bytes."""
        if self._filled:
            del self._block[self._filled :]
            self._filled = 0
            yield self._block


class ChunkBody:
    """The body whose ``chunks`` arrive in the event loop."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.received = 0

    async def blocks(self, size: int, skip: int = 0) -> AsyncGenerator[bytearray, None]:
        """See :meth:`Body.blocks`."""
        cutter = BlockCutter(size, skip)
        async for chunk in self._chunks:
            self.received += len(chunk)
            for block in cutter.cut(chunk):
                yield block
        for block in cutter.rest():
            yield block
