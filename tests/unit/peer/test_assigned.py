"""The publication of whole files, and what the scrub finds after it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs

from pantala_peer.cache.publisher import PublicationRequest, Publisher
from pantala_peer.events import Assigned
from pantala_pieces.errors import StoreFullError
from pantala_protocol.reasons import Reason
from pantala_protocol.sync import DeliveryState, DeliveryStatus, HeldPieces
from tests.support.eventually import eventually
from tests.support.peer_cache import received
from tests.support.peer_node import CONTENT, SIZE, TASK, Node, assigned

PUBLISHED = DeliveryState(DeliveryStatus.PUBLISHED, path="there")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path)
    await made.open()
    yield made
    await made.close()


def rot(path: Path) -> None:
    path.chmod(0o600)
    with path.open("r+b") as data:
        data.write(b"rot")


@pytest.mark.virtual_time
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


@pytest.mark.virtual_time
async def test_a_blob_is_completed_by_the_scrub(node: Node) -> None:
    node.scrub._busy = lambda: True
    node.put(1, 0, 2, 3)
    await node.settle(assigned(blob=True))
    assert not node.file.complete
    node.scrub._busy = lambda: False
    await eventually(lambda: node.file.complete)
    assert assigned().digest == node.file.meta.digest
    assert not node.published.exists()


@pytest.mark.virtual_time
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


async def test_a_task_that_is_assigned_again_during_its_removal_keeps_its_pieces(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.put(0, 1, 2, 3)
    await node.settle(assigned())
    loop, unpublish = asyncio.get_running_loop(), Publisher.unpublish

    def unpublish_late(publisher: Publisher, path: str) -> None:
        loop.call_soon_threadsafe(node.tasks._on_assigned, Assigned({TASK: assigned()}, complete=True))
        unpublish(publisher, path)

    monkeypatch.setattr(Publisher, "unpublish", unpublish_late)
    node.tasks._on_assigned(Assigned({}, complete=True))
    await node.settle()
    assert {TASK: HeldPieces("g", "0-3")} == node.cache.inventory()
    assert CONTENT == node.published.read_bytes()


async def test_a_disk_that_is_full_at_a_publication_loses_blobs(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer kept blobs that can be fetched again, and published nothing until a human freed the disk."""
    blob = structs.replace(assigned(blob=True), task_id="b" * 64)
    await node.cache.hold(blob)
    for number in range(4):
        node.cache.put(*received(CONTENT, number, SIZE, blob.task_id))
    publish = Publisher.publish

    def publish_if_room(publisher: Publisher, request: PublicationRequest) -> None:
        if node.cache.lookup(blob.task_id):
            raise StoreFullError("no room is left")
        publish(publisher, request)

    monkeypatch.setattr(Publisher, "publish", publish_if_room)
    node.put(0, 1, 2, 3)
    node.tasks._on_assigned(Assigned({TASK: assigned(), blob.task_id: blob}, complete=True))
    await node.settle()
    assert [Reason.NODE_DISK_FULL] == [state.reason for state in node.states[:1] if state]
    assert PUBLISHED == node.states[-1]
