"""Merges identical calls that run at the same time, and cancels groups of asyncio tasks."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_TURN = 0.01
"""Seconds for which :class:`Turns` calls without a pause."""


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

    async def share(self, key: K, call: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Start ``call``, unless a call for ``key`` runs already. Returns its result or raises its error."""
        shared = self._calls.get(key)
        while shared is not None and shared.task.cancelling():
            await asyncio.wait({shared.task})
            shared = self._calls.get(key)
        if shared is None:
            shared = self._calls[key] = _Call(asyncio.create_task(call()))
            shared.task.add_done_callback(lambda done: self._on_done(key, done))
        shared.callers += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.callers -= 1
            if self._stop_unattended and not shared.callers:
                shared.task.cancel()

    async def close(self) -> None:
        await cancel_all(shared.task for shared in self._calls.values())

    def _on_done(self, key: K, task: asyncio.Task[V]) -> None:
        del self._calls[key]
        if not task.cancelled():
            task.exception()  # retrieved, although all callers may have left


async def cancel_all(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel these tasks, and wait until they have ended. Their errors are dropped."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


class Turns(Generic[K]):
    """Calls ``work`` for each key. After some milliseconds, the other keys wait for the next turn of the event loop."""

    def __init__(self, work: Callable[[K], object]) -> None:
        self._work = work
        self._waiting: dict[K, None] = {}
        self._next: asyncio.Handle | None = None

    def add(self, keys: Iterable[K]) -> None:
        """Call ``work`` for these keys until the turn ends. Later turns call it for the rest.

        A key that waits already is called once. Raises an error of a call in this turn.
        """
        left, end = iter(dict.fromkeys(keys)), time.monotonic() + _TURN
        try:
            for key in left:
                self._waiting.pop(key, None)
                self._work(key)
                if time.monotonic() >= end:
                    break
        finally:
            self._waiting.update(dict.fromkeys(left))
            if self._waiting and self._next is None:
                self._next = asyncio.get_running_loop().call_soon(self._continue)

    def close(self) -> None:
        """Call ``work`` for no further key."""
        self._waiting.clear()

    def _continue(self) -> None:
        waiting, self._waiting, self._next = self._waiting, {}, None
        self.add(waiting)
