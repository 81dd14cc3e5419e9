"""The publication of whole files, and what the scrub finds after it."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.events import Assigned
from pantala_pieces.file import Piece, PieceFile
from pantala_protocol.reasons import Reason
from pantala_protocol.sync import Assignment, Delivery, DeliveryState, DeliveryStatus, HeldPieces, PieceWork
from tests.support.eventually import eventually
from tests.support.peer import assigned_tasks

TASK = "a" * 64
SIZE = 1024
CONTENT = os.urandom(3 * SIZE + 1)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PUBLISHED = DeliveryState(DeliveryStatus.PUBLISHED, path="there")


def assigned(*, blob: bool = False, sha256: str = SHA256) -> Assignment:
    deliveries = () if blob else (Delivery("uid", "there"),)
    return Assignment(TASK, "g", SIZE, len(CONTENT), f"sha256:{sha256}", deliveries=deliveries)


class Node:
    """A node without supernodes."""

    def __init__(self, root: Path) -> None:
        self.cache = PieceCache(root / "cache")
        self.tasks = assigned_tasks(root, self.cache)
        self.scrub = self.tasks._scrub
        self.published = root / "files" / "there"
        self.states: list[DeliveryState | None] = []
        self.tasks._supernodes.delivery = lambda task, uid, state: self.states.append(state)  # type: ignore[method-assign]

    @property
    def file(self) -> PieceFile:
        file = self.cache.lookup(TASK)
        assert file is not None
        return file

    def put(self, *pieces: int) -> None:
        for piece in pieces:
            data = CONTENT[piece * SIZE :][:SIZE]
            sha256 = hashlib.sha256(data)
            work = PieceWork(TASK, "g", piece, piece * SIZE, len(data), sha256.hexdigest(), "h", 1, "t")
            self.cache.put(work, Piece(piece, data, sha256.digest()))

    async def settle(self, assignment: Assignment | None = None) -> None:
        """Assign a task, or look at it again."""
        if assignment is not None:
            self.tasks._on_assigned(Assigned({TASK: assignment}, complete=True))
        self.tasks.touch(TASK)
        while self.tasks._settling:
            await asyncio.gather(*self.tasks._settling.values())


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    await made.tasks.open()
    await made.cache.hold(assigned())
    running = asyncio.create_task(made.scrub.run(made.tasks.touch))
    yield made
    running.cancel()
    await made.tasks.close()
    made.tasks._deliveries.close()
    made.cache.close()


def rot(path: Path) -> None:
    path.chmod(0o600)
    with path.open("r+b") as data:
        data.write(b"rot")


async def test_a_file_is_published_before_it_is_scrubbed(node: Node) -> None:
    node.scrub._busy = lambda: True
    node.put(3, 2, 1, 0)
    await node.settle(assigned())
    assert CONTENT == node.published.read_bytes()
    assert [PUBLISHED] == node.states
    await asyncio.sleep(0.1)
    assert not node.file.meta.checked
    node.scrub._busy = lambda: False
    await eventually(lambda: node.file.meta.checked)
    assert PUBLISHED == node.states[-1]


async def test_a_blob_is_completed_by_the_scrub(node: Node) -> None:
    node.scrub._busy = lambda: True
    node.put(1, 0, 2, 3)
    await node.settle(assigned(blob=True))
    assert not node.file.complete
    node.scrub._busy = lambda: False
    await eventually(lambda: node.file.complete)
    assert assigned().digest == node.file.meta.digest
    assert not node.published.exists()


async def test_a_published_file_that_the_scrub_finds_wrong_is_replaced(node: Node) -> None:
    node.scrub._busy = lambda: True
    node.put(3, 2, 1, 0)
    await node.settle(assigned())
    rot(node.published)
    with node.published.open("rb") as program:
        node.scrub._busy = lambda: False
        await eventually(lambda: not node.published.exists())
        await eventually(lambda: {TASK: HeldPieces("g", "1-3")} == node.cache.inventory())
        await eventually(lambda: not node.tasks._settling)
        assert node.states[-1] is not None
        assert (DeliveryStatus.FAILED, Reason.DIGEST_MISMATCH) == (node.states[-1].status, node.states[-1].reason)
        await node.settle()
        assert node.states[-1] is not None, "the state stays until the file is published again"
        assert "changed on the node's disk" in node.states[-1].message
        node.put(0)
        await node.settle()
        assert b"rot" == program.read(3)
    assert CONTENT == node.published.read_bytes()
    assert PUBLISHED == node.states[-1]


async def test_a_file_with_a_wrong_stated_digest_is_unpublished(node: Node) -> None:
    """The pieces came out of order, so that only the scrub can find it. The next statement is right."""
    node.put(3, 2, 1, 0)
    await node.settle(assigned(sha256="0" * 64))
    await eventually(lambda: not node.published.exists() and not node.tasks._settling)
    assert node.states[-1] is not None
    assert Reason.DIGEST_MISMATCH == node.states[-1].reason
    assert {TASK: HeldPieces("g", "0-3")} == node.cache.inventory()
    await node.settle(assigned())
    assert CONTENT == node.published.read_bytes()
    assert PUBLISHED == node.states[-1]


async def test_a_wrong_stated_digest_is_found_before_publication_if_the_pieces_came_in_order(node: Node) -> None:
    node.put(0, 1, 2, 3)
    await node.settle(assigned(sha256="0" * 64))
    assert not node.published.exists()
    assert [Reason.DIGEST_MISMATCH] == [state.reason for state in node.states if state is not None]
