"""The answers that wait for a slot, and the choice of the next answer to send."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from pantala_pieces.transfer.upload.admission import PieceAnswer
from pantala_pieces.transfer.upload.connection import InboundConnection
from pantala_process.fair import Claim, FairQueue

_SLACK = 8.0 * 1024 * 1024
"""Bytes of credit. Between two pieces, a client waits for a short time, and must not lose its turn meanwhile."""


class Upload:
    """One answer that waits for a slot, is being sent, or is parked."""

    def __init__(self, connection: InboundConnection, answer: PieceAnswer, claim: Claim, queued_at: float) -> None:
        self.connection = connection
        self.answer = answer
        self.claim = claim
        self.queued_at = queued_at
        self.position = 0
        """How many bytes of the answer, with its head, were handed to the kernel."""
        self.until = float("inf")
        """When the client must have the answer, in monotonic seconds. Known once the first byte is sent."""
        self.begun = False
        """True once a slot has begun to send the answer. From then on, it is not refused for lack of a slot."""
        self.waits = False


class UploadQueue:
    """Gives slots to uploads: tenants get bytes by their shares, and the clients of a tenant get the same.

    ``pace`` is called with the size of a piece, and returns the seconds until the next piece may be sent. Any thread
    may use the queue.
    """

    def __init__(self, pace: Callable[[int], float] | None) -> None:
        self._pace = pace
        self._changed = threading.Condition()
        self._queue: FairQueue[Upload] = FairQueue(slack=_SLACK)
        self._order: deque[Upload] = deque()
        """Uploads in the order of their requests. An upload that no longer waits is removed when it is the first."""
        self._idle = 0
        """The number of threads that wait for an upload."""
        self._paced = False
        """True while a thread waits until the rate allows the next piece."""
        self._open_at = 0.0
        self._closed = False

    @property
    def crowded(self) -> bool:
        """True if an upload waits because all slots are taken."""
        return len(self._queue) > self._idle

    def put(self, upload: Upload) -> None:
        """Add an upload that waits for a slot."""
        with self._changed:
            upload.waits = True
            # The whole answer was counted when a slot began to send it.
            self._queue.put(upload, upload.claim, 1 if upload.begun else max(upload.answer.counted, 1))
            if not upload.begun:
                self._order.append(upload)
            self._changed.notify()

    def take(self) -> Upload | None:
        """Wait for the next upload to send. ``None``: no upload waits, and the queue was closed."""
        with self._changed:
            self._idle += 1
            try:
                while True:
                    delay = self._delay()
                    if delay is not None and delay <= 0.0:
                        break
                    if delay is None and self._closed:
                        return None
                    self._wait(delay)
                upload = self._queue.pop()
            finally:
                self._idle -= 1
            upload.waits = False
            if self._pace is not None and not upload.begun:
                self._open_at = time.monotonic() + self._pace(upload.answer.size)
            if len(self._queue):
                self._changed.notify()
            return upload

    def overdue(self, before: float) -> list[Upload]:
        """Take the uploads that have waited for a slot since ``before``, the oldest first."""
        found: list[Upload] = []
        with self._changed:
            while self._order and (not self._order[0].waits or self._order[0].begun):
                self._order.popleft()
            while self._order and self.crowded and self._order[0].queued_at <= before:
                upload = self._order.popleft()
                if upload.waits and not upload.begun:
                    upload.waits = False
                    self._queue.discard(upload, upload.claim)
                    found.append(upload)
        return found

    @property
    def oldest(self) -> float | None:
        """When the oldest request was queued that may become overdue. ``None``: no request waits for a slot."""
        with self._changed:
            return self._order[0].queued_at if self._order and self.crowded else None

    def close(self) -> None:
        """Let each thread end once no upload waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _delay(self) -> float | None:
        """Seconds until the next upload may be sent. ``None``: no upload waits."""
        if not len(self._queue):
            return None
        return 0.0 if self._pace is None or self._closed else self._open_at - time.monotonic()

    def _wait(self, delay: float | None) -> None:
        if delay is None or self._paced:
            self._changed.wait()
            return
        self._paced = True
        try:
            self._changed.wait(delay)
        finally:
            self._paced = False
