"""Threads that receive, verify and store the pieces that the event loop chooses."""

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue

import structlog

from pantala_pieces.digests import PieceHash
from pantala_pieces.errors import PieceMissingError, StoreError
from pantala_pieces.file import Piece
from pantala_pieces.transfer.errors import CorruptError, FetchError, ReceiverBugError, ReceiverFullError
from pantala_pieces.transfer.jobs import JobCancelledError, JobResult, JobState, PieceBuffer, ReceiveJob
from pantala_protocol.sync import PieceWork

_MAX_WAITING = 4096
"""The most jobs that may wait for a thread. Supernodes give few pieces at once, so only a bug fills the queue."""

_SPARE = 2
"""Threads that only urgent jobs may use."""

_IDLE = 30.0
"""Seconds without a job after which a thread ends and frees its buffer."""

_END = 10.0
"""The most seconds that :meth:`PieceReceiver.close` waits for pieces that are being written."""

log = structlog.get_logger()

FetchPiece = Callable[[ReceiveJob, PieceBuffer], memoryview]
StorePiece = Callable[[PieceWork, Piece], None]


class PieceReceiver:
    """Carries out jobs in up to ``threads`` threads, in their order. Jobs for which ``urgent`` returns True come first.

    Urgent jobs may use two more threads, so that they do not wait behind the large pieces of another file. A piece
    whose bytes came with its work is only verified and stored.

    ``fetch`` receives a piece. ``store`` stores a piece with the right digest, and raises :class:`StoreError` or
    :class:`PieceMissingError`. ``rest`` is called when a thread ends because it had no job. The threads call these
    functions. If a bug ends a thread, its job fails, and another thread replaces it.
    """

    def __init__(
        self,
        fetch: FetchPiece,
        store: StorePiece,
        *,
        threads: int,
        urgent: Callable[[PieceWork], bool],
        rest: Callable[[], None],
        max_waiting: int = _MAX_WAITING,
        idle: float = _IDLE,
    ) -> None:
        self._fetch = fetch
        self._store = store
        self._most = threads
        self._urgent = urgent
        self._rest = rest
        self._max_waiting = max_waiting
        self._idle = idle
        self._lock = threading.Lock()
        self._waiting: deque[ReceiveJob] = deque()
        self._threads: set[threading.Thread] = set()
        self._wakeups: SimpleQueue[None] = SimpleQueue()
        """One entry for each thread that must wake up and take a job."""
        self._free = 0
        """The number of threads that wait, minus the wake-ups that are in the queue."""
        self._usual: set[ReceiveJob] = set()
        """The running jobs that are not urgent."""
        self._closed = False

    def submit(self, work: PieceWork, ended: Callable[[JobResult], None]) -> ReceiveJob:
        """Receive a piece. ``ended`` is called once with the result, unless the job is cancelled.

        If too many jobs wait, the result is :class:`ReceiverFullError`.
        """
        job = ReceiveJob(work, ended)
        with self._lock:
            if len(self._waiting) >= self._max_waiting:
                self._waiting = deque(other for other in self._waiting if other.state is JobState.WAITING)
            accepted = len(self._waiting) < self._max_waiting and not self._closed
            if accepted:
                self._waiting.append(job)
                self._summon()
        if not accepted:
            job.end(ReceiverFullError(f"{self._max_waiting} pieces already wait. Try again later."))
        return job

    def close(self) -> None:
        """Cancel the waiting jobs, and wait for the running jobs. The caller should cancel the running jobs before."""
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, deque()
            threads = list(self._threads)
            for _ in threads:
                self._wakeups.put(None)
        for job in waiting:
            job.cancel()
        until = time.monotonic() + _END
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            log.warning("threads that receive pieces do not end, because the disk or a name server does not answer")

    def _summon(self) -> None:
        """Let one more thread take a job: wake a thread that waits, or start a thread."""
        if self._free:
            self._free -= 1
            self._wakeups.put(None)
        elif len(self._threads) < self._most or (
            len(self._threads) < self._most + _SPARE and any(self._urgent(job.work) for job in self._waiting)
        ):
            thread = threading.Thread(target=self._work, name="receive", daemon=True)
            self._threads.add(thread)
            thread.start()

    # In the threads

    def _work(self) -> None:
        buffer, job = PieceBuffer(), None
        try:
            while (job := self._next(job)) is not None:
                self._carry_out(job, buffer)
            self._rest()
        except BaseException:  # a bug, which must not lose the job
            log.exception("a bug ended a thread that receives pieces; another thread replaces it; please report it")
            with self._lock:
                self._threads.discard(threading.current_thread())
                if job is not None:
                    self._usual.discard(job)
                if self._waiting:
                    self._summon()
            if job is not None:
                job.end(ReceiverBugError("A bug ended the thread that received the piece. See the log of the peer."))

    def _next(self, former: ReceiveJob | None) -> ReceiveJob | None:
        """Wait for the job after ``former``. ``None``: the thread must end."""
        until = None
        while True:
            with self._lock:
                if former is not None:
                    self._usual.discard(former)
                job = self._take()
                if job is not None:
                    return job
                now = time.monotonic()
                until = now + self._idle if until is None else until
                if self._closed or until <= now:
                    self._threads.discard(threading.current_thread())
                    return None
                self._free += 1
            self._await_wakeup(until - now)

    def _await_wakeup(self, seconds: float) -> None:
        try:
            self._wakeups.get(timeout=seconds)
        except Empty:
            with self._lock:
                try:
                    self._wakeups.get_nowait()  # the wake-up arrived just after the timeout
                except Empty:
                    self._free -= 1

    def _take(self) -> ReceiveJob | None:
        """The next job that may begin now."""
        for index, job in enumerate(self._waiting):
            if self._urgent(job.work):
                del self._waiting[index]
                return job
        if not self._waiting or len(self._usual) >= self._most:
            return None
        job = self._waiting.popleft()
        self._usual.add(job)
        return job

    def _carry_out(self, job: ReceiveJob, buffer: PieceBuffer) -> None:
        if not job.advance(JobState.RECEIVING):
            return
        try:
            data = self._fetch(job, buffer) if job.work.content is None else _content(job.work)
            digest = _checked(job.work, data)
            if job.advance(JobState.STORING):
                self._store(job.work, Piece(job.work.piece, data, digest))
        except JobCancelledError:
            pass
        except (FetchError, StoreError, PieceMissingError) as error:
            job.end(error)
        else:
            job.end(None)


def _checked(work: PieceWork, data: memoryview) -> bytes:
    """The BLAKE3 digest of a piece. A supernode of the former version sends only the SHA-256.

    Raises :class:`CorruptError` if the piece is wrong.
    """
    digest = PieceHash(data).digest()
    expected, found = (work.digest, digest.hex()) if work.digest else (work.sha256, hashlib.sha256(data).hexdigest())
    if not expected:
        raise CorruptError(f"The supernode sent no digest for piece {work.piece}. So the peer cannot check it.")
    if found != expected:
        raise CorruptError(f"The piece {work.piece} has the digest {found} instead of {expected}.")
    return digest


def _content(work: PieceWork) -> memoryview:
    """The bytes that came with the work. They are not verified yet."""
    content = memoryview(work.content or b"")
    if len(content) != work.size:
        raise CorruptError(f"The piece {work.piece} came with {len(content)} bytes instead of {work.size}.")
    return content
