"""Limits how many requests to registries run at once. Hosts that do not answer cannot use up all places."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

H = TypeVar("H")

_PART = 4


class HostPlaces(Generic[H]):
    """``places`` places for requests, of which one host has at most ``most``.

    A host gets at most a quarter of the places that other hosts do not use, or one place. So each further host that
    does not answer gets fewer places, and hosts that answer still find some.
    """

    def __init__(self, places: int, most: int) -> None:
        self._free = places
        self._most = most
        self._held: Counter[H] = Counter()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def place(self, host: H) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: self._held[host] < self._allowed(host))
            self._free -= 1
            self._held[host] += 1
        try:
            yield
        finally:
            self._free += 1
            self._held[host] -= 1
            if not self._held[host]:
                del self._held[host]
            await asyncio.shield(self._notify())

    def _allowed(self, host: H) -> int:
        if not self._free:
            return 0
        return min(self._most, max((self._free + self._held[host]) // _PART, 1))

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
