"""A peer publishes the files that a scripted supernode assigns, and removes them afterwards."""

import random

import pytest

from pantala_protocol.sync import Delivery
from tests.support.eventually import eventually
from tests.support.peer_lab import PeerLab
from tests.support.peer_lab import it as it
from tests.support.scripted_supernode import PIECE, File, content


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 10 * PIECE + 17])
async def test_an_assigned_file_appears_at_its_path(it: PeerLab, size: int) -> None:
    file = File("a", random.Random(1).randbytes(size))
    async with it.peer():
        await it.supernode.publish(file, "models/a.bin")
    published = it.published("models/a.bin")
    assert file.content == published.read_bytes()
    assert published.stat().st_mode & 0o777 == 0o444
    assert it.supernode.has_sent_once(file)


async def test_a_file_that_is_not_assigned_any_more_is_removed(it: PeerLab) -> None:
    async with it.peer() as node:
        await it.supernode.publish(File("a", content(3)), "models/a.bin")
        await it.supernode.assign("node-1")
        await eventually(lambda: it.supernode.delivered() is None)
        await eventually(lambda: not node.cache.tasks())
    assert [] == [path for path in it.folder.rglob("*") if path.is_file()]
    assert [] == list(it.published().parent.iterdir())


async def test_peers_download_pieces_from_each_other(it: PeerLab) -> None:
    file = File("a", content(16))
    async with it.peer(), it.peer("node-2"):
        await it.supernode.publish(file)
        it.supernode.sent.clear()
        await it.supernode.publish(file, "b", peer="node-2")
        assert [] == it.supernode.sent
    assert file.content == it.published("b", peer="node-2").read_bytes()


async def test_two_deliveries_of_one_task_share_the_disk(it: PeerLab) -> None:
    file = File("a", content(2))
    one, two = it.published("x/one"), it.published("x/two")
    async with it.peer():
        await it.supernode.assign("node-1", (file, (Delivery("u1", "x/one"), Delivery("u2", "x/two"))))
        await it.supernode.until_published(uid="u1")
        await it.supernode.until_published(uid="u2")
        assert one.stat().st_ino == two.stat().st_ino
        await it.supernode.assign("node-1", (file, (Delivery("u2", "x/two"),)))
        await eventually(lambda: it.supernode.delivered(uid="u1") is None)
        assert [two] == list(two.parent.iterdir())
        assert two.samefile(next(it.root().rglob("cache/**/data")))
