"""A peer with faults around it: lost answers, other supernodes, lying providers, full disks, foreign files."""

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import time
from collections.abc import Callable

import aiohttp
import msgspec
import pytest

from pantala_pieces.file import Piece, PieceFile
from pantala_protocol import ticket
from pantala_protocol.reasons import Reason
from pantala_protocol.sync import Assignment, Delivery, DeliveryStatus
from tests.support.eventually import eventually
from tests.support.peer_lab import PeerLab, peer
from tests.support.peer_lab import it as it
from tests.support.scripted_supernode import KEY, PUBLISHED, File, ScriptedSupernode, content

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
        await asyncio.sleep(0.5)
        assert "no supernode has answered lately" in "".join(node.problems())
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


# The providers


async def test_f7_corrupt_bytes_are_never_published(it: PeerLab) -> None:
    file = File("a", content(3), corrupt=True)
    it.supernode.pause_after_failure = 0.1
    async with it.peer() as node:
        await it.supernode.deliver(file)
        await eventually(lambda: len(it.supernode.failures) >= 6)
        assert {"corrupt"} == {failure.kind for failure in it.supernode.failures}
        assert {} == node.cache.inventory()
        assert not it.published().exists()
        file.corrupt = False
        await it.supernode.until_published()
    assert file.content == it.published().read_bytes()


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


def ticketed(file: File, generation: str, key: bytes, stop: int) -> dict[str, str]:
    """The headers of a request for the first bytes of a file."""
    shown = ticket.issue(key, file.task_id, generation, now=time.time())
    return {ticket.HEADER: shown, "Range": f"bytes=0-{stop - 1}"}


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


# The node's own disk


async def test_f3_a_file_that_does_not_fit_is_reported_and_fetched_later(it: PeerLab) -> None:
    supernode, made = it.supernode, it.supernode._assignments

    def huge(peer: str) -> tuple[Assignment, ...]:
        """As large as a file may be."""
        return tuple(msgspec.structs.replace(each, length=each.piece_size << 22) for each in made(peer) or ())

    supernode._assignments = huge  # type: ignore[method-assign]
    supernode.pause_after_failure = 0.2
    async with it.peer():
        await supernode.deliver(File("a", content(2)))
        state = await supernode.until_delivered()
        assert (DeliveryStatus.FAILED, Reason.NODE_DISK_FULL) == (state.status, state.reason)
        await eventually(lambda: {"local"} == {failure.kind for failure in supernode.failures})
        assert [] == supernode.sent
        supernode._assignments = made  # type: ignore[method-assign]
        supernode.revision += 1
        await supernode.notify()
        await eventually(lambda: supernode.delivered() == PUBLISHED)


@pytest.mark.parametrize(
    ("path", "reason"),
    [("../a", Reason.PATH_OUTSIDE_ROOT), ("/a", Reason.PATH_OUTSIDE_ROOT), ("theirs", Reason.PATH_CONFLICT)],
)
async def test_a_path_that_cannot_be_used_is_a_failed_delivery(it: PeerLab, path: str, reason: Reason) -> None:
    async with it.peer():
        await eventually(lambda: "node-1" in it.supernode.peers)
        it.published("theirs").write_bytes(b"theirs")
        deliveries = (Delivery("bad", path), Delivery("good", "a"))
        await it.supernode.assign("node-1", (File("a", content(1)), deliveries))
        state = await it.supernode.until_delivered(uid="bad")
        assert (DeliveryStatus.FAILED, reason) == (state.status, state.reason)
        await it.supernode.until_published(uid="good")
    assert b"theirs" == it.published("theirs").read_bytes()


async def test_a_path_that_another_task_releases_is_used(it: PeerLab) -> None:
    first, second = File("a", content(2)), File("b", content(2, seed=2))
    async with it.peer():
        await it.supernode.publish(first, uid="one")
        both = ((first, (Delivery("one", "a"),)), (second, (Delivery("two", "a"),)))
        await it.supernode.assign("node-1", *both)
        assert Reason.PATH_CONFLICT == (await it.supernode.until_delivered(uid="two")).reason
        await it.supernode.assign("node-1", both[1])
        await eventually(lambda: it.supernode.delivered(uid="two") == PUBLISHED)
    assert second.content == it.published().read_bytes()


@pytest.mark.parametrize("harm", ["deleted", "changed", "cache deleted"])
async def test_a_damaged_published_file_is_published_again(it: PeerLab, harm: str) -> None:
    file, published = File("a", content(3)), it.published("d/a")
    async with it.peer(recheck_interval=0.2):
        await it.supernode.publish(file, "d/a")
        if harm == "changed":
            published.chmod(0o600)
            published.write_bytes(b"changed")
        else:
            for path in (it.root() / "cache").rglob("*"):
                if path.is_file() and harm == "cache deleted":
                    path.unlink()
            published.unlink()
        await eventually(lambda: published.exists() and published.read_bytes() == file.content)
        await eventually(lambda: it.supernode.delivered() == PUBLISHED)


async def test_m8_f21_a_published_file_that_rots_on_the_disk_is_repaired_by_the_scrub(it: PeerLab) -> None:
    """The rot changes neither the size nor the time of the file. Only the wrong piece is fetched again."""
    file, supernode, published = File("a", content(4)), it.supernode, it.published()
    async with it.peer(scrub_interval=1.0):
        await supernode.publish(file)
        sent, status = len(supernode.sent), published.stat()
        published.chmod(0o600)
        with published.open("r+b") as raw:
            raw.write(b"rot")
        os.utime(published, ns=(status.st_atime_ns, status.st_mtime_ns))
        states = []

        def repaired() -> bool:
            states.append(supernode.delivered())
            return published.exists() and published.read_bytes() == file.content

        supernode.window = 0
        await eventually(lambda: repaired() or (states[-1] and states[-1].status is DeliveryStatus.FAILED))
        assert states[-1] is not None
        assert Reason.DIGEST_MISMATCH == states[-1].reason
        assert not published.exists()
        supernode.window = 4
        await supernode.notify()
        await eventually(repaired)
        await eventually(lambda: supernode.delivered() == PUBLISHED)
    assert 1 == len(supernode.sent) - sent


