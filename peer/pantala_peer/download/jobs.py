"""The pieces that this node downloads now, and the readers that wait for them."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

import structlog

from pantala_peer.events import DownloadEnded, DownloadsDelivered, PeerEvents
from pantala_pieces.transfer.jobs import JobResult, JobState, ReceiveJob
from pantala_pieces.transfer.mailbox import Mailbox
from pantala_pieces.transfer.receiver import PieceReceiver
from pantala_protocol.sync import PieceWork

_JOIN = 0.07
"""Seconds for which results are collected. This is a little longer than the usual interval between two exchanges.
So the exchange that reports the results is due when they are delivered."""

_FEW = 2
"""If fewer pieces are left, a result is delivered at once, because the peer then requests more work."""

log = structlog.get_logger()


class Downloads:
    """The running downloads of pieces. The threads of ``receiver`` carry them out, ``parallel`` at once.

    Each download ends with one :class:`DownloadEnded`. Failed downloads are not repeated, because only the supernode
    knows other providers. Results are collected for up to 0.07 s. Failures, the last pieces, and pieces for which
    ``urgent`` returns True do not wait. Any thread calls ``urgent``.
    """

    def __init__(
        self, receiver: PieceReceiver, events: PeerEvents, *, parallel: int, urgent: Callable[[PieceWork], bool]
    ) -> None:
        self._receiver = receiver
        self._events = events
        self._parallel = parallel
        self._urgent = urgent
        self._results = Mailbox[JobResult](self._on_results, join=_JOIN)
        self._jobs: dict[tuple[str, int], ReceiveJob] = {}
        self._awaited: dict[ReceiveJob, asyncio.Future[None]] = {}
        """The cancelled jobs whose pieces are still being written."""

    def busy(self) -> bool:
        """True if all slots are in use, so that another download would have to wait."""
        return len(self._jobs) >= self._parallel

    def left(self) -> int:
        """The number of pieces that are being downloaded or wait for a slot."""
        return len(self._jobs)

    def start(self, work: PieceWork) -> None:
        """Download a piece, unless a download of this piece is already running."""
        key = (work.task_id, work.piece)
        if key not in self._jobs:
            self._jobs[key] = self._receiver.submit(work, self._post)

    def redirect(self, work: PieceWork) -> bool:
        """Download a piece from another provider instead. False: the piece has already arrived.

        The former download ends without an event, and its slot is free at once.
        """
        key = (work.task_id, work.piece)
        former = self._jobs.get(key)
        if former is not None:
            if not former.cancel() and former.error is None:  # a failed job has its error before it ends
                return False
            del self._jobs[key]
        self.start(work)
        return True

    def fetches(self, task_id: str) -> bool:
        """True while any piece of the task is being downloaded."""
        return any(name == task_id for name, _ in self._jobs)

    async def cancel(self, task_id: str) -> None:
        """Stop all downloads of a task, without an event. When this returns, no piece of the task is being written."""
        await self._stop([key for key in self._jobs if key[0] == task_id])

    async def close(self) -> None:
        """Stop all downloads, and end the threads."""
        await self._stop(list(self._jobs))
        await asyncio.to_thread(self._receiver.close)

    async def _stop(self, keys: Iterable[tuple[str, int]]) -> None:
        jobs = [self._jobs.pop(key) for key in keys]
        stored = [job for job in jobs if not job.cancel() and job.state is JobState.STORING]
        ends = [self._awaited.setdefault(job, asyncio.get_running_loop().create_future()) for job in stored]
        await asyncio.gather(*ends)

    def _post(self, result: JobResult) -> None:
        """Called by the threads."""
        job, error = result
        few = len(self._jobs) - self._results.waiting - 1 < _FEW
        self._results.post(result, urgent=few or error is not None or job in self._awaited or self._urgent(job.work))

    def _on_results(self, results: Sequence[JobResult]) -> None:
        for job, error in results:
            work = job.work
            key = (work.task_id, work.piece)
            if self._jobs.get(key) is job:
                del self._jobs[key]  # before the event, because a subscriber may start the same piece again
                self._emit(DownloadEnded(work, error))
            elif (end := self._awaited.pop(job, None)) is not None and not end.done():
                end.set_result(None)
        self._emit(DownloadsDelivered())

    def _emit(self, event: DownloadEnded | DownloadsDelivered) -> None:
        try:
            self._events.emit(event)
        except Exception:  # the other results of the batch must not be lost
            log.exception("a bug ended the handling of a download; the peer continues with the other downloads")


class PieceWaiters:
    """Wakes the readers of a task each time that a piece of the task is stored."""

    def __init__(self, events: PeerEvents) -> None:
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        events.subscribe(DownloadEnded, self._on_download_ended)

    def is_urgent(self, work: PieceWork) -> bool:
        """True if a reader waits for the task, or the piece need not be fetched. Any thread may call this."""
        return work.content is not None or work.task_id in self._waiting

    async def wait(self, task_id: str) -> None:
        """Return when the next piece is stored. Before, check for a stored piece, without ``await`` in between."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(task_id, set()).add(future)
        try:
            await future
        finally:
            waiting = self._waiting.get(task_id)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._waiting[task_id]

    def _on_download_ended(self, event: DownloadEnded) -> None:
        if event.error is None:
            for waiting in self._waiting.pop(event.work.task_id, ()):
                if not waiting.done():
                    waiting.set_result(None)
