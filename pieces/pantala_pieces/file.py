"""One task's pieces on a disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from pantala_pieces import journal
from pantala_pieces.descriptor import Descriptor
from pantala_pieces.errors import PieceMissingError, StoreFullError, from_os_error
from pantala_pieces.journal import Record


class Meta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of the whole file. No URL and no credential: those are stated anew after a restart."""

    task_id: str
    generation: str
    """Which content of the origin the pieces belong to."""
    piece_size: int
    length: int | None = None
    etag: str = ""
    last_modified: str = ""
    digest: str = ""
    """``sha256:`` of the whole; set once all of it was checked, and only then."""
    origin_bytes: int = 0
    """What had been read of the origin when the whole was checked."""
    confirmed: float = 0.0
    """When the origin gave this content, or said last that it still has it, in seconds since the epoch."""
    lifetime: float | None = None
    """Seconds that the origin said then that this holds; ``None``: it did not say."""
    claims: tuple[str, ...] = ()
    """Who wants the whole as it is, by names that last: for them it is not asked for again after a restart."""


class Piece(NamedTuple):
    """One piece to keep; whoever made it answers for the digest being that of the data."""

    number: int
    data: bytes | bytearray | memoryview
    sha256: bytes


class PieceFile:
    """The pieces of one task: a data file, a journal and ``meta.json`` in one directory.

    Promise: a piece is in :attr:`have` only after its bytes and then its record were written (and, if ``durable``,
    synced), or after :meth:`verify` hashed its bytes to the journalled digest. Digests are never made from the disk.

    The methods block; one thread at a time writes, any may read. They raise :class:`StoreError`.
    """

    def __init__(self, directory: Path, meta: Meta, *, durable: bool) -> None:
        self.directory = directory
        self.meta = meta
        self.have = 0
        """Verified pieces, as a bit mask."""
        self.used = 0.0
        """When somebody wanted or read it last, in seconds since the epoch, as far as this was said."""
        self._durable = durable
        self._records: dict[int, Record] = {}
        self._data = Descriptor(self.path, lambda: os.O_RDONLY if self.complete else os.O_RDWR | os.O_CREAT)
        self._journal = Descriptor(directory / "journal", lambda: os.O_RDWR | os.O_CREAT | os.O_APPEND)

    @property
    def path(self) -> Path:
        """The data file: the raw file, in place."""
        return self.directory / "data"

    @property
    def complete(self) -> bool:
        """All pieces are there and the whole was checked."""
        return bool(self.meta.digest)

    @property
    def allocated(self) -> int:
        """How many bytes of the disk it takes; 0 if it is gone."""
        try:
            return self.path.stat().st_blocks * 512
        except OSError:
            return 0

    def sha256(self, piece: int) -> bytes:
        """The digest of a verified piece. Raises :class:`PieceMissingError`."""
        if not self.have >> piece & 1:
            raise PieceMissingError(f"piece {piece} of task {self.meta.task_id} is not held")
        return self._records[piece].sha256

    def size(self, piece: int) -> int:
        """The size in bytes of a verified piece. Raises :class:`PieceMissingError`."""
        if not self.have >> piece & 1:
            raise PieceMissingError(f"piece {piece} of task {self.meta.task_id} is not held")
        return self._records[piece].size

    def holds(self, start: int, end: int) -> bool:
        """Whether the bytes ``[start, end)`` lie inside verified pieces."""
        if not 0 <= start < end:
            return False
        first, last = start // self.meta.piece_size, (end - 1) // self.meta.piece_size
        wanted = (1 << (last + 1)) - (1 << first)
        return self.have & wanted == wanted and end <= last * self.meta.piece_size + self._records[last].size

    def reserve(self) -> None:
        """Take the room for the whole file, if its length is known, so that a full disk is noticed at the start."""
        if not self.meta.length:
            return
        what = f"reserve {self.meta.length} bytes for {self.path}"
        try:
            with self._data.using() as fd:
                disk = os.fstatvfs(fd)
                free, missing = disk.f_bavail * disk.f_frsize, self.meta.length - os.fstat(fd).st_blocks * 512
                if missing > free:  # asked first: a failing fallocate fills the disk up to its end
                    raise StoreFullError(f"{what}: {free} bytes are free")
                os.posix_fallocate(fd, 0, self.meta.length)
        except OSError as error:
            raise from_os_error(error, what) from error

    def put(self, pieces: Iterable[Piece]) -> None:
        """Keep some pieces: all their bytes, then their records. They show in :attr:`have` together, at the end."""
        records = []
        try:
            with self._data.using() as fd:
                for piece in pieces:
                    _write(fd, piece.data, piece.number * self.meta.piece_size)
                    records.append(Record(piece.number, len(piece.data), piece.sha256))
                if self._durable:
                    os.fdatasync(fd)
            self._append(records)
        except OSError as error:
            raise from_os_error(error, f"write pieces to {self.path}") from error
        for record in records:
            self._records[record.piece] = record
            self.have |= 1 << record.piece

    def read(self, piece: int) -> bytes:
        """The bytes of a verified piece. Raises :class:`PieceMissingError`."""
        size = self.size(piece)
        try:
            with self._data.using() as fd:
                return os.pread(fd, size, piece * self.meta.piece_size)
        except OSError as error:
            raise from_os_error(error, f"read piece {piece} of {self.path}") from error

    def verify(self, on_piece: Callable[[int, bytes], None] | None = None) -> int:
        """Hash what the journal names and take in :attr:`have` what is right; call ``on_piece`` for it, ascending.

        Cuts a torn journal. Returns the new :attr:`have`. Reads every journalled piece once.
        """
        try:
            self._records = {record.piece: record for record in self._read_journal()}
            self.have = 0
            for number in sorted(self._records):
                record = self._records[number]
                with self._data.using() as fd:
                    data = os.pread(fd, record.size, number * self.meta.piece_size)
                if len(data) == record.size <= self.meta.piece_size and hashlib.sha256(data).digest() == record.sha256:
                    self.have |= 1 << number
                    if on_piece is not None:
                        on_piece(number, data)
        except OSError as error:
            raise from_os_error(error, f"verify {self.path}") from error
        return self.have

    def forget(self, pieces: int) -> None:
        """Take pieces (bit mask) out of :attr:`have`, e.g. because their bytes turned out wrong since."""
        self.have &= ~pieces

    def update(self, meta: Meta) -> None:
        """Replace what is known of the whole file, atomically and durably."""
        write_atomically(self.directory / "meta.json", msgspec.json.encode(meta))
        self.meta = meta

    def stamp(self) -> None:
        """Have :attr:`used` outlive a restart, as the time of ``meta.json``: no write to wait for."""
        with contextlib.suppress(OSError):
            os.utime(self.directory / "meta.json", (self.used, self.used))

    def close(self) -> None:
        """Give the file descriptors back; they are opened again on need."""
        self._data.close()
        self._journal.close()

    def retire(self) -> None:
        """It is deleted: nothing is held, and its names may become another's. Who is reading goes on."""
        self.have = 0
        self._data.end()
        self._journal.end()

    def _read_journal(self) -> Iterator[Record]:
        with self._journal.using() as fd:
            content = os.pread(fd, os.fstat(fd).st_size, 0)
            records = list(journal.decode(content))
            if len(records) * journal.RECORD_SIZE != len(content):
                os.ftruncate(fd, len(records) * journal.RECORD_SIZE)
        yield from records

    def _append(self, records: list[Record]) -> None:
        view = memoryview(b"".join(map(journal.encode, records)))
        with self._journal.using() as fd:
            begun_at = os.fstat(fd).st_size
            try:
                while view:
                    view = view[os.write(fd, view) :]
                if self._durable:
                    os.fdatasync(fd)
            except OSError:
                os.ftruncate(fd, begun_at)  # half a record would hide those that a later try appends
                raise


def _write(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:  # a write may be short, on a full disk above all
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: after a crash it has the old or the new content, whole. Raises StoreError."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise from_os_error(error, f"write {path}") from error


def sync_directory(directory: Path) -> None:
    """Make the names in ``directory`` durable. Raises :class:`OSError`."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
