"""The journal of a file: the pieces on the disk and their digests.

A record has 44 bytes, ``piece:u32 | size:u32 | digest:32 | crc32 of the first 40:u32``, big endian. Records are only
appended, and only after the piece's bytes are written. Reading stops at an incomplete or wrong record. If several
threads append, one thread writes and syncs for all.
"""

import copy
import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from pantala_pieces.descriptor import Descriptor
from pantala_pieces.digests import PieceHash
from pantala_pieces.errors import LOST
from pantala_pieces.writing import sync_directory
from pantala_protocol.ranges import MAX_PIECE

_BODY = struct.Struct(">II32s")
_CRC = struct.Struct(">I")
RECORD_SIZE = _BODY.size + _CRC.size


class JournalRecord(msgspec.Struct, frozen=True):
    """One piece whose bytes are on the disk."""

    piece: int
    size: int
    digest: bytes


def confirmed(record: JournalRecord, data: bytes) -> JournalRecord | None:
    """Compare ``data`` with the record's digest. Returns the record with the BLAKE3 digest, or ``None`` if they differ.

    The former version recorded the SHA-256. The file on the disk keeps it, so that a rollback loses no piece.
    """
    digest = PieceHash(data).digest()
    if digest == record.digest:
        return record
    return msgspec.structs.replace(record, digest=digest) if hashlib.sha256(data).digest() == record.digest else None


def encode(record: JournalRecord) -> bytes:
    """The 44 bytes of a record."""
    body = _BODY.pack(record.piece, record.size, record.digest)
    return body + _CRC.pack(zlib.crc32(body))


def decode(data: bytes) -> Iterator[JournalRecord]:
    """Yield the records before the first incomplete or wrong record."""
    for start in range(0, len(data) - RECORD_SIZE + 1, RECORD_SIZE):
        body = data[start : start + _BODY.size]
        (crc,) = _CRC.unpack_from(data, start + _BODY.size)
        if zlib.crc32(body) != crc:
            return
        record = JournalRecord(*_BODY.unpack(body))
        if record.piece > MAX_PIECE:
            return
        yield record


class Journal(Descriptor):
    """The journal of one file. Its methods raise :class:`OSError`."""

    def __init__(self, path: Path, *, durable: bool) -> None:
        super().__init__(path, lambda: os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._directory = path.parent
        self._durable = durable
        self._named = False
        """True if the names of the journal and the data are durable. A synced file without a name is lost."""

    def read(self) -> list[JournalRecord]:
        """The valid records. Cuts the file after the last valid record."""
        with self.using() as fd:
            try:
                content = os.pread(fd, os.fstat(fd).st_size, 0)
            except OSError as error:
                if error.errno not in LOST:
                    raise
                os.ftruncate(fd, 0)
                return []
            found = list(decode(content))
            if len(found) * RECORD_SIZE != len(content):
                os.ftruncate(fd, len(found) * RECORD_SIZE)
        return found

    def append(self, records: Iterable[JournalRecord]) -> None:
        unwritten = b"".join(map(encode, records))
        with self.using() as fd:
            begun_at = self._end(fd)
            try:
                while unwritten:
                    unwritten = unwritten[os.write(fd, unwritten) :]
                if self._durable:
                    os.fdatasync(fd)
                    self._sync_names()
            except OSError:
                os.ftruncate(fd, begun_at)  # half a record would hide all records that follow it
                raise

    def sync(self) -> None:
        """Make all records durable."""
        with self.using() as fd:
            os.fdatasync(fd)

    def _sync_names(self) -> None:
        if not self._named:
            sync_directory(self._directory)
            self._named = True

    def _end(self, fd: int) -> int:
        """The end of the last whole record. Half a record may follow it if it could not be removed."""
        size = os.fstat(fd).st_size
        half = size % RECORD_SIZE
        if half:
            os.ftruncate(fd, size - half)
        return size - half


class Commit(msgspec.Struct, eq=False):
    """The records of one caller, from :meth:`GroupCommit.begin` on."""

    failures: int
    """How many syncs had failed when the caller began to write its bytes."""
    records: Sequence[JournalRecord] = ()
    done: bool = False
    error: Exception | None = None


class GroupCommit:
    """Makes the bytes of pieces durable, and then writes their records.

    ``sync`` makes all written bytes durable. ``write`` writes records, durably, and raises :class:`OSError`. One thread
    at a time calls them. If a sync fails, the disk may have lost any bytes that were written before. So each caller
    that began before the failure gets an error.
    """

    def __init__(self, sync: Callable[[], None], write: Callable[[Sequence[JournalRecord]], None]) -> None:
        self._sync = sync
        self._write = write
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._queued: list[Commit] = []
        self._failures = 0
        self._failure: Exception | None = None

    def begin(self) -> Commit:
        """Call this before the bytes are written."""
        return Commit(self._failures)

    def end(self, commit: Commit, records: Sequence[JournalRecord]) -> None:
        """Return when this thread or another thread has written the records. Raises :class:`OSError`."""
        commit.records = records
        with self._lock:
            self._queued.append(commit)
        with self._turn:
            if not commit.done:
                self._carry_out()
        if commit.error is not None:
            raise copy.copy(commit.error) from commit.error  # each thread needs an error of its own

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No record is written inside the block."""
        with self._turn:
            yield

    def _carry_out(self) -> None:
        with self._lock:
            commits, self._queued = self._queued, []
        try:
            self._sync()
        except Exception as error:  # the callers raise it
            self._failures += 1
            self._failure = error
        records: list[JournalRecord] = []
        for commit in commits:
            if commit.failures != self._failures:
                commit.error = self._failure
            else:
                records += commit.records
        try:
            self._write(records)
        except Exception as error:  # the callers raise it
            for commit in commits:
                commit.error = commit.error or error
        for commit in commits:
            commit.done = True
