"""How much room a disk has. A part of the disk, the headroom, stays free for other programs."""

import os
from pathlib import Path
from typing import NamedTuple

from pantala_pieces.errors import StoreFullError
from pantala_protocol.rules import quantity

SPARE_PIECES = 16
"""Room for this many pieces must be free before a part of a piece is written without reserved room."""


class Usage(NamedTuple):
    """The room of a disk in bytes."""

    free: int
    """The bytes that are free for unprivileged processes."""
    total: int
    headroom: int = 0
    """The bytes that must stay free."""

    @classmethod
    def of(cls, where: Path | int, headroom: float = 0.0) -> "Usage":
        """Measure the disk of a path or a file descriptor. ``headroom`` is in percent. Raises :class:`OSError`."""
        disk = os.statvfs(where)
        total = disk.f_blocks * disk.f_frsize
        return cls(disk.f_bavail * disk.f_frsize, total, int(total * headroom / 100))

    @property
    def spare(self) -> int:
        """The bytes that may be written."""
        return max(0, self.free - self.headroom)

    def check(self, size: int, what: str) -> None:
        """Raise :class:`StoreFullError` if ``size`` bytes do not fit. ``what`` is the operation that needs them."""
        if size > self.spare:
            kept = f" besides the {quantity.render(self.headroom)}B that must stay free" if self.headroom else ""
            why = f"{quantity.render(size)}B are needed, but only {quantity.render(self.spare)}B are free{kept}"
            raise StoreFullError(f"cannot {what}: {why}", why)
