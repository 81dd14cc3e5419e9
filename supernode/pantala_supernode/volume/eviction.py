"""Chooses which unwanted copies to evict from the volume. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from pantala_pieces.usage import Usage
from pantala_protocol.task_id import TaskID


class EvictionCause(StrEnum):
    """Why a copy was removed."""

    DROPPED = "dropped"
    """No task wanted the copy any more, and it was not kept as a cache."""
    AGE = "age"
    """The copy was unused for too long."""
    DISK = "disk"
    """The volume's file system was fuller than :attr:`Housekeeping.high`."""
    ROOM = "room"
    """Another copy needed the room."""


@dataclass(frozen=True, slots=True)
class Unwanted:
    """A copy that no task wants."""

    task_id: TaskID
    used: float
    """When the copy was last wanted or read, in seconds since the epoch."""
    size: int = 0
    """The size of the copy on the disk in bytes."""


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """How long copies stay, in seconds, and how full the volume's file system may become, in percent."""

    grace: float
    """The fewest seconds for which an unwanted copy stays."""
    kept_for: float
    """Seconds from the last use of an unwanted copy to its eviction."""
    high: float
    """Percentage of the file system in use above which copies are evicted."""
    low: float
    """Percentage at which evictions end. It is below ``high``, so that not every new piece evicts a copy."""

    def excess(self, usage: Usage) -> int:
        taken = usage.total - usage.free
        return 0 if taken <= usage.total * self.high / 100 else int(taken - usage.total * self.low / 100)


def aged(copies: Iterable[Unwanted], *, now: float, kept_for: float) -> list[Unwanted]:
    return [copy for copy in copies if now - copy.used >= kept_for]


def least_recently_used(copies: Iterable[Unwanted], needed: int) -> list[Unwanted]:
    """The least recently used copies that have ``needed`` bytes together, or all copies if they have fewer bytes."""
    chosen: list[Unwanted] = []
    for copy in sorted(copies, key=lambda copy: (copy.used, copy.task_id)):
        if needed <= 0:
            break
        chosen.append(copy)
        needed -= copy.size
    return chosen
