"""One piece to receive, from the event loop's request to the result."""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from pantala_pieces.transfer.channel import Channel
from pantala_protocol.sync import PieceWork


class JobState(Enum):
    """How far a job is. A job that is STORING or later cannot be cancelled."""

    WAITING = auto()
    RECEIVING = auto()
    STORING = auto()
    """The piece is verified, and its bytes are being written."""
    ENDED = auto()
    CANCELLED = auto()


class JobResult(NamedTuple):
    """The end of a job: the piece is stored, or it failed with ``error``."""

    job: ReceiveJob
    error: Exception | None


class JobCancelledError(Exception):
    """The job was cancelled, so its piece is not needed."""


class ReceiveJob:
    """One piece to receive. ``ended`` is called with the result in a thread, unless the job was cancelled."""

    def __init__(self, work: PieceWork, ended: Callable[[JobResult], None]) -> None:
        self.work = work
        self.error: Exception | None = None
        """Why the job failed, once it is ENDED."""
        self._ended = ended
        self._lock = threading.Lock()
        self.state = JobState.WAITING
        self._channel: Channel | None = None

    def cancel(self) -> bool:
        """Cancel the job. True: nothing is written, and no result follows. False: the job is STORING or ENDED."""
        with self._lock:
            if self.state in (JobState.STORING, JobState.ENDED):
                return False
            self.state = JobState.CANCELLED
            if self._channel is not None:
                self._channel.abort()
        return True

    # Called by the thread that carries out the job

    def advance(self, state: JobState) -> bool:
        """Continue with the next state. False: the job is cancelled. From STORING on, a job cannot be cancelled."""
        with self._lock:
            if self.state is JobState.CANCELLED:
                return False
            self.state = state
        return True

    def watch(self, channel: Channel) -> None:
        """From now on, :meth:`cancel` aborts ``channel``. Raises :class:`JobCancelledError`."""
        with self._lock:
            if self.state is JobState.CANCELLED:
                raise JobCancelledError
            self._channel = channel

    def unwatch(self) -> None:
        """The channel is no longer used for this job."""
        with self._lock:
            self._channel = None

    def end(self, error: Exception | None) -> None:
        """Post the result, unless the job is cancelled."""
        self.error = error
        if self.advance(JobState.ENDED):
            self._ended(JobResult(self, error))


class PieceBuffer:
    """The memory into which one thread receives. It grows to the largest piece of the thread."""

    def __init__(self) -> None:
        self._memory = memoryview(b"")

    def view(self, size: int) -> memoryview:
        """The first ``size`` bytes. Earlier views of the buffer must not be used any more."""
        if len(self._memory) < size:
            self._memory = memoryview(bytearray(size))
        return self._memory[:size]
