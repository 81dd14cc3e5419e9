"""The downloads of a peer, and the check of a whole file's digest."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.download.jobs import Downloads
from pantala_peer.errors import CorruptError, MissingError
from pantala_peer.events import Assigned, DownloadEnded, PeerEvents
from pantala_peer.tasks import assigned as module
from pantala_peer.tasks.assigned import AssignedTasks
from pantala_pieces.errors import PieceMissingError, StoreFullError
from pantala_protocol.sync import Assignment, Delivery, PieceWork
from tests.support.eventually import eventually
from tests.support.peer import assigned_tasks

pytestmark = pytest.mark.virtual_time

TASK, OTHER = "a" * 64, "b" * 64


def work(piece: int, task: str = TASK) -> PieceWork:
    return PieceWork(task, "g", piece, piece * 8, 8, "00", "h", 1, "t")


class FakeProvider:
    """Fills half of the buffer with the piece's number, and the other half after ``go`` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.fetching = self.most = 0
        self.fails = False

    async def fetch(self, work: PieceWork, into: memoryview) -> None:
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


class FakeCache:
    def __init__(self) -> None:
        self.stored: dict[int, bytes] = {}
        self.error: Exception | None = None

    async def put(self, work: PieceWork, data: memoryview) -> None:
        await asyncio.sleep(0.001)
        if self.error is not None:
            raise self.error
        self.stored[work.piece] = bytes(data)


class Lab:
    def __init__(self) -> None:
        self.provider, self.cache = FakeProvider(), FakeCache()
        self.ended: list[DownloadEnded] = []
        self.events = PeerEvents()
        self.events.subscribe(DownloadEnded, self.ended.append)
        self.downloads = Downloads(self.provider.fetch, self.cache.put, self.events, parallel=4)

    async def until(self, count: int) -> None:
        """Let the provider continue, and wait for so many events."""
        self.provider.go.set()
        await eventually(lambda: len(self.ended) >= count, every=0.001)


@pytest.fixture
async def it() -> AsyncIterator[Lab]:
    made = Lab()
    yield made
    await made.downloads.close()


async def test_four_pieces_are_fetched_at_once_and_all_of_them_arrive(it: Lab) -> None:
    for piece in range(20):
        it.downloads.start(work(piece))
    await asyncio.sleep(0.01)
    assert it.provider.fetching == 4
    await it.until(20)
    assert it.provider.most == 4
    assert {piece: bytes([piece]) * 8 for piece in range(20)} == it.cache.stored
    assert {None} == {event.error for event in it.ended}


async def test_a_piece_that_is_being_fetched_is_not_fetched_twice(it: Lab) -> None:
    it.downloads.start(work(1))
    it.downloads.start(work(1))
    await asyncio.sleep(0.01)
    assert it.provider.fetching == 1
    await it.until(1)
    it.downloads.start(work(1))
    await it.until(2)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (None, "missing"),
        (CorruptError("wrong bytes"), "corrupt"),
        (StoreFullError("full"), "local"),
        (PieceMissingError("another generation"), "local"),
    ],
)
async def test_a_failed_download_ends_with_its_kind(it: Lab, error: Exception | None, kind: str) -> None:
    it.cache.error = error
    it.provider.fails = error is None
    it.downloads.start(work(1))
    await it.until(1)
    assert it.ended[0].kind == kind


async def test_a_cancelled_task_is_not_stored_and_ends_without_an_event(it: Lab) -> None:
    for piece in range(3):
        it.downloads.start(work(piece))
    for piece in range(3, 6):
        it.downloads.start(work(piece, OTHER))
    await asyncio.sleep(0.01)
    await it.downloads.cancel(TASK)
    await it.until(3)
    assert {3, 4, 5} == set(it.cache.stored)
    assert {OTHER} == {event.work.task_id for event in it.ended}


async def test_a_subscriber_may_start_a_failed_piece_again_at_once() -> None:
    """Another supernode may have given the same piece from another provider."""
    it = Lab()

    def start_again(event: DownloadEnded) -> None:
        if event.error is not None:
            it.provider.fails = False
            it.downloads.start(work(1))

    it.events.subscribe(DownloadEnded, start_again)
    it.downloads = Downloads(it.provider.fetch, it.cache.put, it.events, parallel=1)
    it.provider.fails = True
    it.downloads.start(work(1))
    await it.until(2)
    await asyncio.sleep(0.01)
    assert ["missing", None] == [event.kind if event.error else None for event in it.ended]
    assert not it.downloads.busy()
    await it.downloads.close()


async def test_a_redirected_piece_comes_from_the_other_provider_with_one_event(it: Lab) -> None:
    it.downloads.start(work(3))
    await asyncio.sleep(0.01)
    assert it.downloads.redirect(replace(work(3), provider="other"))
    await asyncio.sleep(0.01)
    assert 1 == it.provider.fetching
    await it.until(1)
    assert [("other", None)] == [(event.work.provider, event.error) for event in it.ended]
    assert {3: bytes([3]) * 8} == it.cache.stored
    assert not it.downloads.fetches(TASK)


async def test_a_piece_that_has_arrived_is_not_redirected(it: Lab) -> None:
    it.provider.go.set()
    it.downloads.start(work(3))
    await eventually(lambda: it.downloads._keeping, every=0)
    assert not it.downloads.redirect(replace(work(3), provider="other"))
    await it.until(1)
    assert [""] == [event.work.provider for event in it.ended]
    assert (1, set()) == (it.provider.most, it.downloads._keeping)


BLOB = "a" * 64
CONTENT = b"some content"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WORK = PieceWork(BLOB, "g", 0, 0, len(CONTENT), SHA256, "h", 1, "t")


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[AssignedTasks]:
    """No task is assigned yet. The task's only piece is on the disk."""
    cache = PieceCache(tmp_path / "cache")
    made = assigned_tasks(tmp_path, cache)
    await made.open()
    await cache.hold(assigned())
    await cache.put(WORK, memoryview(CONTENT))
    yield made
    cache.close()


def assigned(*deliveries: Delivery) -> Assignment:
    return Assignment(BLOB, "g", 1024, len(CONTENT), f"sha256:{SHA256}", deliveries=deliveries)


async def settled(made: AssignedTasks, assignment: Assignment) -> str:
    """Assign, and return the digest of the whole file, if it was checked."""
    made._on_assigned(Assigned({BLOB: assignment}, complete=True))
    made.touch(BLOB)
    while made._settling:
        await asyncio.gather(*made._settling.values())
    file = made._cache.lookup(BLOB)
    assert file is not None
    return file.meta.digest


async def test_a_blobs_digest_is_checked_at_the_end(held: AssignedTasks, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "" == await settled(held, assigned())
    monkeypatch.setattr(module, "_BLOB_REST", 0.0)
    assert f"sha256:{SHA256}" == await settled(held, assigned())


async def test_the_digest_of_a_file_is_checked_before_publication(held: AssignedTasks, tmp_path: Path) -> None:
    assert f"sha256:{SHA256}" == await settled(held, assigned(Delivery("uid", "there")))
    assert CONTENT == (tmp_path / "files" / "there").read_bytes()
