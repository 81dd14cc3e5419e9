"""The downloads of a peer."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from pantala_peer.download import jobs
from pantala_peer.download.jobs import Downloads
from pantala_peer.events import DownloadEnded, PeerEvents
from pantala_pieces.errors import PieceMissingError, StoreFullError
from pantala_pieces.transfer.jobs import JobState, ReceiveJob
from pantala_pieces.transfer.receiver import PieceReceiver
from pantala_protocol.sync import PieceWork
from tests.support.eventually import eventually, eventually_blocking
from tests.support.fake_provider import FakeProvider, FakeStore, content, work

TASK, OTHER = "a" * 64, "b" * 64


class Lab:
    def __init__(self, parallel: int = 4) -> None:
        self.provider, self.store = FakeProvider(), FakeStore()
        self.ended: list[DownloadEnded] = []
        self.urgent: set[int] = set()
        self.events = PeerEvents()
        self.events.subscribe(DownloadEnded, self.ended.append)
        self.receiver = PieceReceiver(
            self.provider.fetch,
            self.store.put,
            threads=parallel,
            urgent=lambda _: False,
            rest=lambda: None,
            max_waiting=30,
        )
        self.downloads = Downloads(
            self.receiver, self.events, parallel=parallel, urgent=lambda one: one.piece in self.urgent
        )

    async def until(self, count: int) -> None:
        """Let the provider continue, and wait for so many events."""
        self.provider.go.set()
        await eventually(lambda: len(self.ended) >= count, every=0.001)

    def block_until_ended(self, piece: int) -> None:
        """Wait until a download has ended. Its result waits for this event loop."""
        job = self.downloads._jobs[TASK, piece]
        eventually_blocking(lambda: job.state is JobState.ENDED, every=0.001)

    async def until_fetching(self, count: int) -> None:
        await eventually(lambda: self.provider.fetching == count, every=0.001)


@pytest.fixture
async def it() -> AsyncIterator[Lab]:
    made = Lab()
    yield made
    await made.downloads.close()


async def test_four_pieces_are_fetched_at_once_and_all_of_them_arrive(it: Lab) -> None:
    for piece in range(20):
        assert (piece >= 4) == it.downloads.busy()
        it.downloads.start(work(piece))
    await it.until_fetching(4)
    await it.until(20)
    assert it.provider.most == 4
    assert {piece: content(piece) for piece in range(20)} == it.store.stored
    assert {None} == {event.error for event in it.ended}
    assert not it.downloads.busy()


async def test_a_piece_that_is_being_fetched_is_not_fetched_twice(it: Lab) -> None:
    it.downloads.start(work(1))
    it.downloads.start(work(1))
    await it.until_fetching(1)
    await it.until(1)
    it.downloads.start(work(1))
    await it.until(2)
    assert [1, 1] == it.provider.begun


@pytest.mark.parametrize(
    ("fault", "error", "kind"),
    [
        ("fails", None, "missing"),
        ("corrupts", None, "corrupt"),
        ("", StoreFullError("full"), "local"),
        ("", PieceMissingError("another generation"), "local"),
        ("bug", None, "local"),
    ],
)
async def test_a_failed_download_ends_with_its_kind(it: Lab, fault: str, error: Exception | None, kind: str) -> None:
    it.store.error = error
    if fault:
        setattr(it.provider, fault, RuntimeError("a bug") if fault == "bug" else True)
    it.downloads.start(work(1))
    await it.until(1)
    assert it.ended[0].kind == kind


async def test_a_download_that_a_full_queue_refuses_ends_with_an_event(it: Lab) -> None:
    for piece in range(40):
        it.downloads.start(work(piece))
    assert [] == it.ended, "no event is emitted inside of start()"
    await it.until(40)
    refused = [event.work.piece for event in it.ended if event.error is not None]
    assert set(range(40)) - set(refused) == set(it.store.stored)
    assert refused == sorted(refused)
    assert {"local"} == {event.kind for event in it.ended if event.error is not None}


async def test_a_cancelled_task_is_not_stored_and_ends_without_an_event(it: Lab) -> None:
    for piece in range(3):
        it.downloads.start(work(piece))
    for piece in range(3, 6):
        it.downloads.start(work(piece, OTHER))
    await it.until_fetching(4)
    await it.downloads.cancel(TASK)
    assert not it.downloads.fetches(TASK)
    await it.until(3)
    assert {3, 4, 5} == set(it.store.stored)
    assert {OTHER} == {event.work.task_id for event in it.ended}


async def test_a_cancel_waits_for_a_piece_that_is_being_written(it: Lab) -> None:
    writing, written = threading.Event(), threading.Event()

    def slow(_: PieceWork) -> None:
        writing.set()
        time.sleep(0.2)
        written.set()

    it.store.slow = slow
    it.provider.go.set()
    it.downloads.start(work(1))
    await asyncio.to_thread(writing.wait)
    await it.downloads.cancel(TASK)
    assert written.is_set()
    await asyncio.sleep(0.01)
    assert [] == it.ended


async def test_a_subscriber_may_start_a_failed_piece_again_at_once() -> None:
    """Another supernode may have given the same piece from another provider."""
    it = Lab(parallel=1)

    def start_again(event: DownloadEnded) -> None:
        if event.error is not None:
            it.provider.fails = False
            it.downloads.start(work(1))

    it.events.subscribe(DownloadEnded, start_again)
    it.provider.fails = True
    it.downloads.start(work(1))
    await it.until(2)
    assert ["missing", None] == [event.kind if event.error else None for event in it.ended]
    assert not it.downloads.busy()
    await it.downloads.close()


async def test_a_bug_in_a_subscriber_does_not_lose_other_events(it: Lab) -> None:
    def fail(event: DownloadEnded) -> None:
        if event.work.piece == 1:
            raise RuntimeError("a bug")

    it.events.subscribe(DownloadEnded, fail)
    for piece in range(4):
        it.downloads.start(work(piece))
    await it.until(4)
    assert not it.downloads.fetches(TASK)


async def test_a_redirected_piece_comes_from_the_other_provider_with_one_event() -> None:
    """The slot of the former download is free at once."""
    it = Lab(parallel=1)
    it.downloads.start(work(3))
    await it.until_fetching(1)
    assert it.downloads.redirect(work(3, provider="other"))
    await eventually(lambda: it.provider.begun == [3, 3], within=0.5, every=0.001)
    await it.until(1)
    assert [("other", None)] == [(event.work.provider, event.error) for event in it.ended]
    assert {3: content(3)} == it.store.stored
    assert not it.downloads.fetches(TASK)
    await it.downloads.close()


async def test_a_piece_that_has_arrived_is_not_redirected(it: Lab) -> None:
    writing, go_on = threading.Event(), threading.Event()

    def slow(_: PieceWork) -> None:
        writing.set()
        go_on.wait()

    it.store.slow = slow
    it.provider.go.set()
    it.downloads.start(work(3))
    await asyncio.to_thread(writing.wait)
    assert not it.downloads.redirect(work(3, provider="other"))
    go_on.set()
    it.block_until_ended(3)
    assert not it.downloads.redirect(work(3, provider="other"))
    await it.until(1)
    assert [""] == [event.work.provider for event in it.ended]
    assert [3] == it.provider.begun


async def test_a_piece_whose_failure_is_not_handled_yet_is_redirected(it: Lab) -> None:
    it.provider.fails = True
    it.provider.go.set()
    it.downloads.start(work(3))
    it.block_until_ended(3)
    it.provider.fails = False
    assert it.downloads.redirect(work(3, provider="other"))
    await it.until(1)
    await asyncio.sleep(0.01)
    assert [("other", None)] == [(event.work.provider, event.error) for event in it.ended]


@pytest.mark.parametrize("why", ["urgent", "failed", "one of the last"])
async def test_results_are_joined_unless_one_is_needed_now(it: Lab, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    monkeypatch.setattr(jobs, "_JOIN", 1000.0)
    downloads = Downloads(it.receiver, it.events, parallel=4, urgent=lambda one: one.piece in it.urgent)
    it.provider.go.set()
    waiting = downloads._results
    for piece in range(30, 60):
        downloads._jobs[TASK, piece] = ReceiveJob(work(piece), downloads._post)
    downloads.start(work(0))
    await it.until(1)
    downloads.start(work(1))
    await eventually(lambda: waiting.waiting == 1, every=0.001)
    assert 1 == len(it.ended)
    if why == "urgent":
        it.urgent.add(2)
    elif why == "failed":
        it.provider.corrupts = True
    else:
        for piece in range(30, 60):
            del downloads._jobs[TASK, piece]
    downloads.start(work(2))
    await it.until(3)
    assert [0, 1, 2] == [event.work.piece for event in it.ended]
