"""How much of the disk images' blobs may take: what nobody wanted for longest goes first. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping

MOST = 10 * 1024**3
"""Bytes that blobs may take if nothing else is said."""

SHARE = 0.1
"""Of the filesystem, where that is less."""


def usual(total: int) -> int:
    """The bytes that blobs may take on a filesystem of ``total`` bytes."""
    return min(MOST, int(total * SHARE))


class BlobRoom:
    """Chooses what to drop. ``spared`` tells of a task whether it must stay: it is being read, or ordered."""

    def __init__(self, limit: int | None = None, *, spared: Callable[[str], bool] = lambda _name: False) -> None:
        self.limit = limit
        """Bytes; ``None``: no limit."""
        self.spared = spared
        self._uses = itertools.count(1)
        self._used: dict[str, int] = {}

    def use(self, name: str) -> None:
        """A blob's task is wanted, or was until now."""
        self._used[name] = next(self._uses)

    def keep_only(self, names: Collection[str]) -> None:
        """Of no others is it to be known when they were used."""
        self._used = {name: used for name, used in self._used.items() if name in names}

    def surplus(self, held: Mapping[str, int], whole: Callable[[str], bool], *, free: int = 0) -> list[str]:
        """Which of the tasks to drop so that all fit, and ``free`` bytes come free; what is not whole is at work.

        ``held`` has the bytes of each. Where all together do not come to ``free`` bytes nothing is dropped for them.
        """
        idle = [name for name in held if whole(name) and not self.spared(name)]
        if free > sum(held[name] for name in idle):
            free = 0
        excess = free if self.limit is None else max(free, sum(held.values()) - self.limit)
        chosen: list[str] = []
        for name in sorted(idle, key=lambda name: (self._used.get(name, 0), name)):
            if excess <= 0:
                break
            chosen.append(name)
            excess -= held[name]
        return chosen
