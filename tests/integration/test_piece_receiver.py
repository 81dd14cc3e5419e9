"""The threads that receive pieces: their number, their order, their ends and their faults."""

import hashlib
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest

from pantala_pieces.errors import PieceMissingError, StoreError, StoreFullError
from pantala_pieces.transfer.errors import CorruptError, MissingError, ReceiverBugError, ReceiverFullError
from pantala_pieces.transfer.jobs import JobResult, JobState, PieceBuffer, ReceiveJob
from pantala_pieces.transfer.receiver import PieceReceiver
from pantala_protocol.sync import PieceWork
from tests.support.eventually import eventually_blocking
from tests.support.fake_provider import FakeProvider, FakeStore, content, work


class Lab:
    """A receiver with four threads, and its results."""

    def __init__(self, *, threads: int = 4, max_waiting: int = 50, idle: float = 60.0) -> None:
        self.provider, self.store = FakeProvider(), FakeStore()
        self.results: list[JobResult] = []
        self.urgent = set[int]()
        self.rests = 0
        self.receiver = PieceReceiver(
            self.provider.fetch,
            self.store.put,
            threads=threads,
            urgent=lambda work: work.piece in self.urgent,
            rest=self._rest,
            max_waiting=max_waiting,
            idle=idle,
        )

    def _rest(self) -> None:
        self.rests += 1

    def submit(self, *pieces: int) -> list[ReceiveJob]:
        return [self.receiver.submit(work(piece), self.results.append) for piece in pieces]

    def until(self, results: int) -> None:
        """Let the provider continue, and wait for so many results."""
        self.provider.go.set()
        eventually_blocking(lambda: len(self.results) >= results, every=0.001)

    def close(self) -> None:
        self.provider.go.set()
        self.receiver.close()


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


def threads() -> int:
    return sum(thread.name == "receive" for thread in threading.enumerate())


def test_four_pieces_are_received_at_once_and_all_of_them_arrive(lab: Lab) -> None:
    lab.submit(*range(20))
    eventually_blocking(lambda: lab.provider.fetching == 4, every=0.001)
    assert 4 == threads()
    lab.until(20)
    assert 4 == lab.provider.most
    assert {piece: content(piece) for piece in range(20)} == lab.store.stored
    assert {None} == {result.error for result in lab.results}
    assert {JobState.ENDED} == {result.job.state for result in lab.results}


def test_no_more_threads_are_started_than_pieces_arrive_at_once(lab: Lab) -> None:
    lab.provider.go.set()
    for piece in range(5):
        lab.submit(piece)
        lab.until(piece + 1)
        eventually_blocking(lambda: lab.receiver._free == 1, every=0.001)
    assert 1 == threads()


def test_pieces_are_received_in_order_and_urgent_ones_first() -> None:
    lab = Lab(threads=1)
    lab.submit(0)
    eventually_blocking(lambda: lab.provider.begun == [0], every=0.001)
    lab.urgent = {7, 9}
    lab.submit(*range(1, 10))
    lab.until(10)
    assert [0, 7, 9, 1, 2, 3, 4, 5, 6, 8] == lab.provider.begun
    lab.close()


def test_urgent_pieces_do_not_wait_behind_the_pieces_of_another_file(lab: Lab) -> None:
    lab.submit(*range(8))
    eventually_blocking(lambda: lab.provider.fetching == 4, every=0.001)
    lab.urgent = {20, 21, 22}
    lab.submit(20, 21, 22)
    eventually_blocking(lambda: lab.provider.fetching == 6, every=0.001)
    assert {0, 1, 2, 3, 20, 21} == set(lab.provider.begun)
    assert 6 == threads()
    lab.until(11)
    assert 22 == lab.provider.begun[6]


