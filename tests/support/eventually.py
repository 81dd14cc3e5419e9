"""Waits in tests for what no event announces."""

import asyncio
from collections.abc import Callable


async def eventually(check: Callable[[], bool], *, within: float) -> None:
    """Return as soon as ``check`` is true. Fail after ``within`` seconds."""
    async with asyncio.timeout(within):
        while not check():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
