"""Readers get verified bytes in order, as soon as they arrive in the cache."""

import asyncio
import contextlib
import hashlib
import random
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.download.jobs import PieceWaiters
from pantala_peer.events import DownloadEnded, PeerEvents
from pantala_peer.mirror import blobs
from pantala_peer.mirror.blobs import CachedBlobs
from pantala_peer.mirror.deadlines import Deadlines
from pantala_peer.mirror.demand import BlobDemand, BlobOrigin
from pantala_peer.mirror.errors import MirrorError, OwnerUnreachableError, SlowError
from pantala_peer.mirror.rights import ReadRights
from pantala_peer.mirror.supernode import SupernodeRegistries
from pantala_peer.tasks.room import BlobRoom
from pantala_pieces.file import PieceFile
from pantala_pieces.transfer.errors import CorruptError
from pantala_protocol import task_id
from pantala_protocol.image import ImageRepository
from pantala_protocol.registry import BlobAnswer
from pantala_protocol.rules.rights import Rights
from pantala_protocol.sync import Assignment, WantedBlob
from tests.support.peer_cache import received

PIECE = 1000
CONTENT = random.Random(5).randbytes(20 * PIECE + 7)
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
NAME = task_id.of_blob(DIGEST)
ORIGIN = BlobOrigin(ImageRepository("r", "a"), len(CONTENT))


class FakeSupernode(SupernodeRegistries):
    """Lets each client read the generation ``gives``."""

    def __init__(self) -> None:
        self.gives = "g"
        self.seconds = 300.0
        self.asked = 0

    async def may_read(self, digest: str, origin: BlobOrigin) -> BlobAnswer:
        self.asked += 1
        return BlobAnswer(self.gives, self.seconds, refused=not self.gives)


class Node:
    def __init__(self, root: Path, stall: float) -> None:
        self.cache = PieceCache(root)
        self.events = PeerEvents()
        self.waiters = PieceWaiters(self.events)
        self.wanted: dict[str, WantedBlob] = {}
        self.reports: list[WantedBlob] = []
        self.answers = True
        self.got = bytearray()
        """What the last reader has so far."""
        self.supernode = FakeSupernode()
        self.now = 0.0
        self.rights = ReadRights(self.supernode, Rights(b"k"), lambda: self.now)
        self.blobs = CachedBlobs(
            self.cache,
            self.waiters,
            BlobDemand(BlobRoom(), self.report),
            self.rights,
            answering=lambda _: "http://supernode" if self.answers else None,
            deadlines=Deadlines(again=0.2, stall=stall),
        )

    def report(self, name: str, wanted: WantedBlob | None) -> None:
        if wanted is None:
            del self.wanted[name]
        else:
            self.wanted[name] = wanted
            self.reports.append(wanted)

    async def hold(self, generation: str = "g", length: int | None = len(CONTENT)) -> None:
        assert await self.cache.hold(Assignment(NAME, generation, PIECE, length))

    async def put(self, piece: int, generation: str = "g", error: Exception | None = None) -> None:
        """End the download of a piece. It is stored unless it failed with ``error``."""
        work, stored = received(CONTENT, piece, PIECE, NAME, generation)
        if error is None:
            await asyncio.to_thread(self.cache.put, work, stored)
        self.events.emit(DownloadEnded(work, error))

    async def read(self, start: int = 0, end: int = len(CONTENT)) -> bytes:
        got = self.got = bytearray()
        async with contextlib.aclosing(
            self.blobs.read(DIGEST, ORIGIN, self.rights.client("r/a", ""), start, end, first=self.blobs.deadlines.stall)
        ) as chunks:
            async for chunk in chunks:
                got += chunk
        return bytes(got)


@pytest.fixture
async def node(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Node]:
    made = Node(tmp_path, getattr(request, "param", 30.0))
    await made.cache.open()
    yield made
    made.cache.close()


@pytest.mark.parametrize("seed", range(5))
async def test_any_range_while_pieces_come_in_any_order(node: Node, seed: int) -> None:
    rng = random.Random(seed)
    pieces = list(range(21))
    rng.shuffle(pieces)
    ranges = [sorted(rng.sample(range(len(CONTENT) + 1), 2)) for _ in range(10)]
    reading = [asyncio.create_task(node.read(start, end)) for start, end in ranges]
    await asyncio.sleep(0)
    await node.hold()
    for piece in pieces:
        await node.put(piece)
        await asyncio.sleep(rng.choice([0, 0.001]))
    assert [CONTENT[start:end] for start, end in ranges] == await asyncio.gather(*reading)
    assert {} == node.wanted


async def test_a_wrong_piece_is_never_read(node: Node) -> None:
    await node.hold()
    reading = asyncio.create_task(node.read(0, 10))
    await node.put(0, error=CorruptError("wrong bytes"))
    await asyncio.sleep(0.05)
    assert not reading.done()
    await node.put(0)
    assert CONTENT[:10] == await reading


