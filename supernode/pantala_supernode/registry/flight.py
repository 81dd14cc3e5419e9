"""Asking once for all who want the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Flight(Generic[K, V]):
    """Runs one coroutine a key at a time; who comes meanwhile shares its result or its error.

    Who is cancelled leaves alone; the coroutine goes on for the others, so it needs a time limit of its own.
    """

    def __init__(self) -> None:
        self._under_way: dict[K, asyncio.Task[V]] = {}

    async def share(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """The result of ``ask``, or of one that is under way for ``key``."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(_run(ask))
            task.add_done_callback(lambda done: self._land(key, done))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _land(self, key: K, task: asyncio.Task[V]) -> None:
        self._under_way.pop(key, None)
        if not task.cancelled():
            task.exception()  # it may be that nobody waits for it any more


async def _run(ask: Callable[[], Awaitable[V]]) -> V:
    return await ask()
