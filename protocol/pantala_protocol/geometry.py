"""The pieces of a file, and the wrapped pieces of Dragonfly's clients: sizes, offsets and bytes.

Piece ``n`` has the file's bytes ``[n * piece_size, (n + 1) * piece_size)``. The last piece may be shorter. Peers and
Dragonfly's clients cut a file at the same bytes, so they can exchange pieces.

A wrapped piece is ``header || content || 0x7f``. ``header`` is ``(len(content) | wire piece size << 4) mod 2**32``, big
endian. Piece ``n`` of the wrapped file is piece ``n`` of the file. Only the offsets differ. An empty file is one
wrapped piece without content.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from pantala_protocol.ranges import MAX_PIECE

MAX_LENGTH = (MAX_PIECE + 1) * 4 * 1024 * 1024
"""The largest file in bytes: 16 TiB."""
MIN_PIECE_SIZE = 128 * 1024
MAX_PIECE_SIZE = 4 * 1024 * 1024
SMALL_FILE = 64 * 1024
"""The supernode sends a file of at most this many bytes together with the work for it."""
UNKNOWN_LENGTH_PIECE_SIZE = 1024 * 1024
"""Bytes of a piece if the file's length is unknown: a compromise between small and large files."""

_TARGET_PIECES = 256
"""The number of pieces to aim at. With k pieces, N peers take about (k + log2 N) / k times as long as one peer, but
each piece costs CPU time. The measured optimum for 16 and for 64 peers is 128 to 256 pieces."""

_MIB = 1024 * 1024

PieceSizeRule = Callable[[int | None], int]
"""Returns the piece size in bytes for a length in bytes (``None``: not known)."""


def piece_size(length: int | None) -> int:
    """The piece size in bytes for a length (``None``: not known). It is a power of two."""
    if length is None:
        return UNKNOWN_LENGTH_PIECE_SIZE
    if length < 0:
        raise ValueError(f"A file cannot have the length {length}.")
    wanted = -(-length // _TARGET_PIECES)
    return min(max(1 << max(wanted - 1, 0).bit_length(), MIN_PIECE_SIZE), MAX_PIECE_SIZE)


def dragonfly_piece_size(length: int | None) -> int:
    """The piece size of Dragonfly's supernode: 4 MiB, and 1 MiB more per 100 MiB above 200 MiB, up to 15 MiB."""
    if length is None or length <= 200 * _MIB:
        return 4 * _MIB
    return min((4 + length // (100 * _MIB) - 2) * _MIB, 15 * _MIB)


def client_piece_size(_length: int | None) -> int:
    """Always 4 MiB, because each piece costs a client of Dragonfly a connection and two requests."""
    return MAX_PIECE_SIZE


class PieceSizes(NamedTuple):
    """The rules for two kinds of files."""

    peers: PieceSizeRule
    """For files that a Task or an image wants."""
    clients: PieceSizeRule
    """For files that only Dragonfly's clients want."""


RULES: dict[str, PieceSizes] = {
    "mixed": PieceSizes(piece_size, client_piece_size),
    "swarm": PieceSizes(piece_size, piece_size),
    "dragonfly": PieceSizes(dragonfly_piece_size, dragonfly_piece_size),
}
"""The rules by their names in the setting ``piece_size_rule``."""


def check_size(piece_size: int, length: int) -> None:
    """Raise :class:`ValueError` if a file cannot have these sizes. A piece number is at most :data:`MAX_PIECE`."""
    if piece_size <= 0 or length < 0 or length > (MAX_PIECE + 1) * piece_size:
        raise ValueError(f"A file of {length} bytes cannot have pieces of {piece_size} bytes.")


@dataclass(frozen=True, slots=True)
class Geometry:
    """The pieces of one file of known length."""

    piece_size: int
    length: int

    def __post_init__(self) -> None:
        check_size(self.piece_size, self.length)

    @property
    def pieces(self) -> int:
        """The number of pieces. An empty file has none."""
        return -(-self.length // self.piece_size)

    @property
    def all(self) -> int:
        """The set of all pieces, as a bit mask."""
        return (1 << self.pieces) - 1

    def offset(self, piece: int) -> int:
        """The position of the first byte of ``piece`` in the file."""
        self._check(piece)
        return piece * self.piece_size

    def size(self, piece: int) -> int:
        """The size of ``piece`` in bytes."""
        self._check(piece)
        return min(self.piece_size, self.length - piece * self.piece_size)

    def bytes_of(self, pieces: int) -> int:
        """The total size in bytes of a set of pieces (bit mask)."""
        if pieces & ~self.all:
            raise ValueError(f"The set has pieces beyond the last piece of the file, {self.pieces - 1}.")
        total = pieces.bit_count() * self.piece_size
        if self.pieces and pieces >> (self.pieces - 1):
            total -= self.pieces * self.piece_size - self.length
        return total

    def _check(self, piece: int) -> None:
        if not 0 <= piece < self.pieces:
            raise IndexError(f"The file has {self.pieces} pieces, so it has no piece {piece}.")


HEAD = 4
"""The size of the header in bytes."""

TAIL = b"\x7f"
"""The byte after the content."""
OVERHEAD = HEAD + len(TAIL)

_RANGE = re.compile(r"(0|[1-9][0-9]{0,17})-(0|[1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True)
class Wrapping:
    """The wrapped pieces of a file whose own pieces have ``piece_size`` bytes."""

    piece_size: int

    @property
    def wire_size(self) -> int:
        """The size in bytes of a full wrapped piece. Dragonfly's clients call it the piece size."""
        return self.piece_size + OVERHEAD

    def head(self, size: int) -> bytes:
        """The header for ``size`` bytes of content."""
        return ((size | self.wire_size << 4) & 0xFFFFFFFF).to_bytes(HEAD, "big")

    def wrap(self, content: bytes) -> bytes:
        return self.head(len(content)) + content + TAIL

    def range(self, piece: int) -> str:
        """The range ``first-last`` by which clients request a piece. The last piece's range has the full size too."""
        return f"{piece * self.wire_size}-{(piece + 1) * self.wire_size - 1}"

    def piece(self, text: str) -> int:
        """The piece with the range ``first-last``. Raises :class:`ValueError` for any other range."""
        match = _RANGE.fullmatch(text)
        if match is None:
            raise ValueError(f"{text[:60]!r} is not a valid range of bytes. Give FIRST-LAST.")
        start, end = int(match[1]), int(match[2])
        if start % self.wire_size or end - start + 1 != self.wire_size:
            raise ValueError(f"{text!r} is not the range of a piece of {self.wire_size} bytes.")
        return start // self.wire_size

    def length(self, raw: int) -> int:
        """The length in bytes of the wrapped file, for a file of ``raw`` bytes."""
        return raw + OVERHEAD * max(1, -(-raw // self.piece_size))
