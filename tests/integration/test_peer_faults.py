"""A peer with faults around it: lost answers, other supernodes, lying providers, full disks, foreign files."""

import asyncio
import contextlib
import socket
from collections.abc import Callable

import aiohttp
import pytest

from pantala_peer.mirror import service
from pantala_process.settings import ListenAddress
from pantala_protocol.sync import Assignment, Delivery
from tests.support.eventually import eventually
from tests.support.peer_lab import PeerLab, peer, ticketed
from tests.support.peer_lab import it as it
from tests.support.scripted_files import File, content
from tests.support.scripted_supernode import KEY, ScriptedSupernode

# The supernode


async def test_lost_answers_cost_only_time(it: PeerLab) -> None:
    file, dropped = File("a", content(20)), set[int]()

    def drop_each_once(request: object) -> bool:
        seq = request.seq  # type: ignore[attr-defined]
        first = seq % 3 == 0 and seq not in dropped
        dropped.add(seq)
        return first

    it.supernode.drop = drop_each_once
    async with it.peer():
        await it.supernode.publish(file, timeout=30)
    assert it.supernode.has_sent_once(file)


async def test_a_piece_that_comes_with_its_work_is_not_fetched(it: PeerLab) -> None:
    it.supernode.enclose = lambda found: found
    file = File("a", content(1))
    async with it.peer():
        await it.supernode.publish(file)
    assert ([], []) == (it.supernode.sent, it.supernode.failures)
    assert file.content == it.published().read_bytes()


@pytest.mark.parametrize("harm", [lambda found: found[::-1], lambda found: found[1:], lambda found: found + b"x"])
async def test_wrong_bytes_with_the_work_are_reported_and_the_piece_is_fetched(
    it: PeerLab, harm: Callable[[bytes], bytes]
) -> None:
    it.supernode.enclose = lambda found: None if it.supernode.failures else harm(found)
    file = File("a", content(1))
    async with it.peer():
        await it.supernode.publish(file)
    assert ["corrupt"] == [failure.kind for failure in it.supernode.failures]
    assert it.supernode.has_sent_once(file)
    assert file.content == it.published().read_bytes()


async def test_a_restarted_supernode_receives_the_inventory(it: PeerLab) -> None:
    file, supernode = File("a", content(12)), it.supernode
    async with it.peer():
        await supernode.deliver(file)
        await eventually(lambda: len(supernode.sent) >= 4)
        await supernode.restart()
        await supernode.until_published(timeout=20)
        sent = len(supernode.sent)
        await supernode.restart()
        await supernode.until_published(timeout=20)
        assert sent == len(supernode.sent)
    assert sent <= file.geometry.pieces + supernode.window


async def test_a_peer_waits_for_a_supernode_that_starts_later(it: PeerLab) -> None:
    supernode = ScriptedSupernode()
    async with supernode.serving():
        port = supernode.port
    async with peer(f"http://127.0.0.1:{port}", it.root()) as node:
        text = f"no exchange with a supernode has succeeded lately: http://127.0.0.1:{port}: Connection refused"
        await eventually(lambda: [text] == node.problems())
        async with supernode.serving(port):
            await supernode.publish(File("a", content(2)))
            assert [] == node.problems()


@pytest.mark.parametrize("status", [401, 400, 503])
async def test_a_supernode_that_rejects_an_exchange_is_asked_again(it: PeerLab, status: int) -> None:
    file, supernode = File("a", content(3)), it.supernode
    async with it.peer():
        await supernode.publish(file)
        supernode.status = status
        await supernode.restart()
        await asyncio.sleep(1.0)
        assert len(supernode.requests) < 20
        supernode.status = 200
        await supernode.until_published()
    assert supernode.has_sent_once(file)


async def test_a_whole_file_waits_for_the_supernodes_digest(it: PeerLab) -> None:
    file = File("a", content(3), digest_known=False)
    async with it.peer() as node:
        await it.supernode.deliver(file)
        await eventually(lambda: node.cache.is_whole(file.task_id))
        await asyncio.sleep(0.2)
        assert not it.published().exists()
        file.digest_known = True
        await it.supernode.publish(file)


async def test_new_content_replaces_the_old_content_when_it_is_whole(it: PeerLab) -> None:
    old, new = File("a", content(3)), File("a", content(4, seed=2), generation="fedcba9876543210")
    supernode = it.supernode
    async with it.peer():
        await supernode.publish(old)
        supernode.window = 0
        supernode.peers["node-1"].held.clear()
        await supernode.deliver(new)
        await eventually(lambda: supernode.delivered() is None)
        assert old.content == it.published().read_bytes()
        supernode.window = 4
        await supernode.notify()
        await supernode.until_published()
        assert new.content == it.published().read_bytes()


