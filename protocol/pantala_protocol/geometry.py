"""How a file is cut into pieces.

Piece ``n`` covers the file's bytes ``[n * piece_size, (n + 1) * piece_size)``, the last one what is left. One geometry
serves every client, so that one swarm does.
"""

from __future__ import annotations

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
