"""A memory that forgets: what is too old, and what was not asked for longest when it is full. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Kept(NamedTuple, Generic[V]):
    value: V
    until: float
    weight: int


class Cache(Generic[K, V]):
    """Holds values of a total weight of ``limit`` at most; each weighs 1 unless ``weigh`` says otherwise."""

    def __init__(self, limit: int, weigh: Callable[[V], int] = lambda _: 1) -> None:
        self._limit = limit
        self._weigh = weigh
        self._weight = 0
        self._kept: OrderedDict[K, _Kept[V]] = OrderedDict()

    @property
    def weight(self) -> int:
        """Of all that is held."""
        return self._weight

    def get(self, key: K, now: float) -> V | None:
        """What is held for ``key`` at the time ``now``, in seconds of any clock."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until <= now:
            self.drop(key)
            return None
        self._kept.move_to_end(key)
        return kept.value

    def put(self, key: K, value: V, until: float) -> None:
        """Hold ``value`` until that time; not at all if it alone is too heavy."""
        self.drop(key)
        weight = self._weigh(value)
        if weight > self._limit:
            return
        self._kept[key] = _Kept(value, until, weight)
        self._weight += weight
        while self._weight > self._limit:
            self.drop(next(iter(self._kept)))

    def drop(self, key: K) -> None:
        """Forget ``key``."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._weight -= kept.weight
