"""An event loop in virtual time. Its clock jumps to the next timer of asyncio or to the next event of the model.

Events of the model are tuples on one heap, because the timers of asyncio cost several times as much.
"""

import asyncio
import itertools
import selectors
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class _Agenda(selectors.SelectSelector):
    """The events of the model in the order of their time.

    The next event is carried out instead of a wait for sockets.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is not None and timeout <= 0.0:
            return []
        events = self.events
        if events and (timeout is None or events[0][0] <= self.now + timeout):
            when, _, call, arguments = heappop(events)
            self.now = max(self.now, when)
            call(*arguments)
        elif timeout is None:
            raise RuntimeError("No event is left, but the simulation has not ended. Look for a lost wake-up.")
        else:
            self.now += timeout
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock starts at 0. It must not wait for sockets, threads or processes."""

    def __init__(self) -> None:
        self._agenda = _Agenda()
        self._numbers = itertools.count()
        super().__init__(self._agenda)

    def time(self) -> float:
        return self._agenda.now

    def at(self, when: float, call: Callable[..., object], *arguments: object) -> None:
        """Call a function at a moment. Calls for the same moment keep their order. A call cannot be cancelled."""
        heappush(self._agenda.events, (when, next(self._numbers), call, arguments))

    async def until(self, when: float) -> None:
        future = self.create_future()
        self.at(when, _settle, future)
        await future


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
