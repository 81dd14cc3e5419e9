"""One pass over a whole file on the disk. It finds whether the digest is right, and if not, which pieces are wrong.

The pass reads in steps, so that its caller can pause it. It bypasses the page cache. So it does not evict the data of
other programs, and it reads the bytes that are on the disk.
"""

import contextlib
import errno
import hashlib
import mmap
import os
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from pantala_pieces.descriptor import SAFE
from pantala_pieces.digests import PieceHash
from pantala_pieces.errors import LOST, PieceMissingError, store_errors
from pantala_pieces.file import PieceFile
from pantala_protocol.geometry import Geometry

CHUNK = 1 << 20
"""Bytes of one read. Reads that bypass the page cache need a multiple of the disk's block size."""
STEP = 32 * CHUNK
"""Bytes of one step."""


class FileVerdict(Enum):
    """What a pass found."""

    RIGHT = auto()
    """The file has the expected digest."""
    ROTTEN = auto()
    """The file changed on the disk after its pieces were verified."""
    CONTRADICTED = auto()
    """Each piece is right, but the whole file does not have the expected digest."""


class Finding(NamedTuple):
    """The result of a pass."""

    verdict: FileVerdict
    wrong: int = 0
    """The pieces whose bytes do not have the digests in the journal, as a bit mask."""


class VerificationPass:
    """Compares a whole file with the digest ``expected``. If the digest differs, compares each piece.

    Its methods block, and raise :class:`pantala_pieces.errors.StoreError`.
    """

    def __init__(self, file: PieceFile, expected: str) -> None:
        self._file = file
        self._expected = expected
        self._length = file.meta.length or 0
        self._geometry = Geometry(file.meta.piece_size, self._length)
        self._buffer = mmap.mmap(-1, CHUNK)  # aligned to a page
        self._begin(each_piece=False)

    def step(self) -> Finding | None:
        """Read the next bytes. ``None``: the pass is not finished."""
        with store_errors(f"verify {self._file.path}"):
            try:
                with self._opened() as fd:
                    self._odd |= os.fstat(fd).st_size != self._length
                    stop = min(self._position + STEP, self._length)
                    while self._position < stop:
                        self._take(memoryview(self._buffer)[: self._read(fd)])
            except OSError as error:
                if error.errno not in LOST:
                    raise
                if not self._each_piece:
                    self._begin(each_piece=True)
                    return None
                gone = error.errno == errno.ENOENT
                self._lose(self._length - self._position if gone else min(CHUNK, self._length - self._position))
        return None if self._position < self._length else self._conclude()

    def _begin(self, *, each_piece: bool) -> None:
        self._each_piece = each_piece
        self._position = 0
        self._whole = hashlib.sha256()
        self._piece = PieceHash()
        self._wrong = 0
        self._odd: bool = False
        """True if the file has a wrong size, or has bytes that the disk cannot read."""

    def _conclude(self) -> Finding | None:
        if not self._wrong and not self._odd and f"sha256:{self._whole.hexdigest()}" == self._expected:
            return Finding(FileVerdict.RIGHT)
        if not self._each_piece:
            self._begin(each_piece=True)
            return None
        return Finding(FileVerdict.ROTTEN if self._wrong or self._odd else FileVerdict.CONTRADICTED, self._wrong)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the file for one step only, because an open descriptor keeps a deleted file on the disk."""
        try:
            fd = os.open(self._file.path, SAFE | os.O_DIRECT)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            fd = os.open(self._file.path, SAFE)  # a filesystem whose files are in memory
        try:
            yield fd
        finally:
            os.close(fd)

    def _read(self, fd: int) -> int:
        wanted = min(CHUNK, self._length - self._position)
        count = 0
        while count < wanted:  # some filesystems return less than they could
            more = os.preadv(fd, [memoryview(self._buffer)[count:]], self._position + count)
            if not more:
                raise OSError(errno.EIO, "the file is too short")
            count += more
        return wanted

    def _take(self, data: memoryview) -> None:
        self._whole.update(data)
        if not self._each_piece:
            self._position += len(data)
            return
        size = self._geometry.piece_size
        while data:
            number, inside = divmod(self._position, size)
            part, data = data[: size - inside], data[size - inside :]
            self._piece.update(part)
            self._position += len(part)
            if self._position == min((number + 1) * size, self._length):
                self._check(number)

    def _check(self, number: int) -> None:
        try:
            right = self._piece.digest() == self._file.digest(number)
        except PieceMissingError:
            right = False
        if not right:
            self._wrong |= 1 << number
        self._piece = PieceHash()

    def _lose(self, count: int) -> None:
        """Skip bytes that the disk cannot read. Their pieces are wrong."""
        size = self._geometry.piece_size
        first, end = self._position // size, -(-(self._position + count) // size)
        self._wrong |= (1 << end) - (1 << first)
        self._odd = True
        self._position += count
        self._piece = PieceHash()
