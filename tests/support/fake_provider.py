"""A provider and a store for tests of the receiver, without sockets and disks."""

import threading
from collections.abc import Callable

from pantala_pieces.digests import PieceHash
from pantala_pieces.file import Piece
from pantala_pieces.transfer.errors import MissingError
from pantala_pieces.transfer.jobs import JobCancelledError, JobState, PieceBuffer, ReceiveJob
from pantala_protocol.sync import PieceWork

SIZE = 8


def content(piece: int) -> bytes:
    return bytes([piece]) * SIZE


def work(piece: int, task: str = "a" * 64, provider: str = "") -> PieceWork:
    digest = PieceHash(content(piece)).hexdigest()
    return PieceWork(task, "g", piece, piece * SIZE, SIZE, "h", 1, "t", provider, digest=digest)


class FakeProvider:
    """Fills half of the buffer with the piece's number, and the other half after ``go`` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun: list[int] = []
        self.most = 0
        self.fails = self.corrupts = False
        self.bug: BaseException | None = None
        self._lock = threading.Lock()
        self._fetching = 0

    @property
    def fetching(self) -> int:
        return self._fetching

    def fetch(self, job: ReceiveJob, buffer: PieceBuffer) -> memoryview:
        with self._lock:
            self.begun.append(job.work.piece)
            self._fetching += 1
            self.most = max(self.most, self._fetching)
        try:
            return self._fill(job, buffer.view(SIZE))
        finally:
            with self._lock:
                self._fetching -= 1

    def _fill(self, job: ReceiveJob, into: memoryview) -> memoryview:
        into[:4] = content(job.work.piece)[:4]
        while not self.go.wait(0.001):
            if job.state is JobState.CANCELLED:
                raise JobCancelledError
        if self.bug is not None:
            bug, self.bug = self.bug, None
            raise bug
        if self.fails:
            raise MissingError("not here")
        into[4:] = content(job.work.piece + self.corrupts)[4:]
        return into


class FakeStore:
    """Stores pieces in memory. ``slow`` is called while a piece is stored."""

    def __init__(self, slow: Callable[[PieceWork], object] = lambda _: None) -> None:
        self.stored: dict[int, bytes] = {}
        self.error: Exception | None = None
        self.slow = slow

    def put(self, work: PieceWork, piece: Piece) -> None:
        self.slow(work)
        if self.error is not None:
            raise self.error
        self.stored[work.piece] = bytes(piece.data)
