"""One task's pieces on a disk."""

import contextlib
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from pantala_pieces import records
from pantala_pieces.descriptor import Descriptor, opened
from pantala_pieces.digests import PieceHash
from pantala_pieces.errors import LOST, PieceMissingError, StoreError, store_error, store_errors
from pantala_pieces.journal import GroupCommit, Journal, JournalRecord, confirmed
from pantala_pieces.meta import Meta
from pantala_pieces.parts import NO_PART, Part, PartTable
from pantala_pieces.usage import SPARE_PIECES, Usage
from pantala_pieces.writing import copy_bytes, write_bytes
from pantala_protocol import ranges
from pantala_protocol.geometry import Geometry


class Piece(msgspec.Struct, frozen=True):
    """One piece to store. The caller guarantees that the digest belongs to the data."""

    number: int
    data: bytes | bytearray | memoryview
    digest: bytes


class PieceFile:
    """The pieces of one task: a data file, a journal and ``meta.json`` in one directory.

    A piece is in :attr:`have` after its bytes and then its journal record were written (and synced, if ``durable``).
    After a restart, :meth:`verify` adds the pieces whose bytes still have the digest in the journal.

    The methods block and raise :class:`StoreError`. Several threads may :meth:`put` pieces and read them.
    """

    def __init__(self, directory: Path, meta: Meta, *, durable: bool, headroom: float = 0.0) -> None:
        self.directory = directory
        self.meta = meta
        self.have = 0
        """The verified pieces, as a bit mask."""
        self.held = 0
        """The bytes of the verified pieces."""
        self.used = 0.0
        """When the file was last wanted or read, in seconds since the epoch. The callers set this."""
        self._durable = durable
        self._headroom = headroom
        self._records: dict[int, JournalRecord] = {}
        self._data = Descriptor(self.path, lambda: os.O_RDONLY if self.complete else os.O_RDWR)
        self._journal = Journal(directory / "journal", durable=durable)
        self._parts = PartTable(directory / "parts")
        self._commits = GroupCommit(self._sync, self._append)
        self._changing = threading.Lock()
        self._retired = False

    @property
    def path(self) -> Path:
        """The path of the data file. Its bytes are those of the task's file."""
        return self.directory / "data"

    @property
    def complete(self) -> bool:
        """True if all pieces were verified and durable. Nothing writes to the data file any more."""
        return bool(self.meta.digest)

    @property
    def whole(self) -> bool:
        """True if the length is known, and all pieces are held."""
        return self.meta.length is not None and self.have == Geometry(self.meta.piece_size, self.meta.length).all

    @property
    def allocated(self) -> int:
        """The bytes that the data file takes on the disk. 0 if the data file is deleted."""
        try:
            return self.path.stat().st_blocks * 512
        except OSError:
            return 0

    @property
    def parts(self) -> dict[int, int]:
        """The number of written bytes of each unfinished piece. They are neither durable nor verified."""
        return self._parts.sizes

    def digest(self, piece: int) -> bytes:
        """The digest of a verified piece. Raises :class:`PieceMissingError`."""
        return self._record(piece).digest

    def size(self, piece: int) -> int:
        """The size in bytes of a verified piece. Raises :class:`PieceMissingError`."""
        return self._record(piece).size

    def _record(self, piece: int) -> JournalRecord:
        if not self.have >> piece & 1:
            raise PieceMissingError(f"piece {piece} of task {self.meta.task_id} is missing, or not verified yet")
        return self._records[piece]

    def holds(self, start: int, end: int) -> bool:
        """True if the bytes ``[start, end)`` are inside verified pieces."""
        if not 0 <= start < end:
            return False
        first, last = start // self.meta.piece_size, (end - 1) // self.meta.piece_size
        if last >= self.have.bit_length():  # a client chooses the range: create no integer of its size
            return False
        wanted = (1 << (last - first + 1)) - 1
        return self.have >> first & wanted == wanted and end <= last * self.meta.piece_size + self._records[last].size

    def reserve(self) -> None:
        """Create a missing data file, and reserve its space. So a full disk is noticed before the first piece."""
        what = f"reserve {(length := self.meta.length or 0)} bytes for {self.path}"
        with store_errors(what):
            if not self.path.exists():
                self._data.close()  # it may be open although it is deleted
            with self._data.using(os.O_CREAT) as fd:
                lacking = length - os.fstat(fd).st_blocks * 512
                if lacking > 0:  # a second fallocate fills reserved pages of a tmpfs with zeros
                    Usage.of(fd, self._headroom).check(lacking, what)  # a failing fallocate fills the whole disk
                    os.posix_fallocate(fd, 0, length)

    def extend(self, piece: int, start: int, data: bytes | bytearray | memoryview) -> None:
        """Write the next bytes of an unfinished piece, from its byte ``start`` on. Several threads may do so.

        Nothing is written if bytes before ``start`` are missing.
        A part must not take the room of whole pieces. If the file has no reserved room, some pieces must still fit.
        """
        part = self._parts.part(piece)
        if start > part.size:
            return
        with store_errors("write a part of a piece"):
            with self._data.using(os.O_CREAT) as fd:
                if self.meta.length is None:
                    spare = SPARE_PIECES * self.meta.piece_size
                    Usage.of(fd, self._headroom).check(spare, f"write a part of {self.path}")
                if start < part.size:  # the bytes from here on arrive again
                    part = Part(start, zlib.crc32(os.pread(fd, start, piece * self.meta.piece_size)))
                write_bytes(fd, data, piece * self.meta.piece_size + start)
            self._parts.note(piece, part.extended(data))

    def read_part(self, piece: int) -> bytes:
        """The written bytes of an unfinished piece. If they changed on the disk, the part is dropped."""
        part = self._parts.part(piece)
        with store_errors(f"read a part of {self.path}"), self._data.using() as fd:
            data = os.pread(fd, part.size, piece * self.meta.piece_size)
        if not part.matches(data):
            self._parts.take(piece)
            raise StoreError(f"a part of piece {piece} of {self.path} changed on the disk; it is fetched again")
        return data

    def put(self, pieces: Iterable[Piece]) -> None:
        """Store some pieces: all their bytes, then their records. At the end, :attr:`have` contains all these pieces.

        The caller guarantees that the data begins with the bytes of :meth:`extend`, if there are any.
        Several threads write their bytes in parallel. One of them then syncs once, and writes all their records.
        """
        stored = list(pieces)
        parts = {each.number: self._parts.take(each.number).size for each in stored}
        try:
            commit = self._commits.begin()
            with self._data.using(os.O_CREAT) as fd:
                if self.meta.length is None and self._headroom:  # no room is reserved for them
                    Usage.of(fd, self._headroom).check(sum(len(piece.data) for piece in stored), "write pieces")
                for piece in stored:
                    if parts[piece.number] < len(piece.data):
                        write_bytes(fd, piece.data, piece.number * self.meta.piece_size)
            self._commits.end(commit, [JournalRecord(piece.number, len(piece.data), piece.digest) for piece in stored])
            for number in parts:
                if parts[number]:
                    self._parts.note(number, NO_PART)
        except OSError as error:
            raise store_error(f"write pieces to {self.path}", error) from error

    def _sync(self) -> None:
        """Make the data durable. If that fails, forget all parts, because the disk may have lost their bytes."""
        if not self._durable:
            return
        try:
            with self._data.using() as fd:
                os.fdatasync(fd)
        except OSError:
            self._parts.clear()
            raise

    def opened(self) -> contextlib.AbstractContextManager[int]:
        """The descriptor of the data file, for a reader of verified pieces. Raises :class:`OSError` inside ``with``."""
        return self._data.using()

    def read(self, piece: int) -> bytes:
        """The bytes of a verified piece. Raises :class:`PieceMissingError`."""
        size = self.size(piece)
        with store_errors(f"read piece {piece} of {self.path}"), self._data.using() as fd:
            return os.pread(fd, size, piece * self.meta.piece_size)

    def read_verified(self, piece: int) -> bytes | None:
        """The bytes of a verified piece, hashed again. ``None`` if they changed on the disk. Raises as :meth:`read`."""
        data = self.read(piece)
        return data if PieceHash(data).digest() == self.digest(piece) else None

    def verify(self, on_piece: Callable[[int, bytes], None] | None = None) -> int:
        """Hash all journalled pieces, and return the right ones as the new :attr:`have`.

        Calls ``on_piece`` with the number and the bytes of each, ascending. Removes the first journal record whose
        checksum is wrong, and all records after it.
        """
        with store_errors(f"verify {self.path}"):
            with self._commits.paused(), self._changing:
                self._records = {record.piece: record for record in self._journal.read()}
                self.have = self.held = 0
                self._parts.forget()
            for number, record in sorted(self._records.items()):
                room = self._room(number)
                fits = record.size == room or (self.meta.length is None and record.size < room)
                data = self._read_back(number, record.size) if fits else None
                if data is not None and (found := confirmed(record, data)) is not None:
                    self._hold([found])
                    if on_piece is not None:
                        on_piece(number, data)
            if not self.complete:
                self._parts.load(self._is_intact)
        return self.have

    def _is_intact(self, piece: int, part: Part) -> bool:
        """True if the bytes of a part are still as they were written."""
        # A finished piece with wrong bytes is damaged. Its bytes must not be continued.
        if piece in self._records or not 0 < part.size <= self._room(piece):
            return False
        data = self._read_back(piece, part.size)
        return data is not None and part.matches(data)

    def _read_back(self, piece: int, size: int) -> bytes | None:
        """The first bytes of a piece. ``None``: the disk has lost them."""
        try:
            with self._data.using(0 if self.complete else os.O_CREAT) as fd:
                data = os.pread(fd, size, piece * self.meta.piece_size)
        except OSError as error:
            if error.errno not in LOST:
                raise
            return None
        return data if len(data) == size else None

    def _room(self, piece: int) -> int:
        """The most bytes that a piece can have."""
        size, length = self.meta.piece_size, self.meta.length
        return size if length is None else max(0, min(size, length - piece * size))

    def forget(self, pieces: int) -> None:
        """Remove pieces (bit mask) from :attr:`have`, e.g. because their bytes are wrong."""
        with self._changing:
            self.held -= sum(self._records[piece].size for piece in ranges.members(self.have & pieces))
            self.have &= ~pieces

    def sync(self) -> None:
        """Make all stored pieces durable. After a failure, :meth:`verify` finds what the disk has."""
        with store_errors(f"sync {self.path}"), self._data.using() as data:
            try:
                os.fdatasync(data)
                self._journal.sync()
            except OSError:
                os.posix_fadvise(data, 0, 0, os.POSIX_FADV_DONTNEED)  # it may hold bytes that the disk lost
                raise

    def renew(self) -> None:
        """Copy the held pieces to a new, incomplete data file, because programs may read the former file."""
        fresh = self.path.with_name("data.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with store_errors(f"copy {self.path}"), self._data.using() as source, opened(fresh, flags) as target:
            for piece in ranges.members(self.have):
                copy_bytes(source, target, piece * self.meta.piece_size, self._records[piece].size)
            fresh.replace(self.path)
        self.update(msgspec.structs.replace(self.meta, digest="", checked=0.0))
        self._data.close()  # after the update, because until then a reader would open it only for reading

    def update(self, meta: Meta) -> None:
        """Replace the metadata, atomically."""
        records.store(self.directory / "meta.json", meta, durable=self._durable)
        self.meta = meta

    def stamp(self) -> None:
        """Set the modification time of ``meta.json`` to :attr:`used`, so that it survives a restart."""
        with contextlib.suppress(OSError):
            os.utime(self.directory / "meta.json", (self.used, self.used))

    def close(self) -> None:
        """Close the file descriptors. A later use opens them again."""
        self._data.close()
        self._journal.close()
        self._parts.close()

    def retire(self) -> None:
        """Forget all pieces, because the file is deleted. A reader that has opened the data file can continue."""
        with self._changing:
            self._retired = True
            self.have = self.held = 0
        self._data.end()
        self._journal.end()
        self._parts.end()

    def _append(self, records: Sequence[JournalRecord]) -> None:
        """Write records, and add their pieces to :attr:`have`."""
        self._journal.append(records)
        self._hold(records)

    def _hold(self, records: Iterable[JournalRecord]) -> None:
        with self._changing:
            if self._retired:
                return
            for record in records:
                self._records[record.piece] = record
                self.held += 0 if self.have >> record.piece & 1 else record.size
                self.have |= 1 << record.piece
