"""Which copies leave the volume. Pure: only copies that nobody wants are ever shown to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pantala_pieces.store import Usage
from pantala_protocol.task_id import TaskID


class EvictionCause(StrEnum):
    """Why a copy was removed."""

    DROPPED = "dropped"
    """The operator does not state it any more."""
    AGE = "age"
    """Nobody wanted it for too long."""
    DISK = "disk"
    """The volume was fuller than it should be."""
    ROOM = "room"
    """Another copy needed its room."""


@dataclass(frozen=True, slots=True)
class Unwanted:
    """A copy that nobody wants."""

    task_id: TaskID
    used: float
    """When it was wanted or read last, in seconds since the epoch."""
    size: int = 0
    """Bytes on the disk."""


@dataclass(frozen=True, slots=True)
class Watermarks:
    """How full the volume's file system may be, in percent of its bytes."""

    high: float = 90.0
    """Above it copies are removed ..."""
    low: float = 80.0
    """... until it is no fuller than this, so that not each further piece costs a copy."""

    def excess(self, usage: Usage) -> int:
        """How many bytes are to be freed now."""
        taken = usage.total - usage.free
        return 0 if taken <= usage.total * self.high / 100 else int(taken - usage.total * self.low / 100)


def aged(copies: Iterable[Unwanted], *, now: float, kept_for: float) -> list[Unwanted]:
    """Those that nobody used for ``kept_for`` seconds."""
    return [copy for copy in copies if now - copy.used >= kept_for]


def least_recently_used(copies: Iterable[Unwanted], needed: int) -> list[Unwanted]:
    """The fewest of those used longest ago that have ``needed`` bytes together; all, if all have not."""
    chosen: list[Unwanted] = []
    for copy in sorted(copies, key=lambda copy: (copy.used, copy.task_id)):
        if needed <= 0:
            break
        chosen.append(copy)
        needed -= copy.size
    return chosen
