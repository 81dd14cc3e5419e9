"""Pauses between tries."""

from __future__ import annotations

import asyncio
import random


class Backoff:
    """Doubling pauses with jitter, from ``first`` to ``longest`` seconds; :meth:`reset` after a success."""

    def __init__(self, first: float, longest: float) -> None:
        """Begin with ``first``."""
        self._first = first
        self._longest = longest
        self._next = first

    def reset(self) -> None:
        """Begin anew."""
        self._next = self._first

    async def pause(self) -> None:
        """Sleep between half of the pause and all of it, so that those who failed together do not come together."""
        pause, self._next = self._next, min(self._next * 2, self._longest)
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - not for secrets
