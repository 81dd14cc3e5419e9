"""Telling those who wait for a task that a piece of it was verified and kept."""

from __future__ import annotations

import asyncio

from pantala_peer.download.jobs import Keeper
from pantala_protocol.sync import Work


class Arrivals:
    """A keeper beside the one that keeps."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    async def put(self, work: Work, data: memoryview) -> None:
        """Verify and keep, and say so. Raises what the keeper raises."""
        await self._keeper.put(work, data)
        for waiting in self._waiting.pop(work.task_id, ()):
            if not waiting.done():
                waiting.set_result(None)

    async def wait(self, task_id: str) -> None:
        """Return after the next piece of the task. None is missed between a look and the call that follows it."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(task_id, set()).add(future)
        try:
            await future
        finally:
            waiting = self._waiting.get(task_id)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._waiting[task_id]
