"""One call at a time for each key. Callers that arrive during a call share its result."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(slots=True, eq=False)
class _Call(Generic[V]):
    task: asyncio.Task[V]
    callers: int = 0


class SingleFlight(Generic[K, V]):
    """Runs at most one call at a time for each key. Its result or its error goes to all callers.

    A cancelled caller does not cancel the call. By default the call continues without callers, so it needs a time limit
    of its own. With ``stop_unattended``, the call is cancelled when its last caller is cancelled.
    """

    def __init__(self, *, stop_unattended: bool = False) -> None:
        self._stop_unattended = stop_unattended
        self._calls: dict[K, _Call[V]] = {}

    async def share(self, key: K, call: Callable[[], Awaitable[V]]) -> V:
        """Start ``call``, unless a call for ``key`` runs already. Returns its result or raises its error."""
        shared = self._calls.get(key)
        while shared is not None and shared.task.cancelling():
            await asyncio.wait({shared.task})
            shared = self._calls.get(key)
        if shared is None:
            shared = self._calls[key] = _Call(asyncio.create_task(_run(call)))
            shared.task.add_done_callback(lambda done: self._on_done(key, done))
        shared.callers += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.callers -= 1
            if self._stop_unattended and not shared.callers:
                shared.task.cancel()

    async def close(self) -> None:
        """Cancel all calls."""
        tasks = [shared.task for shared in self._calls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _on_done(self, key: K, task: asyncio.Task[V]) -> None:
        del self._calls[key]
        if not task.cancelled():
            task.exception()  # retrieved, although all callers may have left


async def _run(call: Callable[[], Awaitable[V]]) -> V:
    return await call()
