"""An event loop whose clock jumps to the next timer, so that tests of timeouts take no time.

Tests with the marker ``virtual_time`` run in it. They may use sockets if both ends are in this loop. They must not wait
for threads or processes.
"""

import asyncio
import selectors
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):
    """Adds the time that the loop would sleep to ``now``. Without a timer it blocks, so that a deadlock times out."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            return super().select(None)
        ready = super().select(0.0)  # the loopback passes bytes at once
        if not ready:
            self.now += max(timeout, 0.0)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at the time 0."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now
