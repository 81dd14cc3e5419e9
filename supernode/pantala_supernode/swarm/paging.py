"""Pages of lists, as Dragonfly's API asks for them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from pantala_supernode.errors import InvalidValueError

T = TypeVar("T")


class Direction(StrEnum):
    """Which end comes first."""

    ASC = "ASC"
    DESC = "DESC"


@dataclass(frozen=True, slots=True)
class PageFilter:
    """Which part of a list, and in which order. Raises :class:`InvalidValueError` for a negative number or size."""

    number: int = 0
    """The first page is 0."""
    size: int = 0
    """Items on a page; 0: all items are on one."""
    keys: tuple[str, ...] = ()
    """The first one counts most; none: as the list is."""
    direction: Direction = Direction.ASC

    def __post_init__(self) -> None:
        if self.number < 0 or self.size < 0:
            raise InvalidValueError("a page's number and size must not be negative")

    def of(self, items: Iterable[T], keys: Mapping[str, Callable[[T], str | int]]) -> list[T]:
        """The page of ``items``; ``keys`` tells what they can be sorted by.

        Raises :class:`InvalidValueError` for any other key.
        """
        unknown = [key for key in self.keys if key not in keys]
        if unknown:
            raise InvalidValueError(f"the list is sorted by {', '.join(keys)} and not by {unknown[0][:40]!r}")
        listed = list(items)
        if self.keys:
            listed.sort(key=lambda item: [keys[key](item) for key in self.keys])
        if self.direction is Direction.DESC:
            listed.reverse()
        if not self.size:
            return listed if self.number == 0 else []
        return listed[self.number * self.size : (self.number + 1) * self.size]
