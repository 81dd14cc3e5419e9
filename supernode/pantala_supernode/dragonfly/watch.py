"""Waiting for news of a task's copy."""

import asyncio
import contextlib
from collections.abc import Callable

from pantala_supernode.tasks.task import Task


class CopyWatch:
    """Reports changes of a copy's status, generation or failure, but not each new piece.

    ``lookup`` finds a task. ``on_change`` is called with its ID.
    """

    def __init__(self, lookup: Callable[[str], Task | None], on_change: Callable[[str], None]) -> None:
        self._lookup = lookup
        self._on_change = on_change
        self._states: dict[str, tuple[object, ...]] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    def on_task_changed(self, task_id: str) -> None:
        task = self._lookup(task_id)
        before = self._states.pop(task_id, None)
        if task is not None:
            copy = task.copy
            self._states[task_id] = (copy.status, copy.generation, copy.failure)
        if self._states.get(task_id) == before:
            return
        for news in self._waiting.pop(task_id, ()):
            if not news.done():
                news.set_result(None)
        self._on_change(task_id)

    async def until(self, task_id: str, decided: Callable[[Task], bool], seconds: float) -> Task | None:
        """Return the task once ``decided`` is true, or its state after ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (task := self._lookup(task_id)) is not None and not decided(task):
                    await self._news(task_id)
        return self._lookup(task_id)

    async def _news(self, task_id: str) -> None:
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(task_id, set()).add(news)
        try:
            await news
        finally:
            waiting = self._waiting.get(task_id, set())
            waiting.discard(news)
            if not waiting:
                self._waiting.pop(task_id, None)
