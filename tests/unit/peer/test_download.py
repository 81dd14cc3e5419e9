"""Fetching: so many at once, each told once, and no buffer shared by two pieces."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from pantala_peer.download.jobs import Downloads
from pantala_peer.errors import MissingError
from pantala_peer.events import DownloadEnded, PeerEvents
from pantala_pieces.errors import PieceMissingError, StoreFullError
from pantala_protocol.sync import Work
from tests.support.eventually import eventually

TASK, OTHER = "a" * 64, "b" * 64


def work(piece: int, task: str = TASK) -> Work:
    return Work(task, "g", piece, piece * 8, 8, "00", "h", 1, "t")


class FakeProvider:
    """Fills the buffer with the piece's number, half before and half after it may go on."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.fetching = self.most = 0
        self.fails = False

    async def fetch(self, work: Work, into: memoryview) -> None:
        self.fetching += 1
        self.most = max(self.most, self.fetching)
        try:
            into[:4] = bytes([work.piece]) * 4
            await self.go.wait()
            if self.fails:
                raise MissingError("not here")
            into[4:] = bytes([work.piece]) * 4
        finally:
            self.fetching -= 1


class FakeKeeper:
    """Remembers what is kept, after a while."""

    def __init__(self) -> None:
        self.kept: dict[int, bytes] = {}
        self.error: Exception | None = None

    async def put(self, work: Work, data: memoryview) -> None:
        await asyncio.sleep(0.001)
        if self.error is not None:
            raise self.error
        self.kept[work.piece] = bytes(data)


class Fixture:
    def __init__(self) -> None:
        self.provider, self.keeper = FakeProvider(), FakeKeeper()
        self.ended: list[DownloadEnded] = []
        self.events = PeerEvents()
        self.events.subscribe(DownloadEnded, self.ended.append)
        self.downloads = Downloads(self.provider.fetch, self.keeper.put, self.events, parallel=4)

    async def until(self, count: int) -> None:
        await eventually(lambda: len(self.ended) >= count, every=0.001)


@pytest.fixture
async def it() -> AsyncIterator[Fixture]:
    made = Fixture()
    yield made
    await made.downloads.close()


async def test_four_pieces_are_fetched_at_once_and_all_in_the_end(it: Fixture) -> None:
    for piece in range(20):
        it.downloads.start(work(piece))
    await asyncio.sleep(0.01)
    assert it.provider.fetching == 4
    it.provider.go.set()
    await it.until(20)
    assert it.provider.most == 4
    assert {piece: bytes([piece]) * 8 for piece in range(20)} == it.keeper.kept
    assert {None} == {event.error for event in it.ended}


async def test_a_piece_that_is_being_fetched_is_not_fetched_twice(it: Fixture) -> None:
    it.downloads.start(work(1))
    it.downloads.start(work(1))
    await asyncio.sleep(0.01)
    assert it.provider.fetching == 1
    it.provider.go.set()
    await it.until(1)
    await asyncio.sleep(0.01)
    it.downloads.start(work(1))
    await it.until(2)


async def test_a_failed_fetch_is_told_with_its_kind(it: Fixture) -> None:
    it.provider.fails = True
    it.provider.go.set()
    it.downloads.start(work(1))
    await it.until(1)
    assert it.ended[0].kind == "missing"


@pytest.mark.parametrize("error", [StoreFullError("full"), PieceMissingError("another generation")])
async def test_what_cannot_be_kept_is_the_nodes_own_failure(it: Fixture, error: Exception) -> None:
    it.keeper.error = error
    it.provider.go.set()
    it.downloads.start(work(1))
    await it.until(1)
    assert (it.ended[0].kind, it.ended[0].error) == ("local", error)


async def test_a_cancelled_task_is_neither_kept_nor_told_and_others_go_on(it: Fixture) -> None:
    for piece in range(3):
        it.downloads.start(work(piece))
    for piece in range(3, 6):
        it.downloads.start(work(piece, OTHER))
    await asyncio.sleep(0.01)
    await it.downloads.cancel(TASK)
    it.provider.go.set()
    await it.until(3)
    assert {3, 4, 5} == set(it.keeper.kept)
    assert {OTHER} == {event.work.task_id for event in it.ended}


async def test_who_is_told_of_a_failure_may_have_the_same_piece_fetched_at_once() -> None:
    """Another supernode may have given it, too, from elsewhere."""
    it = Fixture()

    def start_again(event: DownloadEnded) -> None:
        if event.error is not None:
            it.provider.fails = False
            it.downloads.start(work(1))

    it.events.subscribe(DownloadEnded, start_again)
    it.downloads = Downloads(it.provider.fetch, it.keeper.put, it.events, parallel=1)
    it.provider.fails = True
    it.provider.go.set()
    it.downloads.start(work(1))
    await it.until(2)
    await asyncio.sleep(0.01)
    assert ["missing", None] == [event.kind if event.error else None for event in it.ended]
    assert not it.downloads.busy()
    await it.downloads.close()


async def test_a_piece_is_had_from_another_provider_and_nothing_is_told_of_the_first(it: Fixture) -> None:
    it.downloads.start(work(3))
    await asyncio.sleep(0.01)
    assert it.downloads.redirect(replace(work(3), provider="other"))
    await asyncio.sleep(0.01)
    assert 1 == it.provider.fetching
    it.provider.go.set()
    await asyncio.sleep(0.05)
    assert [("other", None)] == [(event.work.provider, event.error) for event in it.ended]
    assert {3: bytes([3]) * 8} == it.keeper.kept
    assert not it.downloads.fetches(TASK)


async def test_a_piece_that_came_is_kept_and_not_fetched_from_another_provider(it: Fixture) -> None:
    it.provider.go.set()
    it.downloads.start(work(3))
    await eventually(lambda: it.downloads._keeping, every=0)
    assert not it.downloads.redirect(replace(work(3), provider="other"))
    await asyncio.sleep(0.05)
    assert [""] == [event.work.provider for event in it.ended]
    assert (1, set()) == (it.provider.most, it.downloads._keeping)
