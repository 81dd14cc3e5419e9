"""How a file is cut into pieces.

Piece ``n`` covers the file's bytes ``[n * piece_size, (n + 1) * piece_size)``, the last one what is left. One geometry
serves every client, so that one swarm does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

MIN_PIECE_SIZE = 128 * 1024
MAX_PIECE_SIZE = 4 * 1024 * 1024
UNKNOWN_LENGTH_PIECE_SIZE = 1024 * 1024
"""Used while the file's end is not known: small enough for a small file, coarse enough for a large one."""

_PIECES_AIMED_AT = 256
"""A swarm of N peers needs about (k + log2 N) / k of the line time for k pieces, and each piece costs CPU: 128 to 256
pieces is the optimum that was measured for 16 and for 64 peers alike."""

_MIB = 1024 * 1024

PieceSizeRule = Callable[[int | None], int]
"""Tells the piece size in bytes for a file's length in bytes (``None``: not known)."""


def piece_size(length: int | None) -> int:
    """The piece size in bytes for a file of ``length`` bytes (``None``: not known); a power of two."""
    if length is None:
        return UNKNOWN_LENGTH_PIECE_SIZE
    if length < 0:
        raise ValueError(f"a file cannot have {length} bytes")
    wanted = -(-length // _PIECES_AIMED_AT)
    return min(max(1 << max(wanted - 1, 0).bit_length(), MIN_PIECE_SIZE), MAX_PIECE_SIZE)


def dragonfly_piece_size(length: int | None) -> int:
    """The piece size that Dragonfly's supernode would choose: 4 MiB, and 1 MiB more per 100 MiB above 200, up to 15."""
    if length is None or length <= 200 * _MIB:
        return 4 * _MIB
    return min((4 + length // (100 * _MIB) - 2) * _MIB, 15 * _MIB)


RULES: dict[str, PieceSizeRule] = {"swarm": piece_size, "dragonfly": dragonfly_piece_size}
"""By the name that settings have for them."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The cut of one file of known length."""

    piece_size: int
    length: int

    def __post_init__(self) -> None:
        if self.piece_size <= 0 or self.length < 0:
            raise ValueError(f"no geometry for piece size {self.piece_size} and length {self.length}")

    @property
    def pieces(self) -> int:
        """How many pieces there are; an empty file has none."""
        return -(-self.length // self.piece_size)

    @property
    def all(self) -> int:
        """The set of all pieces, as a bit mask."""
        return (1 << self.pieces) - 1

    def offset(self, piece: int) -> int:
        """Where ``piece`` begins, in bytes."""
        self._check(piece)
        return piece * self.piece_size

    def size(self, piece: int) -> int:
        """How many bytes ``piece`` has."""
        self._check(piece)
        return min(self.piece_size, self.length - piece * self.piece_size)

    def bytes_of(self, pieces: int) -> int:
        """How many bytes a set of pieces (bit mask) has together."""
        if pieces & ~self.all:
            raise ValueError(f"the set names pieces beyond the last one, {self.pieces - 1}")
        total = pieces.bit_count() * self.piece_size
        if self.pieces and pieces >> (self.pieces - 1):
            total -= self.pieces * self.piece_size - self.length
        return total

    def _check(self, piece: int) -> None:
        if not 0 <= piece < self.pieces:
            raise IndexError(f"piece {piece} of a file of {self.pieces} pieces")


HEAD = 4
"""Bytes before the content."""
TAIL = b"\x7f"
"""Behind it."""
OVERHEAD = HEAD + len(TAIL)

_RANGE = re.compile(r"(0|[1-9][0-9]{0,17})-(0|[1-9][0-9]{0,17})")


@dataclass(frozen=True, slots=True)
class Wrapping:
    """The wrapped view of a file that is cut into pieces of ``piece_size`` bytes."""

    piece_size: int

    @property
    def wire_size(self) -> int:
        """The size of a whole wrapped piece in bytes: what these clients call the piece size."""
        return self.piece_size + OVERHEAD

    def head(self, size: int) -> bytes:
        """What stands before ``size`` bytes of content."""
        return ((size | self.wire_size << 4) & 0xFFFFFFFF).to_bytes(HEAD, "big")

    def wrap(self, content: bytes) -> bytes:
        """A wrapped piece."""
        return self.head(len(content)) + content + TAIL

    def range(self, piece: int) -> str:
        """The range that names a piece: always of full size, also for the last one."""
        return f"{piece * self.wire_size}-{(piece + 1) * self.wire_size - 1}"

    def piece(self, text: str) -> int:
        """The piece that a range names. Raises :class:`ValueError` for any other range."""
        match = _RANGE.fullmatch(text)
        if match is None:
            raise ValueError(f"not a range: {text[:60]!r}")
        start, end = int(match[1]), int(match[2])
        if start % self.wire_size or end - start + 1 != self.wire_size:
            raise ValueError(f"not the range of a piece of {self.wire_size} bytes: {text!r}")
        return start // self.wire_size

    def length(self, raw: int) -> int:
        """The length in bytes of a wrapped file, from that of the file."""
        return raw + OVERHEAD * max(1, -(-raw // self.piece_size))