@pytest.mark.parametrize("node", [0.4], indirect=True)
async def test_a_late_byte_is_wanted_again_and_then_given_up(node: Node) -> None:
    await node.hold()
    await node.put(0)
    with pytest.raises(SlowError):
        await node.read()
    assert CONTENT[:PIECE] == node.got
    assert WantedBlob("r", "a", DIGEST, PIECE, 1) == node.reports[-1]


@pytest.mark.parametrize("node", [0.4], indirect=True)
async def test_other_pieces_do_not_extend_the_wait_of_the_first_reader(node: Node) -> None:
    await node.hold()
    await node.put(0)
    reading = asyncio.create_task(node.read())
    for piece in range(2, 12):
        await node.put(piece)
        await asyncio.sleep(0.06)
    assert reading.done()
    with pytest.raises(SlowError):
        await reading


async def test_a_cache_replaced_during_a_read_shows_no_empty_bytes(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file has the length of the former, and only zeros."""
    reads, go = threading.Event(), threading.Event()

    def slowly(file: PieceFile, start: int, stop: int) -> bytes:
        reads.set()
        go.wait(5)
        return pread(file, start, stop)

    pread = blobs._pread
    monkeypatch.setattr(blobs, "_pread", slowly)
    await node.hold()
    await node.put(0)
    reading = asyncio.create_task(node.read(0, PIECE))
    await asyncio.to_thread(reads.wait, 5)
    node.supernode.gives = "h"
    await node.cache.drop(NAME)
    await node.hold("h")
    go.set()
    await asyncio.sleep(0.05)
    await node.put(0, "h")
    assert CONTENT[:PIECE] == await reading


async def test_another_length_than_in_the_manifest_is_a_miss(node: Node) -> None:
    await node.hold(length=len(CONTENT) + 1)
    await node.put(0)
    with pytest.raises(MirrorError, match="according to its manifest"):
        await node.read()


async def test_an_unknown_length_does_not_matter(node: Node) -> None:
    await node.hold(length=None)
    await node.put(0)
    assert CONTENT[:PIECE] == await node.read(0, PIECE)


async def test_only_a_complete_blob_is_opened_while_no_supernode_answers(node: Node) -> None:
    node.answers = False
    with pytest.raises(OwnerUnreachableError):
        await node.read()
    assert [] == node.reports
    await node.hold()
    for piece in range(21):
        await node.put(piece)
    assert node.blobs.holds(DIGEST)
    assert CONTENT == await node.read()


async def test_a_truncated_file_is_a_miss(node: Node) -> None:
    await node.hold()
    await node.put(0)
    file = node.cache.lookup(NAME)
    assert file is not None
    with file.path.open("r+b") as data:
        data.truncate(10)
    with pytest.raises(MirrorError):
        await node.read(0, PIECE)


async def test_a_waiter_that_gives_up_is_forgotten(node: Node) -> None:
    for _ in range(3):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await node.waiters.wait(NAME)
    assert {} == node.waiters._waiting


@pytest.mark.parametrize("node", [0.4], indirect=True)
async def test_c1_pieces_of_a_blob_are_nothing_without_a_right_to_their_generation(node: Node) -> None:
    await node.hold()
    for piece in range(21):
        await node.put(piece)
    node.supernode.gives = ""
    with pytest.raises(MirrorError, match="may not give"):
        await node.read()
    node.supernode.gives = "the one from another registry"
    with pytest.raises(SlowError):
        await node.read()
    assert b"" == node.got


async def test_c1_a_right_ends_although_it_is_used(node: Node) -> None:
    await node.hold()
    for piece in range(21):
        await node.put(piece)
    for node.now in (0.0, 150.0, 299.0):
        assert CONTENT == await node.read()
    assert 1 == node.supernode.asked
    node.supernode.gives = ""
    node.now = 300.0
    with pytest.raises(MirrorError, match="may not give"):
        await node.read()


async def test_c1_a_right_lasts_no_longer_than_the_supernode_says(node: Node) -> None:
    node.supernode.seconds = 20.0
    await node.hold()
    await node.put(0)
    assert CONTENT[:9] == await node.read(0, 9)
    node.supernode.gives, node.now = "", 20.0
    with pytest.raises(MirrorError, match="may not give"):
        await node.read(0, 9)


async def test_an_empty_blob_is_held_as_soon_as_it_is_known(node: Node) -> None:
    """An artifact may have an empty file as a layer. No piece of it ever arrives."""
    assert not node.blobs.holds(DIGEST)
    await node.hold(length=None)
    assert not node.blobs.holds(DIGEST)
    await node.hold(length=0)
    assert node.blobs.holds(DIGEST)
