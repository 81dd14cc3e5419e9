"""Waits for the pieces of a task."""

from __future__ import annotations

import asyncio

from pantala_peer.events import DownloadEnded, PeerEvents


class PieceWaiters:
    """Wakes the readers that wait for a task, each time a piece of it is stored."""

    def __init__(self, events: PeerEvents) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        events.subscribe(DownloadEnded, self._on_download_ended)

    async def wait(self, task_id: str) -> None:
        """Return after the next piece. A caller that looks first and then waits at once misses none."""
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

    def _on_download_ended(self, event: DownloadEnded) -> None:
        if event.error is None:
            for waiting in self._waiting.pop(event.work.task_id, ()):
                if not waiting.done():
                    waiting.set_result(None)
