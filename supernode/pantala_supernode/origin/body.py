"""The body of an answer. Its bytes are copied once, directly into blocks that have the size of a piece."""

import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

PART = 128 * 1024
"""Bytes. An unfinished block is saved each time that this many further bytes have arrived."""
_SOON = 0.02
"""Seconds. An unfinished block is not saved if its rest arrives within this time, because saving costs CPU time."""
_SPARE_BLOCKS = 8
_WAITING = 4 * 1024 * 1024
"""The most bytes of complete blocks of a copy that wait for the event loop. At this limit, its threads stop receiving.

All connections share the limit. So each further connection needs memory for one block only.
"""


class BlockPool:
    """Keeps blocks whose bytes are stored, and uses them again for the same copy. Any thread may use it.

    To create a block takes as long as to fill it: the process clears it, and the kernel maps each of its pages.
    The pool also limits the complete blocks of all bodies of the copy that wait for the event loop.
    """

    def __init__(self) -> None:
        self._blocks: deque[bytearray] = deque(maxlen=_SPARE_BLOCKS)
        self._waiting = 0
        """Bytes of complete blocks that wait for the event loop."""
        self._room = threading.Condition()

    def take(self, size: int) -> bytearray:
        """A block of ``size`` bytes with any content."""
        while True:
            try:
                block = self._blocks.pop()
            except IndexError:
                return bytearray(size)
            if len(block) == size:
                return block

    def give(self, block: bytearray) -> None:
        """Return a block to the pool. No other code may use it any more."""
        self._blocks.append(block)

    def clear(self) -> None:
        self._blocks.clear()

    @property
    def full(self) -> bool:
        """True if :meth:`enter` would wait now."""
        return self._waiting >= _WAITING

    def enter(self, size: int, given_up: Callable[[], bool]) -> bool:
        """Count a complete block of ``size`` bytes. Waits while the limit is reached.

        All bodies of a copy share the limit. So a reader that waits for another body may block both. Returns False, and
        counts nothing, once ``given_up`` returns True. Call :meth:`wake` when the result of ``given_up`` changes.
        """
        with self._room:
            self._room.wait_for(lambda: given_up() or not self.full)
            if given_up():
                return False
            self._waiting += size
            return True

    def leave(self, size: int) -> None:
        """Stop counting ``size`` bytes, because the reader has stored or dropped their block."""
        with self._room:
            self._waiting -= size
            self._room.notify_all()

    def wake(self) -> None:
        """Let each waiting :meth:`enter` ask ``given_up`` again."""
        with self._room:
            self._room.notify_all()


@dataclass(frozen=True, slots=True)
class Layout:
    """How a body is cut into blocks."""

    size: int
    """Bytes of a block. The last block may be shorter."""
    skip: int = 0
    """Bytes at the start of the body that are not needed."""
    prefix: bytes = b""
    """The first bytes of the first block, which were saved before. The body continues after them."""
    save: Callable[[int, int, memoryview], None] | None = None
    """Saves a part of an unfinished block: the number of the block, the position in the block, and the bytes.

    Another thread may call it. ``None``: unfinished blocks are not saved.
    """
    pool: BlockPool = field(default_factory=BlockPool)
    clock: Callable[[], float] = time.monotonic
    """Returns seconds."""


class Body(Protocol):
    """A body that is read once, from start to end."""

    @property
    def received(self) -> int:
        """The bytes that have arrived."""

    @property
    def held(self) -> bool:
        """True while this supernode accepts no bytes, so that the sender must wait."""

    def blocks(self, layout: Layout) -> AsyncGenerator[bytearray, None]:
        """Read the body in blocks. Raises :class:`pantala_supernode.errors.SupernodeError` if the body is cut."""

    def stop_at(self, end: int) -> None:
        """Allow the body to end after its first ``end`` bytes, because the reader needs no more."""


class BlockCutter:
    """Copies chunks into blocks."""

    def __init__(self, layout: Layout) -> None:
        self._size = layout.size
        self._skip = layout.skip
        self._save = layout.save
        self._pool = layout.pool
        self._number = 0
        self._block = bytearray()
        self._view = memoryview(self._block)
        """The bytes of the block. An assignment to a slice of the bytearray would copy the chunk twice."""
        self._clock = layout.clock
        self._filled = self._saved = 0
        self._begun_at, self._begun_from = 0.0, 0
        if layout.prefix:
            self._begin()
            self._filled = self._saved = self._begun_from = len(layout.prefix)
            self._view[: self._filled] = layout.prefix

    def cut(self, chunk: bytes) -> Iterable[bytearray]:
        """Add a chunk, and return each block that it completes. Read all of them before the next chunk.

        The next block takes memory only when it is read. So the caller can wait before it reads the block.
        """
        end = self._filled + len(chunk)
        if self._skip or not self._filled or end >= self._size:
            return self._split(chunk)
        self._view[self._filled : end] = chunk  # the usual case, because libcurl's chunks have 16 KiB
        self._filled = end
        if end - self._saved >= PART and not self._is_soon_complete():
            self.save()
        return ()

    def _is_soon_complete(self) -> bool:
        """Whether the rest of the block takes at most :data:`_SOON`, if it arrives as fast as the bytes before it."""
        seconds, arrived = self._clock() - self._begun_at, self._filled - self._begun_from
        return (self._size - self._filled) * seconds <= _SOON * arrived

    def save(self) -> None:
        if self._save is not None and self._filled > self._saved:
            self._save(self._number, self._saved, self._view[self._saved : self._filled])
            self._saved = self._filled

    def rest(self) -> Iterator[bytearray]:
        """The unfinished block, if it has any bytes."""
        if self._filled:
            filled, self._filled = self._filled, 0
            block = self._end()
            del block[filled:]
            yield block

    def _begin(self) -> None:
        self._block = self._pool.take(self._size)
        self._view = memoryview(self._block)
        self._begun_at, self._begun_from = self._clock(), 0

    def _end(self) -> bytearray:
        """Hand the block over. The cutter must not keep it, because the cutter may outlive the body's reader."""
        self._view.release()
        block, self._block = self._block, bytearray()
        return block

    def _split(self, chunk: bytes) -> Iterator[bytearray]:
        view = memoryview(chunk)[self._skip :]
        self._skip -= len(chunk) - len(view)
        while view:
            if not self._filled:
                self._begin()
            taken = view[: self._size - self._filled]
            self._view[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            view = view[len(taken) :]
            if self._filled == self._size:
                if self._saved:
                    self.save()
                self._number += 1
                self._filled = self._saved = 0
                yield self._end()


class ChunkBody:
    """A body whose ``chunks`` arrive in the event loop, for example from another replica."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.received = 0
        self.held = False

    async def blocks(self, layout: Layout) -> AsyncGenerator[bytearray, None]:
        cutter = BlockCutter(layout)
        async for chunk in self._chunks:
            self.received += len(chunk)
            for block in cutter.cut(chunk):
                yield block
        for block in cutter.rest():
            yield block

    def stop_at(self, end: int) -> None:
        """Does nothing: chunks are requested only when the reader needs them."""