# The process


async def test_f1_pieces_survive_a_kill_and_are_not_fetched_again(it: PeerLab) -> None:
    file, supernode = File("a", content(40)), it.supernode
    async with it.process() as running:
        await supernode.deliver(file)
        await eventually(lambda: len(supernode.sent) >= 15, within=30)
        running.kill()
        await running.wait()
    known = supernode.peers["node-1"].held[file.task_id].bit_count()
    assert known > 5
    sent = len(supernode.sent)
    async with it.process():
        await eventually(lambda: supernode.delivered() == PUBLISHED, within=30)
    assert len(supernode.sent) - sent <= file.geometry.pieces - known
    assert file.content == it.published().read_bytes()


async def test_f1_kills_at_random_points_repeat_no_verified_piece(it: PeerLab) -> None:
    file, supernode, chance = File("a", content(300)), it.supernode, random.Random(1)
    await supernode.deliver(file)
    kept, longest = set[int](), 0
    for _ in range(4):
        sent = len(supernode.sent)
        async with it.process() as running:
            await eventually(lambda: len(supernode.sent) > sent or supernode.delivered() == PUBLISHED, every=0.001)  # noqa: B023
            await asyncio.sleep(chance.uniform(0.0, 0.06))
            running.kill()
            await running.wait()
            await asyncio.sleep(0.05)
        assert kept <= it.verified(file)
        assert kept.isdisjoint(number for _, number in supernode.sent[sent:])
        kept = it.verified(file)
        longest = max(longest, len(supernode.sent) - sent)
    assert 0 < longest < file.geometry.pieces, "no kill interrupted the download"
    sent = len(supernode.sent)
    async with it.process():
        await eventually(lambda: supernode.delivered() == PUBLISHED, within=30)
    assert kept.isdisjoint(number for _, number in supernode.sent[sent:])
    assert file.content == it.published().read_bytes()


async def test_a_disk_that_takes_two_seconds_for_a_write_blocks_nothing_else(
    it: PeerLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = File("slow", content(3)), File("quick", content(12, seed=2))
    put = PieceFile.put

    def slowly(file: PieceFile, pieces: list[Piece]) -> None:
        if file.meta.task_id == slow.task_id:
            time.sleep(2.0)
        put(file, pieces)

    monkeypatch.setattr(PieceFile, "put", slowly)
    async with it.peer() as node:
        await eventually(lambda: "node-1" in it.supernode.peers)
        it.supernode.window = 3
        await it.supernode.assign("node-1", (slow, (Delivery("one", "slow"),)))
        await eventually(lambda: len(it.supernode.sent) == 3)
        it.supernode.window = 15
        both = ((slow, (Delivery("one", "slow"),)), (quick, (Delivery("two", "quick"),)))
        begun, longest = time.monotonic(), 0.0
        await it.supernode.assign("node-1", *both)
        while it.supernode.delivered(uid="two") != PUBLISHED:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)
        assert time.monotonic() - begun < 1.9, "the other file waited for the slow disk"
        assert longest < 0.5, "the event loop was blocked"
        assert not node.cache.is_whole(slow.task_id)
        await it.supernode.until_published(uid="one")
    assert slow.content == it.published("slow").read_bytes()


async def test_f16_a_peer_reports_its_end_and_its_files_stay(it: PeerLab) -> None:
    file, supernode = File("a", content(3)), it.supernode
    async with it.process() as running:
        await supernode.publish(file, timeout=30)
        running.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert 0 == await running.wait()
    assert supernode.peers["node-1"].leaving
    assert file.content == it.published().read_bytes()
    supernode.sent.clear()
    before = it.published().stat().st_ino
    async with it.process():
        await eventually(lambda: not supernode.peers["node-1"].leaving, within=30)
        await eventually(lambda: supernode.delivered() == PUBLISHED, within=30)
    assert [] == supernode.sent
    assert before == it.published().stat().st_ino


async def test_f16_a_running_upload_ends_before_the_process(it: PeerLab) -> None:
    file = File("a", os.urandom(40 * 1024 * 1024), piece_size=4 * 1024 * 1024)
    async with it.process() as running:
        await it.supernode.publish(file, timeout=30)
        port = it.supernode.peers["node-1"].port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=64 * 1024)
        headers = ticketed(file, file.generation, KEY, len(file.content))
        lines = [f"GET /pieces/{file.task_id}/{file.generation} HTTP/1.1", "Host: x"]
        writer.write("\r\n".join([*lines, *(f"{key}: {value}" for key, value in headers.items()), "\r\n"]).encode())
        await reader.readuntil(b"\r\n\r\n")
        running.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert running.returncode is None
        async with asyncio.timeout(20):
            assert file.sha256 == hashlib.sha256(await reader.readexactly(len(file.content))).hexdigest()
            writer.close()
            assert 0 == await running.wait()


async def test_a_root_that_cannot_be_used_ends_the_process(it: PeerLab) -> None:
    it.root("link").symlink_to(it.folder)
    async with it.process("link") as running, asyncio.timeout(10):
        assert 1 == await running.wait()
