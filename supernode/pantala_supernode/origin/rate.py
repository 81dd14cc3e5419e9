"""Divides the bytes per second that are read from origins among tenants by their shares."""

import threading
import time
from collections.abc import Callable
from functools import partial

from pantala_process.fair import Claim, FairQueue
from pantala_supernode.origin.limits import Rate
from pantala_supernode.origin.stream import Throttle
from pantala_supernode.tasks.copy import FileSource
from pantala_supernode.tasks.shares import Shares

_SHORTEST = 0.0002
"""Seconds. The system cannot sleep exactly for a shorter pause."""
_SLACK = 1024 * 1024.0
"""Bytes of credit. Between two reads, a connection pauses for a short time, and must not lose its turn meanwhile."""


class OriginRate:
    """Lets ``bytes_per_second`` of all bodies pass. While several tenants wait, each gets its share.

    Bytes wait in a queue. One thread lets them pass as soon as the rate allows. It runs until the process ends.
    """

    def __init__(self, bytes_per_second: float, shares: Shares) -> None:
        self._rate = Rate(bytes_per_second)
        self._shares = shares
        self._changed = threading.Condition()
        self._queue: FairQueue[tuple[int, Callable[[], None]]] = FairQueue(slack=_SLACK)
        self._thread: threading.Thread | None = None

    def throttle(self, source: FileSource) -> Throttle:
        """The function that lets the bytes of one body pass."""
        return partial(self._ask, self._shares.claim(source))

    def _ask(self, claim: Claim, amount: int, go: Callable[[], None]) -> None:
        with self._changed:
            self._queue.put((amount, go), claim, amount)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="origin-rate", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._queue) > 0)
                amount, go = self._queue.pop()
            go()
            # Choose the next bytes as late as possible, because the same connection may wait again by then.
            pause = self._rate.reserve(amount)
            if pause > _SHORTEST:  # the rate adds a shorter pause to the next one
                time.sleep(pause)
