"""Limits the disk space for the blobs of images. The least recently used blobs are dropped first. Pure.

A blob has a task without deliveries. The peer can fetch a blob again, so blobs stay only while there is room.
"""

import itertools
from collections.abc import Callable, Collection, Mapping

MAX_LIMIT = 10 * 1024**3
"""The default limit in bytes on a large filesystem."""

SHARE = 0.1
"""The default limit on a smaller filesystem, as a fraction of the filesystem's size."""


def usual_limit(total: int) -> int:
    """The default limit in bytes on a filesystem of ``total`` bytes."""
    return min(MAX_LIMIT, int(total * SHARE))


class BlobRoom:
    """Chooses the blobs to drop. A blob stays while the mirror reads it or an image order keeps it."""

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._uses = itertools.count(1)
        self._used: dict[str, int] = {}
        self._demanded: set[str] = set()
        self._ordered: Collection[str] = ()

    def open(self, total: int) -> None:
        """Set the default limit for a filesystem of ``total`` bytes, unless a limit is configured."""
        if self._limit is None:
            self._limit = usual_limit(total)

    def demand(self, name: str, *, demanded: bool) -> None:
        """Record that a task's blob is used now. ``demanded`` is True while a reader reads the blob."""
        self._used[name] = next(self._uses)
        if demanded:
            self._demanded.add(name)
        else:
            self._demanded.discard(name)

    def order(self, names: Collection[str]) -> None:
        """Set the tasks that image orders keep."""
        self._ordered = names

    def is_ordered(self, name: str) -> bool:
        return name in self._ordered

    def must_stay(self, name: str) -> bool:
        return name in self._demanded or name in self._ordered

    def forget_others(self, names: Collection[str]) -> None:
        """Remove the records of last use of all tasks outside ``names``."""
        self._used = {name: used for name, used in self._used.items() if name in names}

    def surplus(self, held: Mapping[str, int], whole: Callable[[str], bool], *, free: int = 0) -> list[str]:
        """The tasks to drop, so that the kept tasks fit and ``free`` more bytes become free. Incomplete tasks stay.

        ``held`` has the bytes of each task. If all droppable tasks have fewer bytes than ``free``, ``free`` is ignored.
        """
        idle = [name for name in held if whole(name) and not self.must_stay(name)]
        if free > sum(held[name] for name in idle):
            free = 0
        excess = free if self._limit is None else max(free, sum(held.values()) - self._limit)
        chosen: list[str] = []
        for name in sorted(idle, key=lambda name: (self._used.get(name, 0), name)):
            if excess <= 0:
                break
            chosen.append(name)
            excess -= held[name]
        return chosen
