"""Hands results from threads to the event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Calls ``deliver`` in the event loop with all results that arrived since its last call.

    The loop is woken once for many results. After a delivery, results wait for ``join`` seconds and are then delivered
    together, unless one is urgent. Create the mailbox in the loop. Any thread may :meth:`post`.
    """

    def __init__(self, deliver: Callable[[Sequence[T]], None], *, join: float = 0.0) -> None:
        self._deliver = deliver
        self._join = join
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._posted: list[T] = []
        self._called = False
        """True from the wake-up of the loop until it delivers."""
        self._timer: asyncio.TimerHandle | None = None
        """Runs for ``join`` seconds after a delivery. Meanwhile, results that are not urgent wait."""

    @property
    def waiting(self) -> int:
        """The number of results that are not delivered yet."""
        return len(self._posted)

    def post(self, result: T, *, urgent: bool = False) -> None:
        """Deliver a result soon. Does nothing after the end of the loop."""
        with self._lock:
            self._posted.append(result)
            if self._called or (self._timer is not None and not urgent):
                return
            self._called = True
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        with self._lock:
            posted, self._posted = self._posted, []
            self._called = False
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(self._join, self._flush) if self._join and posted else None
        if posted:
            self._deliver(posted)
