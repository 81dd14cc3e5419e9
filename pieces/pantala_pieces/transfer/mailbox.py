"""Hands results from threads to the event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Calls ``deliver`` in the event loop with all results that arrived since its last call.

    The loop is woken once for many results: also for those of the next ``join`` seconds. Create the mailbox in the
    loop; any thread may :meth:`post`.
    """

    def __init__(self, deliver: Callable[[Sequence[T]], None], *, join: float = 0.0) -> None:
        self._deliver = deliver
        self._join = join
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._posted: list[T] = []

    def post(self, result: T) -> None:
        """Deliver a result soon. Does nothing after the end of the loop."""
        with self._lock:
            self._posted.append(result)
            if len(self._posted) > 1:
                return  # the loop is on its way
        with contextlib.suppress(RuntimeError):  # the loop has ended
            if self._join:
                self._loop.call_soon_threadsafe(self._loop.call_later, self._join, self._flush)
            else:
                self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        with self._lock:
            posted, self._posted = self._posted, []
        self._deliver(posted)
