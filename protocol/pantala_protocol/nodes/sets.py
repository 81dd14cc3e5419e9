"""Sets of nodes as bit masks over a table of names. Pure.

A :class:`NodeSet` of 1,000 nodes takes 200 bytes, and a ``frozenset`` 32 KiB. The operator has one set for each Task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from typing import Any

from pantala_protocol import ranges

_MASKS = 16
"""The number of sets of names whose masks a table caches."""


class NodeTable:
    """Names of nodes in a fixed order. The number of a node is its position."""

    __slots__ = ("_masks", "_numbers", "names")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self._masks: dict[frozenset[str], int] = {}

    def number(self, name: object) -> int | None:
        return self._numbers.get(name) if isinstance(name, str) else None

    def mask(self, names: Set[str]) -> int:
        """The bit mask of those ``names`` that the table has."""
        if isinstance(names, NodeSet) and names.table is self:
            return names.mask
        if not isinstance(names, frozenset):
            return self._mask(names)
        if names not in self._masks:
            if len(self._masks) >= _MASKS:
                self._masks.clear()
            self._masks[names] = self._mask(names)
        return self._masks[names]

    def parse(self, text: str) -> NodeSet:
        """Read a set from the ranges of its numbers, as in ``"0-3,7"``. Numbers beyond the table are left out.

        Raises :class:`ValueError`.
        """
        return NodeSet(self, ranges.parse(text) & ((1 << len(self.names)) - 1))

    def _mask(self, names: Iterable[str]) -> int:
        digits = bytearray(b"0") * (len(self.names) + 1)
        for name in names:
            if (number := self._numbers.get(name)) is not None:
                digits[-1 - number] = 49
        return int(digits, 2)


class NodeSet(Set[str]):
    """An immutable set of nodes of one table. An operation gives a ``frozenset`` if the table may lack a node of it."""

    __slots__ = ("mask", "table")

    def __init__(self, table: NodeTable, mask: int) -> None:
        self.table = table
        self.mask = mask

    @classmethod
    def _from_iterable(cls, names: Iterable[Any]) -> frozenset[Any]:
        return frozenset(names)

    def __contains__(self, name: object) -> bool:
        number = self.table.number(name)
        return number is not None and bool(self.mask >> number & 1)

    def __iter__(self) -> Iterator[str]:
        return (self.table.names[number] for number in ranges.members(self.mask))

    def __len__(self) -> int:
        return self.mask.bit_count()

    def __and__(self, other: Set[Any]) -> Set[str]:
        return NodeSet(self.table, self.mask & self.table.mask(other))

    def __rand__(self, other: Set[Any]) -> Set[str]:
        return self & other

    def __sub__(self, other: Set[Any]) -> Set[str]:
        return NodeSet(self.table, self.mask & ~self.table.mask(other))

    def __or__(self, other: Set[Any]) -> Set[Any]:
        mask = self.table.mask(other)
        if mask.bit_count() == len(other):
            return NodeSet(self.table, self.mask | mask)
        return frozenset((*self, *other))

    def __ror__(self, other: Set[Any]) -> Set[Any]:
        return self | other

    def __le__(self, other: Set[Any]) -> bool:
        return self.mask & ~self.table.mask(other) == 0

    def __repr__(self) -> str:
        return f"<NodeSet of {len(self)} nodes>"
