"""Waiting for news of a task's copy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pantala_supernode.tasks.task import Task


class Watch:
    """Tells those who wait, and ``turned``, what became of copies; not of each piece.

    ``lookup`` finds a task.
    """

    def __init__(self, lookup: Callable[[str], Task | None], turned: Callable[[str], None]) -> None:
        self._lookup = lookup
        self._turned = turned
        self._states: dict[str, tuple[object, ...]] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}

    def changed(self, task_id: str) -> None:
        """There is news of a task."""
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
        self._turned(task_id)

    async def until(self, task_id: str, decided: Callable[[Task], bool], seconds: float) -> Task | None:
        """The task once it is ``decided``, or as it is after ``seconds``."""
        task = self._lookup(task_id)
        if task is None or decided(task):
            return task
        try:
            async with asyncio.timeout(seconds):
                while (task := self._lookup(task_id)) is not None and not decided(task):
                    await self._news(task_id)
        except TimeoutError:
            pass
        return self._lookup(task_id)

    async def _news(self, task_id: str) -> None:
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(task_id, set()).add(news)
        try:
            await news
        finally:
            waiting = self._waiting.get(task_id)
            if waiting is not None:
                waiting.discard(news)
                if not waiting:
                    del self._waiting[task_id]