def test_threads_for_urgent_pieces_receive_no_others() -> None:
    lab = Lab(idle=0.1)
    lab.submit(*range(8))
    eventually_blocking(lambda: lab.provider.fetching == 4, every=0.001)
    lab.urgent = {20}
    (urgent,) = lab.submit(20)
    eventually_blocking(lambda: lab.provider.fetching == 5, every=0.001)
    assert urgent.cancel()
    eventually_blocking(lambda: threads() == 4, every=0.001)
    assert [0, 1, 2, 3, 20] == sorted(lab.provider.begun)
    lab.until(8)
    lab.close()


def came_with_bytes(piece: int, found: bytes) -> PieceWork:
    return msgspec.structs.replace(work(piece), content=found)


def test_a_piece_that_came_with_its_work_is_stored_without_a_fetch(lab: Lab) -> None:
    lab.receiver.submit(came_with_bytes(1, content(1)), lab.results.append)
    lab.until(1)
    assert ({1: content(1)}, []) == (lab.store.stored, lab.provider.begun)
    assert [None] == [result.error for result in lab.results]


@pytest.mark.parametrize("found", [content(2), content(1)[:-1], content(1) + b"x", b""])
def test_wrong_bytes_that_came_with_the_work_are_not_stored(lab: Lab, found: bytes) -> None:
    lab.receiver.submit(came_with_bytes(1, found), lab.results.append)
    lab.until(1)
    assert [CorruptError] == [type(result.error) for result in lab.results]
    assert {} == lab.store.stored


@pytest.mark.parametrize("error", [StoreFullError("full"), StoreError("broken"), PieceMissingError("dropped")])
def test_a_piece_that_cannot_be_stored_ends_with_the_error(lab: Lab, error: Exception) -> None:
    lab.store.error = error
    lab.submit(1)
    lab.until(1)
    assert [error] == [result.error for result in lab.results]


@pytest.mark.parametrize(("fault", "kind"), [("fails", MissingError), ("corrupts", CorruptError)])
def test_a_piece_that_is_not_received_is_not_stored(lab: Lab, fault: str, kind: type[Exception]) -> None:
    setattr(lab.provider, fault, True)
    lab.submit(1)
    lab.until(1)
    assert [kind] == [type(result.error) for result in lab.results]
    assert {} == lab.store.stored


@pytest.mark.parametrize("right", [True, False])
def test_f14_a_supernode_of_the_former_version_sends_sha256(lab: Lab, right: bool) -> None:
    sha256 = hashlib.sha256(content(1 if right else 2)).hexdigest()
    lab.receiver.submit(msgspec.structs.replace(work(1), digest="", sha256=sha256), lab.results.append)
    lab.until(1)
    assert [type(None) if right else CorruptError] == [type(result.error) for result in lab.results]
    assert ({1: content(1)} if right else {}) == lab.store.stored


def test_a_piece_without_any_digest_is_refused(lab: Lab) -> None:
    lab.receiver.submit(msgspec.structs.replace(work(1), digest=""), lab.results.append)
    lab.until(1)
    assert [CorruptError] == [type(result.error) for result in lab.results]


@pytest.mark.parametrize("bug", [RuntimeError("bug"), MemoryError(), SystemExit()])
def test_a_thread_that_a_bug_ends_is_replaced_and_its_job_ends_with_an_error(bug: BaseException) -> None:
    lab = Lab(threads=1)
    lab.provider.bug = bug
    lab.submit(1, 2, 3)
    lab.until(3)
    assert [1, 2, 3] == [result.job.work.piece for result in lab.results]
    assert [ReceiverBugError, type(None), type(None)] == [type(result.error) for result in lab.results]
    assert {2, 3} == set(lab.store.stored)
    assert 1 == threads()
    lab.close()


def test_a_full_queue_refuses_a_piece_with_an_error() -> None:
    lab = Lab(threads=1, max_waiting=3)
    lab.submit(0)
    eventually_blocking(lambda: lab.provider.fetching == 1, every=0.001)
    jobs = lab.submit(1, 2, 3)
    lab.submit(4)
    assert [(4, ReceiverFullError)] == [(result.job.work.piece, type(result.error)) for result in lab.results]
    assert jobs[0].cancel()
    lab.submit(5)
    lab.until(5)
    assert {0, 2, 3, 5} == set(lab.store.stored)
    lab.close()


