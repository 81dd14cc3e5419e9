"""An event loop whose clock jumps to the next timer, so that tests of timeouts take no time.

Tests with the marker ``virtual_time`` run in it. They may use sockets if both ends are in this loop, and threads by
:func:`asyncio.to_thread`. They must not wait for processes.
"""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _JumpingSelector(selectors.DefaultSelector):
    """Adds the time that the loop would sleep to ``now``. Without a timer it blocks, so that a deadlock times out."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.threads = 0
        """The number of calls that run in other threads. Meanwhile the clock does not jump."""

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or (timeout > 0 and self.threads):
            return super().select(None)
        ready = super().select(0.0)  # the loopback passes bytes at once
        if not ready:
            self.now += max(timeout, 0.0)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock starts at 0 and jumps to the next timer."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        self._clock.threads += 1
        call = super().run_in_executor(executor, func, *args)
        call.add_done_callback(self._count_end)
        return call

    def _count_end(self, _: object) -> None:
        self._clock.threads -= 1