async def test_an_unfinished_task_that_is_dropped_leaves_no_file(it: PeerLab) -> None:
    async with it.peer() as node:
        await it.supernode.deliver(File("a", content(30)), "d/a")
        await eventually(lambda: len(it.supernode.sent) >= 5)
        await it.supernode.assign("node-1")
        await eventually(lambda: not node.cache.tasks())
        await asyncio.sleep(0.2)
        assert {} == node.cache.inventory()
        assert [] == [path for path in it.folder.rglob("*") if path.is_file()]


async def test_an_assignment_that_is_not_valid_does_not_affect_others(it: PeerLab) -> None:
    made = it.supernode._assignments
    bad = Assignment("../../etc", "g", 1, 1, "md5:00", (Delivery("x", "x"),))
    it.supernode._assignments = lambda peer: (bad, *(made(peer) or ()))  # type: ignore[method-assign]
    async with it.peer():
        await it.supernode.publish(File("a", content(2)))


# The node


async def test_a_mirror_whose_port_is_taken_begins_when_the_port_is_free(
    it: PeerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer used to end, so the node got no files either."""
    monkeypatch.setattr(service, "_RETRY", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with it.peer(mirror_listen=ListenAddress("127.0.0.1", port)) as node:
            await it.supernode.publish(File("a", content(1)))
            assert f"cannot listen at 127.0.0.1:{port}: address already in use" in node.mirror.problem()
            assert " as --mirror-listen. The peer tries again" in node.mirror.problem()
            assert (None, 0) == (node.mirror.url(), node.mirror.reachable_port())
            taken.close()
            await eventually(lambda: node.mirror.port == port)


async def test_a_mirror_begins_when_its_token_can_be_read(it: PeerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_RETRY", 0.2)
    token = it.folder / "mirror-token"
    async with it.peer(mirror_listen=ListenAddress("127.0.0.1", 0), mirror_token_file=token) as node:
        await eventually(lambda: str(token) in node.mirror.problem())
        token.write_text("t0ken")
        await eventually(lambda: node.mirror.port)


# The providers


async def test_f7_corrupt_bytes_of_a_peer_are_reported_with_its_name(it: PeerLab) -> None:
    file = File("a", content(2))
    async with it.peer(), it.peer("node-2"):
        await it.supernode.publish(file)
        data = next(it.root().rglob("cache/**/data"))
        data.chmod(0o600)
        with data.open("r+b") as raw:
            raw.write(b"rot")
        await it.supernode.deliver(file, peer="node-2")
        await eventually(lambda: it.supernode.failures)
        it.supernode.prefer_peers = False
        await it.supernode.until_published("node-2")
    assert {("node-1", "corrupt", 0)} == {(f.provider, f.kind, f.piece) for f in it.supernode.failures}
    assert file.content == it.published(peer="node-2").read_bytes()


@pytest.mark.parametrize("kind", ["stalled", "missing"])
async def test_f6_a_provider_that_is_frozen_or_lacks_the_piece_is_reported_and_replaced(it: PeerLab, kind: str) -> None:
    async def freeze(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        writer.transport.abort()

    frozen, supernode = await asyncio.start_server(freeze, "127.0.0.1", 0), it.supernode
    async with it.peer(), it.peer("node-2", head_timeout=0.6):
        await eventually(lambda: len(supernode.peers) == 2)
        supernode.liars = {"node-1": frozen.sockets[0].getsockname()[1] if kind == "stalled" else 0}
        await supernode.deliver(File("a", content(3)), peer="node-2")
        await eventually(lambda: supernode.failures)
        assert {("node-1", kind)} == {(f.provider, f.kind) for f in supernode.failures}
        supernode.liars = {}
        await supernode.until_published("node-2")
    frozen.close()
    await asyncio.sleep(0.05)


async def test_a_peer_serves_only_its_pieces_and_only_with_a_ticket(it: PeerLab) -> None:
    file = File("a", content(2))
    async with it.peer(), aiohttp.ClientSession() as client:
        await it.supernode.publish(file)
        port = it.supernode.peers["node-1"].port
        for expected, generation, key, stop in (
            (206, file.generation, KEY, 10),
            (403, file.generation, b"x" * 32, 10),
            (404, "00", KEY, 10),
            (404, file.generation, KEY, len(file.content) + 1),
        ):
            url = f"http://127.0.0.1:{port}/pieces/{file.task_id}/{generation}"
            async with client.get(url, headers=ticketed(file, generation, key, stop)) as response:
                await response.read()
                assert expected == response.status