def test_a_cancelled_job_is_not_stored_and_has_no_result(lab: Lab) -> None:
    running = lab.submit(1, 2, 3, 4)
    eventually_blocking(lambda: lab.provider.fetching == 4, every=0.001)
    waiting = lab.submit(5)
    assert all(job.cancel() for job in (*running[:2], *waiting))
    lab.submit(6)
    lab.until(3)
    time.sleep(0.05)
    assert {3, 4, 6} == set(lab.store.stored) == {result.job.work.piece for result in lab.results}


def test_a_cancelled_job_frees_its_thread_at_once() -> None:
    lab = Lab(threads=1)
    (first,) = lab.submit(1)
    eventually_blocking(lambda: lab.provider.fetching == 1, every=0.001)
    lab.submit(2)
    assert first.cancel()
    eventually_blocking(lambda: lab.provider.begun == [1, 2], every=0.001)
    lab.close()


def test_a_piece_that_is_being_stored_cannot_be_cancelled(lab: Lab) -> None:
    storing, go_on = threading.Event(), threading.Event()

    def slow(_: PieceWork) -> None:
        storing.set()
        go_on.wait()

    lab.store.slow = slow
    lab.provider.go.set()
    (job,) = lab.submit(1)
    storing.wait()
    assert not job.cancel()
    assert [] == lab.results
    go_on.set()
    lab.until(1)
    assert not job.cancel()
    assert {1} == set(lab.store.stored)


def test_no_piece_is_written_after_a_successful_cancel(lab: Lab) -> None:
    """Jobs are cancelled at random moments. Each one is either stored with a result, or neither."""
    lab.provider.go.set()
    cancelled, jobs = set[int](), dict[int, ReceiveJob]()
    for piece in range(200):
        jobs[piece] = lab.submit(piece)[0]
        if piece % 3 == 0:
            time.sleep(0.0001 * (piece % 7))
        if jobs[piece - piece % 5].cancel():
            cancelled.add(piece - piece % 5)
            assert piece - piece % 5 not in lab.store.stored
    lab.until(200 - len(cancelled))
    time.sleep(0.05)
    assert set(range(200)) - cancelled == set(lab.store.stored)
    assert len(lab.results) == 200 - len(cancelled)


def test_a_slow_disk_delays_only_as_many_pieces_as_it_writes(lab: Lab) -> None:
    writes = threading.Event()
    lab.store.slow = lambda work: work.piece < 3 and writes.wait(30)
    lab.submit(*range(30))
    lab.until(27)
    assert set(range(3, 30)) == set(lab.store.stored)
    writes.set()


def test_a_thread_without_work_ends_and_frees_its_buffer() -> None:
    lab = Lab(idle=0.1)
    lab.submit(1, 2)
    lab.until(2)
    eventually_blocking(lambda: threads() == 0)
    assert 2 == lab.rests
    lab.submit(3)
    lab.until(3)
    lab.close()


def test_the_end_cancels_waiting_jobs_and_awaits_the_others(lab: Lab) -> None:
    running = lab.submit(*range(4))
    eventually_blocking(lambda: lab.provider.fetching == 4, every=0.001)
    waiting = lab.submit(*range(4, 8))
    lab.close()
    assert {JobState.ENDED} == {job.state for job in running}
    assert {JobState.CANCELLED} == {job.state for job in waiting}
    assert 0 == threads()
    assert [ReceiverFullError] == [type(job.error) for job in lab.submit(9)]


def test_a_buffer_grows_and_is_reused() -> None:
    buffer = PieceBuffer()
    first = buffer.view(10)
    first[:] = b"0123456789"
    assert b"01234" == buffer.view(5)
    assert 20 == len(buffer.view(20))
    assert buffer.view(5).obj is buffer.view(20).obj
