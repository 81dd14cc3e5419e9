"""Bounding bytes per second, of all who share one rate together."""

from __future__ import annotations

import asyncio

from aiolimiter import AsyncLimiter

_WINDOW = 0.1
"""Seconds whose bytes may go at once."""


class Rate:
    """At most so many bytes a second, first come, first served; any amount can be asked for."""

    def __init__(self, bytes_per_second: float) -> None:
        self._portion = bytes_per_second * _WINDOW
        self._limiter = AsyncLimiter(self._portion, _WINDOW)
        self._turn = asyncio.Lock()

    async def acquire(self, amount: float = 1) -> None:
        """Wait until ``amount`` more bytes may go."""
        async with self._turn:
            while amount > 0:
                portion = min(amount, self._portion)
                await self._limiter.acquire(portion)
                amount -= portion
