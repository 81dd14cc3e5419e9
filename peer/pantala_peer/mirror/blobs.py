"""Blobs as tasks of the cluster: what is in this node's cache is read while the rest arrives there."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable

from pantala_peer.download.jobs import PieceWaiters
from pantala_peer.mirror.deadlines import Deadlines
from pantala_peer.mirror.errors import MirrorError, SlowError, UnreachableError
from pantala_peer.mirror.ports import Hint
from pantala_peer.mirror.wants import Want, Wants
from pantala_pieces.errors import PieceMissingError
from pantala_pieces.file import PieceFile
from pantala_protocol import task_id

_CHUNK = 256 * 1024
"""Bytes that are read at once, in a thread: large enough for the way there, small enough to begin at once."""

Lookup = Callable[[str], PieceFile | None]


class CachedBlobs:
    """Wants each blob that is opened, and gives what arrives.

    ``lookup`` finds a task's pieces; ``answers`` tells whether the supernode of a task is there to be asked.
    """

    def __init__(
        self,
        lookup: Lookup,
        arrivals: PieceWaiters,
        wants: Wants,
        *,
        answers: Callable[[str], bool],
        deadlines: Deadlines,
    ) -> None:
        self._lookup = lookup
        self._arrivals = arrivals
        self._wants = wants
        self._answers = answers
        self._deadlines = deadlines

    def holds(self, digest: str) -> bool:
        """Whether all of it is here."""
        file = self._lookup(task_id.of_blob(digest))
        return file is not None and file.meta.length is not None and file.holds(0, file.meta.length)

    @contextlib.asynccontextmanager
    async def open(self, digest: str, hint: Hint, start: int = 0) -> AsyncIterator[CachedBlob]:
        """Have the blob come here, from ``start`` on first, while the context is entered. Raises MirrorError."""
        name = task_id.of_blob(digest)
        if not self.holds(digest) and not self._answers(name):
            raise UnreachableError(f"the supernode of {digest} does not answer")
        with self._wants.want(digest, hint, start) as want:
            yield CachedBlob(name, hint.size, self._lookup, self._arrivals, want, self._deadlines)


class CachedBlob:
    """One blob for one reader."""

    def __init__(
        self, name: str, length: int, lookup: Lookup, arrivals: PieceWaiters, want: Want, deadlines: Deadlines
    ) -> None:
        self.length = length
        """Bytes of the whole."""
        self._name = name
        self._lookup = lookup
        self._arrivals = arrivals
        self._want = want
        self._deadlines = deadlines

    async def read(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes ``[start, end)``, verified, in order, as they arrive.

        Raises :class:`MirrorError`; :class:`SlowError` if no next byte came in time, though it was asked for again.
        """
        position = start
        while position < end:
            file, stop = await self._next(position, end)
            data = await asyncio.to_thread(_pread, file, position, stop)
            if self._held(position, end) == (file, stop):  # else it went meanwhile, and the bytes may be another's
                yield data
                position = stop

    async def _next(self, position: int, end: int) -> tuple[PieceFile, int]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._deadlines.again):
                return await self._arrival(position, end)
        self._want.stalled()
        try:
            async with asyncio.timeout(self._deadlines.stall - self._deadlines.again):
                return await self._arrival(position, end)
        except TimeoutError:
            raise SlowError(f"no byte after {position} of {self._want.digest} came in time") from None

    async def _arrival(self, position: int, end: int) -> tuple[PieceFile, int]:
        while (held := self._held(position, end)) is None:
            self._want.waits_at(position)
            await self._arrivals.wait(self._name)
        return held

    def _held(self, position: int, end: int) -> tuple[PieceFile, int] | None:
        """Where to read from, and up to where, if the byte at ``position`` is here. Raises :class:`MirrorError`."""
        file = self._lookup(self._name)
        if file is None:
            return None
        if file.meta.length not in (None, self.length):
            raise MirrorError(f"{self._want.digest} has {file.meta.length} bytes, and its manifest says {self.length}")
        piece, inside = divmod(position, file.meta.piece_size)
        try:
            held = file.size(piece) - inside
        except PieceMissingError:
            return None
        return (file, min(end, position + min(held, _CHUNK))) if held > 0 else None


def _pread(file: PieceFile, start: int, stop: int) -> bytes:
    """The bytes ``[start, stop)`` of a data file. Raises :class:`MirrorError`."""
    try:
        fd = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            data = os.pread(fd, stop - start, start)
        finally:
            os.close(fd)
    except OSError as error:
        raise MirrorError(f"{file.path} cannot be read: {error.strerror}") from error
    if len(data) != stop - start:
        raise MirrorError(f"{file.path} ends before its verified pieces do")
    return data
