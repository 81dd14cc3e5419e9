"""Fetches blobs as tasks. Readers get the first bytes from this node's cache while later pieces still arrive."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.download.jobs import PieceWaiters
from pantala_peer.mirror.deadlines import Deadlines
from pantala_peer.mirror.demand import BlobDemand, BlobOrigin, BlobReader
from pantala_peer.mirror.errors import MirrorError, OwnerUnreachableError, SlowError
from pantala_peer.mirror.rights import ReadRights
from pantala_pieces.descriptor import opened
from pantala_pieces.errors import PieceMissingError
from pantala_pieces.file import PieceFile
from pantala_protocol import task_id
from pantala_protocol.rules.rights import Subject

_CHUNK = 256 * 1024
"""Bytes for each read in a thread. Larger reads cost less CPU time, but delay the first bytes."""

Permit = Callable[[str], Awaitable[str]]
"""Returns the generation that a client may read. The argument is the generation of this node's pieces, or empty."""


class CachedBlob:
    """One blob for one reader. ``length`` is the size of the whole blob in bytes."""

    def __init__(
        self,
        name: str,
        length: int,
        cache: PieceCache,
        waiters: PieceWaiters,
        reader: BlobReader,
        permit: Permit,
        deadlines: Deadlines,
    ) -> None:
        self._name = name
        self._length = length
        self._cache = cache
        self._waiters = waiters
        self._reader = reader
        self._permit = permit
        self._deadlines = deadlines
        self._generation = ""

    async def read(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes ``[start, end)`` in order, as they arrive, once the client has a right to them.

        Raises :class:`MirrorError`, and :class:`SlowError` if the next byte is late and a second demand did not help.
        """
        position = start
        self._generation = await self._permit(self._here())
        while position < end:
            file, stop = await self._next(position, end)
            data = await asyncio.to_thread(_pread, file, position, stop)
            if self._held(position, end) == (file, stop):  # otherwise the file was replaced during the read
                yield data
                position = stop

    async def _next(self, position: int, end: int) -> tuple[PieceFile, int]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._deadlines.again):
                return await self._arrival(position, end)
        self._reader.stalled()
        try:
            async with asyncio.timeout(self._deadlines.stall - self._deadlines.again):
                return await self._arrival(position, end)
        except TimeoutError:
            raise SlowError(f"no byte of {self._reader.digest} after byte {position} arrived in time") from None

    async def _arrival(self, position: int, end: int) -> tuple[PieceFile, int]:
        asked_about = self._generation
        while (held := self._held(position, end)) is None:
            here = self._here()
            if here not in ("", self._generation, asked_about):  # the content was replaced
                asked_about, self._generation = here, await self._permit(here)
                continue
            self._reader.waits_at(position)
            await self._waiters.wait(self._name)
        return held

    def _here(self) -> str:
        """The generation of this node's pieces. Empty without pieces."""
        file = self._cache.lookup(self._name)
        return file.meta.generation if file is not None else ""

    def _held(self, position: int, end: int) -> tuple[PieceFile, int] | None:
        """The file with the byte at ``position``, and the end of the next read. Raises :class:`MirrorError`."""
        file = self._cache.lookup(self._name)
        if file is None or file.meta.generation != self._generation:
            return None
        if file.meta.length not in (None, self._length):
            digest, length = self._reader.digest, file.meta.length
            raise MirrorError(f"{digest} has {length} bytes, but {self._length} bytes according to its manifest")
        piece, inside = divmod(position, file.meta.piece_size)
        try:
            held = file.size(piece) - inside
        except PieceMissingError:
            return None
        return (file, min(end, position + min(held, _CHUNK))) if held > 0 else None


class CachedBlobs:
    """Demands each open blob from the supernodes, and reads its pieces as they arrive.

    ``answering`` returns the URL of a task's supernode, if it answers now.
    """

    def __init__(
        self,
        cache: PieceCache,
        waiters: PieceWaiters,
        demand: BlobDemand,
        rights: ReadRights,
        *,
        answering: Callable[[str], str | None],
        deadlines: Deadlines,
    ) -> None:
        self._cache = cache
        self._waiters = waiters
        self._demand = demand
        self._rights = rights
        self._answering = answering
        self._deadlines = deadlines

    def holds(self, digest: str) -> bool:
        return self._cache.is_whole(task_id.of_blob(digest))

    @contextlib.asynccontextmanager
    async def open(self, digest: str, origin: BlobOrigin, client: Subject, start: int = 0) -> AsyncIterator[CachedBlob]:
        """Fetch the blob, first from ``start`` on, while the context is entered. Raises :class:`MirrorError`."""
        name = task_id.of_blob(digest)
        if not self.holds(digest) and self._answering(name) is None:
            raise OwnerUnreachableError(f"the supernode that fetches {digest} does not answer")

        async def permit(held: str) -> str:
            return await self._rights.generation(client, digest, origin, held)

        with self._demand.reader(digest, origin, start) as reader:
            yield CachedBlob(name, origin.size, self._cache, self._waiters, reader, permit, self._deadlines)


def _pread(file: PieceFile, start: int, stop: int) -> bytes:
    """The bytes ``[start, stop)`` of a data file. Raises :class:`MirrorError`."""
    try:
        with opened(file.path) as fd:
            data = os.pread(fd, stop - start, start)
    except OSError as error:
        raise MirrorError(f"{file.path} cannot be read: {error.strerror}") from error
    if len(data) != stop - start:
        raise MirrorError(f"the cached file {file.path} was cut short")
    return data
