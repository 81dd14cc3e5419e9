"""Cutting a stream of bytes into pieces. Pure."""

from __future__ import annotations

from collections.abc import Iterator


class Cutter:
    """Cuts the bytes ``[start, end)`` of a file, as they come, into pieces of ``piece_size``; ``start`` begins a piece.

    The last piece ends at ``end``; with ``end=None`` it is what is left in :attr:`rest`.
    """

    def __init__(self, piece_size: int, start: int, end: int | None) -> None:
        self.rest = bytearray()
        """The bytes of the piece under way."""
        self.surplus = 0
        """How many bytes came behind ``end``."""
        self.piece_size = piece_size
        self._number = start // piece_size
        self._end = end

    @property
    def position(self) -> int:
        """The first byte of the file that has not come yet."""
        return self._number * self.piece_size + len(self.rest) if not self.done else self._end or 0

    @property
    def done(self) -> bool:
        """All up to ``end`` came."""
        return self._end is not None and self._number * self.piece_size + len(self.rest) >= self._end

    def cut(self, data: memoryview) -> Iterator[tuple[int, bytearray]]:
        """Take ``data`` and give the pieces that it completes, with their numbers."""
        while data:
            first = self._number * self.piece_size
            size = self.piece_size if self._end is None else min(self.piece_size, self._end - first)
            if size <= 0:
                self.surplus += len(data)
                return
            taken = data[: size - len(self.rest)]
            self.rest += taken
            data = data[len(taken) :]
            if len(self.rest) == size:
                piece, self.rest = self.rest, bytearray()
                self._number += 1
                yield self._number - 1, piece
