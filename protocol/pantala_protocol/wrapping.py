"""How Dragonfly's clients see a piece: four bytes before it, one behind.

A wrapped piece is ``header || content || 0x7f``; ``header`` is ``(len(content) | wire piece size << 4) mod 2**32``, big
endian. Piece ``n`` of the wrapped file is piece ``n`` of the file, so both share one geometry; only offsets differ. An
empty file is one wrapped piece without content. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

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
