"""A peer publishes the files that a scripted supernode assigns, and removes them afterwards."""

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_protocol.sync import Delivery, DeliveryState, DeliveryStatus
from tests.support.eventually import eventually
from tests.support.peer_lab import peer
from tests.support.scripted_supernode import PIECE, File, ScriptedSupernode

PUBLISHED = DeliveryState(DeliveryStatus.PUBLISHED)


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
async def supernode() -> AsyncIterator[ScriptedSupernode]:
    scripted = ScriptedSupernode()
    async with scripted.serving():
        yield scripted


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 10 * PIECE + 17])
async def test_an_assigned_file_appears_at_its_path(supernode: ScriptedSupernode, tmp_path: Path, size: int) -> None:
    file = File("a", content(size))
    async with peer(supernode.url, tmp_path):
        await supernode.deliver("node-1", file, "models/a.bin")
        assert await supernode.until_delivered("node-1") == PUBLISHED
    published = tmp_path / "files" / "models" / "a.bin"
    assert file.content == published.read_bytes()
    assert published.stat().st_mode & 0o777 == 0o444
    assert sorted(supernode.sent) == [(file.task_id, number) for number in range(file.geometry.pieces)]


async def test_a_file_that_is_not_assigned_any_more_is_removed(supernode: ScriptedSupernode, tmp_path: Path) -> None:
    file = File("a", content(3 * PIECE))
    async with peer(supernode.url, tmp_path) as node:
        await supernode.deliver("node-1", file, "models/a.bin")
        await supernode.until_delivered("node-1")
        await supernode.assign("node-1")
        await eventually(lambda: supernode.delivered("node-1") is None)
        await eventually(lambda: not node.cache.tasks())
    assert list((tmp_path / "files").iterdir()) == []
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert list((tmp_path / "published").iterdir()) == []


async def test_peers_download_pieces_from_each_other(supernode: ScriptedSupernode, tmp_path: Path) -> None:
    file = File("a", content(16 * PIECE))
    async with peer(supernode.url, tmp_path / "1", "node-1"), peer(supernode.url, tmp_path / "2", "node-2"):
        await supernode.deliver("node-1", file, "a")
        await supernode.until_delivered("node-1")
        supernode.sent.clear()
        await supernode.deliver("node-2", file, "b")
        assert await supernode.until_delivered("node-2") == PUBLISHED
        assert supernode.sent == []
    assert file.content == (tmp_path / "2" / "files" / "b").read_bytes()


async def test_two_deliveries_of_one_task_share_the_disk(supernode: ScriptedSupernode, tmp_path: Path) -> None:
    file = File("a", content(2 * PIECE))
    async with peer(supernode.url, tmp_path):
        await supernode.assign("node-1", (file, (Delivery("u1", "x/one"), Delivery("u2", "x/two"))))
        await supernode.until_delivered("node-1", "u1")
        await supernode.until_delivered("node-1", "u2")
        one, two = tmp_path / "files/x/one", tmp_path / "files/x/two"
        assert one.stat().st_ino == two.stat().st_ino
        await supernode.assign("node-1", (file, (Delivery("u2", "x/two"),)))
        await eventually(lambda: supernode.delivered("node-1", "u1") is None)
        assert [two] == list((tmp_path / "files/x").iterdir())
        assert two.samefile(next((tmp_path / "cache").rglob("data")))
