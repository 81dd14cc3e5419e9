"""Fetches blobs as tasks. Readers get the first bytes from this node's cache while later pieces still arrive."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable

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


class CachedBlobs:
    """Demands each blob with a reader from the supernodes, and reads its pieces as they arrive.

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
        self.cache = cache
        self.waiters = waiters
        self.rights = rights
        self.deadlines = deadlines
        self._demand = demand
        self._answering = answering

    def holds(self, digest: str) -> bool:
        return self.cache.is_whole(task_id.of_blob(digest))

    async def read(
        self, digest: str, origin: BlobOrigin, client: Subject, start: int, end: int, *, first: float
    ) -> AsyncGenerator[bytes, None]:
        """Yield the bytes ``[start, end)`` in order, as they arrive, once the client has a right to them.

        Raises :class:`MirrorError`, and :class:`SlowError` if no byte arrives in ``first`` seconds, or if a later byte
        is late and a second demand did not help. While a reader of an earlier byte gets pieces, no later byte is late.
        """
        if not self.holds(digest) and self._answering(task_id.of_blob(digest)) is None:
            raise OwnerUnreachableError(f"the supernode that fetches {digest} does not answer")
        with self._demand.reader(digest, origin, start) as reader:
            reading = _BlobReading(self, reader, client)
            await reading.begin(start, end, first)
            while start < end:
                file, stop = await reading.next(start, end)
                data = await asyncio.to_thread(_pread, file, start, stop)
                if reading.held(start, end) == (file, stop):  # otherwise the file was replaced during the read
                    yield data
                    start = stop


class _BlobReading:
    """One reader of a blob, and the generation that the client may read."""

    def __init__(self, blobs: CachedBlobs, reader: BlobReader, client: Subject) -> None:
        self._blobs = blobs
        self._reader = reader
        self._client = client
        self._name = task_id.of_blob(reader.digest)
        self._generation = ""
        self._limits: dict[asyncio.Timeout, float] = {}
        """The limits of the current wait, with their seconds."""

    async def ask(self) -> None:
        """Ask for a right to this node's pieces, or to those that will arrive. Raises :class:`MirrorError`."""
        reader = self._reader
        self._generation = await self._blobs.rights.generation(self._client, reader.digest, reader.origin, self._here())

    async def begin(self, position: int, end: int, seconds: float) -> None:
        """Get the client a right to the blob. Then wait for the first byte. Raises :class:`MirrorError`."""
        try:
            async with self._limit(seconds):
                await self.ask()
                await self.next(position, end)
        except TimeoutError:
            raise self._late(position) from None

    async def next(self, position: int, end: int) -> tuple[PieceFile, int]:
        """Wait for the byte at ``position``. Returns the same as :meth:`held`."""
        deadlines = self._blobs.deadlines
        with contextlib.suppress(TimeoutError):
            async with self._limit(deadlines.again):
                return await self._arrival(position, end)
        self._reader.stalled()
        try:
            async with self._limit(deadlines.stall - deadlines.again):
                return await self._arrival(position, end)
        except TimeoutError:
            raise self._late(position) from None

    def held(self, position: int, end: int) -> tuple[PieceFile, int] | None:
        """The file with the byte at ``position``, and the end of the next read. Raises :class:`MirrorError`."""
        file = self._blobs.cache.lookup(self._name)
        if file is None or file.meta.generation != self._generation:
            return None
        size = self._reader.origin.size
        if file.meta.length not in (None, size):
            digest, length = self._reader.digest, file.meta.length
            raise MirrorError(f"{digest} has {length} bytes, but {size} bytes according to its manifest")
        piece, inside = divmod(position, file.meta.piece_size)
        try:
            held = file.size(piece) - inside
        except PieceMissingError:
            return None
        return (file, min(end, position + min(held, _CHUNK))) if held > 0 else None

    async def _arrival(self, position: int, end: int) -> tuple[PieceFile, int]:
        asked_about = self._generation
        while (held := self.held(position, end)) is None:
            here = self._here()
            if here not in ("", self._generation, asked_about):  # the content was replaced
                asked_about = here
                await self.ask()
                continue
            self._reader.waits_at(position)
            await self._blobs.waiters.wait(self._name)
            if not self._reader.leads:  # the supernode gives the pieces of an earlier reader first
                for limit, seconds in self._limits.items():
                    limit.reschedule(asyncio.get_running_loop().time() + seconds)
        return held

    @contextlib.asynccontextmanager
    async def _limit(self, seconds: float) -> AsyncGenerator[None, None]:
        """Limit a wait. The limit begins again when a piece arrives while another reader needs an earlier byte."""
        async with asyncio.timeout(seconds) as limit:
            self._limits[limit] = seconds
            try:
                yield
            finally:
                del self._limits[limit]

    def _late(self, position: int) -> SlowError:
        return SlowError(f"no byte of {self._reader.digest} after byte {position} arrived in time")

    def _here(self) -> str:
        """The generation of this node's pieces. Empty without pieces."""
        file = self._blobs.cache.lookup(self._name)
        return file.meta.generation if file is not None else ""


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
