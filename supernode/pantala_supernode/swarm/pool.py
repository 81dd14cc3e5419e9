"""Names to draw from at random: whatever is done costs the same, however many there are. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Chance(Protocol):
    """What is used of :class:`random.Random`."""

    def randrange(self, stop: int, /) -> int:
        """A number of ``range(stop)``."""

    def sample(self, population: list[T], k: int) -> list[T]:
        """``k`` different members."""

    def choices(self, population: list[T], *, k: int) -> list[T]:
        """``k`` members; the same may come more than once."""


class Pool:
    """A set of names."""

    __slots__ = ("_names", "_place")

    def __init__(self) -> None:
        self._names: list[str] = []
        self._place: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._names))

    def __contains__(self, name: str) -> bool:
        return name in self._place

    def add(self, name: str) -> None:
        """Put a name in. Idempotent."""
        if name not in self._place:
            self._place[name] = len(self._names)
            self._names.append(name)

    def discard(self, name: str) -> None:
        """Take a name out. Idempotent."""
        place = self._place.pop(name, None)
        if place is None:
            return
        last = self._names.pop()
        if last != name:
            self._names[place] = last
            self._place[last] = place

    def draw(self, chance: Chance, most: int) -> list[str]:
        """Up to ``most`` names in random order; all, if there are no more. Of many, one may come twice."""
        names = self._names
        if len(names) <= most:
            return chance.sample(names, len(names)) if len(names) > 1 else names[:]
        return chance.choices(names, k=most)  # one twice does no harm, and costs a fifth of a sample
