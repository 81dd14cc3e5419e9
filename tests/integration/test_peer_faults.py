"""A peer with faults around it: lost answers, other supernodes, lying providers, full disks, foreign files."""

import asyncio
import contextlib
import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from pantala_protocol import ticket
from pantala_protocol.reasons import Reason
from pantala_protocol.sync import Assignment, Delivery, DeliveryState, DeliveryStatus
from tests.support.eventually import eventually
from tests.support.peer_lab import peer
from tests.support.scripted_supernode import KEY, PIECE, File, ScriptedSupernode

PUBLISHED = DeliveryState(DeliveryStatus.PUBLISHED)


def content(pieces: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(pieces * PIECE - 5)


@pytest.fixture
async def supernode() -> AsyncIterator[ScriptedSupernode]:
    scripted = ScriptedSupernode()
    async with scripted.serving():
        yield scripted


def once_each(supernode: ScriptedSupernode, file: File) -> bool:
    return sorted(supernode.sent) == [(file.task_id, number) for number in range(file.geometry.pieces)]


# The supernode


async def test_lost_answers_cost_only_time(supernode: ScriptedSupernode, tmp_path: Path) -> None:
    file, dropped = File("a", content(20)), set[int]()

    def drop_each_once(request: object) -> bool:
        seq = request.seq  # type: ignore[attr-defined]
        first = seq % 3 == 0 and seq not in dropped
        dropped.add(seq)
        return first

    supernode.drop = drop_each_once
    async with peer(supernode.url, tmp_path):
        await supernode.deliver("node-1", file, "a")
        assert await supernode.until_delivered("node-1", timeout=30) == PUBLISHED
    assert once_each(supernode, file)


async def test_a_restarted_supernode_receives_the_inventory(supernode: ScriptedSupernode, tmp_path: Path) -> None:
    file = File("a", content(12))
    async with peer(supernode.url, tmp_path):
        await supernode.deliver("node-1", file, "a")
        await eventually(lambda: len(supernode.sent) >= 4)
        await supernode.restart()
        assert await supernode.until_delivered("node-1", timeout=20) == PUBLISHED
        sent = len(supernode.sent)
        await supernode.restart()
        assert await supernode.until_delivered("node-1", timeout=20) == PUBLISHED
        assert sent == len(supernode.sent)
    assert len(supernode.sent) <= file.geometry.pieces + supernode.window


async def test_a_peer_waits_for_a_supernode_that_starts_later(tmp_path: Path) -> None:
    supernode, file = ScriptedSupernode(), File("a", content(2))
    async with supernode.serving():
        port = supernode.port
    async with peer(f"http://127.0.0.1:{port}", tmp_path) as node:
        await asyncio.sleep(0.5)
        assert "no supernode has answered lately" in "".join(node.problems())
        async with supernode.serving(port):
            await supernode.deliver("node-1", file, "a")
            assert await supernode.until_delivered("node-1") == PUBLISHED
            assert node.problems() == []


@pytest.mark.parametrize("status", [401, 400, 503])
async def test_a_supernode_that_rejects_an_exchange_is_asked_again(
    supernode: ScriptedSupernode, tmp_path: Path, status: int
) -> None:
    file = File("a", content(3))
    async with peer(supernode.url, tmp_path):
        await supernode.deliver("node-1", file, "a")
        await supernode.until_delivered("node-1")
        supernode.status = status
        await supernode.restart()
        await asyncio.sleep(1.0)
        asked = len(supernode.requests)
        supernode.status = 200
        assert await supernode.until_delivered("node-1") == PUBLISHED
    assert asked < 20
    assert once_each(supernode, file)


async def test_a_whole_file_waits_for_the_supernodes_digest(supernode: ScriptedSupernode, tmp_path: Path) -> None:
    file = File("a", content(3), digest_known=False)
    async with peer(supernode.url, tmp_path) as node:
        await supernode.deliver("node-1", file, "a")
        await eventually(lambda: node.cache.is_whole(file.task_id))
        await asyncio.sleep(0.2)
        assert not (tmp_path / "files/a").exists()
        file.digest_known = True
        supernode.revision += 1
        await supernode.notify()
        assert await supernode.until_delivered("node-1") == PUBLISHED


async def test_new_content_replaces_the_old_content_when_it_is_whole(
    supernode: ScriptedSupernode, tmp_path: Path
) -> None:
    old, new = File("a", content(3)), File("a", content(4, seed=2), generation="fedcba9876543210")
    async with peer(supernode.url, tmp_path):
        await supernode.deliver("node-1", old, "a")
        await supernode.until_delivered("node-1")
        supernode.window = 0
        supernode.peers["node-1"].held.clear()
        await supernode.deliver("node-1", new, "a")
        await eventually(lambda: supernode.delivered("node-1") is None)
        assert old.content == (tmp_path / "files/a").read_bytes()
        supernode.window = 4
        await supernode.notify()
        assert await supernode.until_delivered("node-1") == PUBLISHED
        assert new.content == (tmp_path / "files/a").read_bytes()


async def test_an_unfinished_task_that_is_dropped_leaves_no_file(supernode: ScriptedSupernode, tmp_path: Path) -> None:
    file = File("a", content(30))
    async with peer(supernode.url, tmp_path) as node:
        await supernode.deliver("node-1", file, "d/a")
        await eventually(lambda: len(supernode.sent) >= 5)
        await supernode.assign("node-1")
        await eventually(lambda: not node.cache.tasks())
        await asyncio.sleep(0.2)
        assert {} == node.cache.inventory()
        assert [] == [path for path in tmp_path.rglob("*") if path.is_file()]


async def test_an_assignment_that_is_not_valid_does_not_affect_others(
    supernode: ScriptedSupernode, tmp_path: Path
) -> None:
    file, made = File("a", content(2)), supernode._assignments
    bad = Assignment("../../etc", "g", 1, 1, "md5:00", (Delivery("x", "x"),))
    supernode._assignments = lambda peer: (bad, *made(peer))  # type: ignore[method-assign]
    async with peer(supernode.url, tmp_path):
        await supernode.deliver("node-1", file, "a")
        assert await supernode.until_delivered("node-1") == PUBLISHED


# The providers


async def test_f7_corrupt_bytes_are_never_published(supernode: ScriptedSupernode, tmp_path: Path) -> None:
    file = File("a", content(3), corrupt=True)
    supernode.pause_after_failure = 0.1
    async with peer(supernode.url, tmp_path) as node:
        await supernode.deliver("node-1", file, "a")
        await eventually(lambda: len(supernode.failures) >= 6)
        assert {"corrupt"} == {failure.kind for failure in supernode.failures}
        assert {} == node.cache.inventory()
        assert not (tmp_path / "files/a").exists()
        file.corrupt = False
        assert await supernode.until_delivered("node-1") == PUBLISHED
    assert file.content == (tmp_path / "files/a").read_bytes()


async def test_f7_corrupt_bytes_of_a_peer_are_reported_with_its_name(
    supernode: ScriptedSupernode, tmp_path: Path
) -> None:
    file = File("a", content(2))
    async with peer(supernode.url, tmp_path / "1", "node-1"), peer(supernode.url, tmp_path / "2", "node-2"):
        await supernode.deliver("node-1", file, "a")
        await supernode.until_delivered("node-1")
        data = next((tmp_path / "1/cache").rglob("data"))
        data.chmod(0o600)
        with data.open("r+b") as raw:
            raw.write(b"rot")
        await supernode.deliver("node-2", file, "b")
        await eventually(lambda: supernode.failures)
        supernode.prefer_peers = False
        assert await supernode.until_delivered("node-2") == PUBLISHED
    assert {("node-1", "corrupt", 0)} == {(f.provider, f.kind, f.piece) for f in supernode.failures}
    assert file.content == (tmp_path / "2/files/b").read_bytes()


async def test_f6_a_frozen_provider_is_reported_and_replaced(supernode: ScriptedSupernode, tmp_path: Path) -> None:
    async def freeze(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        writer.transport.abort()

    frozen = await asyncio.start_server(freeze, "127.0.0.1", 0)
    file = File("a", content(3))
    async with (
        peer(supernode.url, tmp_path / "1", "node-1"),
        peer(supernode.url, tmp_path / "2", "node-2", head_timeout=0.6),
    ):
        await eventually(lambda: len(supernode.peers) == 2)
        supernode.liars = {"node-1": frozen.sockets[0].getsockname()[1]}
        await supernode.deliver("node-2", file, "b")
        await eventually(lambda: supernode.failures)
        assert {("node-1", "stalled")} == {(f.provider, f.kind) for f in supernode.failures}
        supernode.liars = {}
        assert await supernode.until_delivered("node-2") == PUBLISHED
    frozen.close()
    await asyncio.sleep(0.05)


async def test_a_provider_without_the_piece_is_reported_as_missing(
    supernode: ScriptedSupernode, tmp_path: Path
) -> None:
    file = File("a", content(2))
    async with peer(supernode.url, tmp_path / "1", "node-1"), peer(supernode.url, tmp_path / "2", "node-2"):
        await eventually(lambda: len(supernode.peers) == 2)
        supernode.liars = {"node-1": 0}
        await supernode.deliver("node-2", file, "b")
        await eventually(lambda: supernode.failures)
        supernode.liars = {}
        assert {("node-1", "missing")} == {(f.provider, f.kind) for f in supernode.failures}
        assert await supernode.until_delivered("node-2") == PUBLISHED


async def test_a_peer_serves_only_its_pieces_and_only_with_a_ticket(
    supernode: ScriptedSupernode, tmp_path: Path
) -> None:
    file = File("a", content(2))
    async with peer(supernode.url, tmp_path), aiohttp.ClientSession() as client:
        await supernode.deliver("node-1", file, "a")
        await supernode.until_delivered("node-1")
        where = f"http://127.0.0.1:{supernode.peers['node-1'].port}/pieces/{file.task_id}/"

        async def status(generation: str, key: bytes, asked: str = "bytes=0-9") -> int:
            shown = ticket.issue(key, file.task_id, generation, now=time.time())
            headers = {ticket.HEADER: shown, "Range": asked}
            async with client.get(where + generation, headers=headers) as response:
                await response.read()
                return response.status

        assert await status(file.generation, KEY) == 206
        assert await status(file.generation, b"x" * 32) == 403
        assert await status("00", KEY) == 404
        assert await status(file.generation, KEY, f"bytes=0-{len(file.content)}") == 404


# The node's own disk


async def test_f3_a_file_that_does_not_fit_is_reported_and_fetched_later(
    supernode: ScriptedSupernode, tmp_path: Path
) -> None:
    file, made = File("a", content(2)), supernode._assignments

    def huge(peer: str) -> tuple[Assignment, ...]:
        return tuple(
            Assignment(a.task_id, a.generation, a.piece_size, 1 << 60, a.digest, a.deliveries) for a in made(peer)
        )

    supernode._assignments = huge  # type: ignore[method-assign]
    supernode.pause_after_failure = 0.2
    async with peer(supernode.url, tmp_path):
        await supernode.deliver("node-1", file, "a")
        state = await supernode.until_delivered("node-1")
        assert (DeliveryStatus.FAILED, Reason.NODE_DISK_FULL) == (state.status, state.reason)
        await eventually(lambda: {"local"} == {failure.kind for failure in supernode.failures})
        assert [] == supernode.sent
        supernode._assignments = made  # type: ignore[method-assign]
        supernode.revision += 1
        await supernode.notify()
        await eventually(lambda: supernode.delivered("node-1") == PUBLISHED)


@pytest.mark.parametrize(
    ("path", "reason"),
    [("../a", Reason.PATH_OUTSIDE_ROOT), ("/a", Reason.PATH_OUTSIDE_ROOT), ("theirs", Reason.PATH_CONFLICT)],
)
async def test_a_path_that_cannot_be_used_is_a_failed_delivery(
    supernode: ScriptedSupernode, tmp_path: Path, path: str, reason: Reason
) -> None:
    file = File("a", content(1))
    async with peer(supernode.url, tmp_path):
        await eventually(lambda: "node-1" in supernode.peers)
        (tmp_path / "files/theirs").write_bytes(b"theirs")
        await supernode.assign("node-1", (file, (Delivery("bad", path), Delivery("good", "a"))))
        state = await supernode.until_delivered("node-1", "bad")
        assert (DeliveryStatus.FAILED, reason) == (state.status, state.reason)
        assert await supernode.until_delivered("node-1", "good") == PUBLISHED
    assert (tmp_path / "files/theirs").read_bytes() == b"theirs"


async def test_a_path_that_another_task_releases_is_used(supernode: ScriptedSupernode, tmp_path: Path) -> None:
    first, second = File("a", content(2)), File("b", content(2, seed=2))
    async with peer(supernode.url, tmp_path):
        await supernode.deliver("node-1", first, "same", "one")
        await supernode.until_delivered("node-1", "one")
        both = ((first, (Delivery("one", "same"),)), (second, (Delivery("two", "same"),)))
        await supernode.assign("node-1", *both)
        state = await supernode.until_delivered("node-1", "two")
        assert Reason.PATH_CONFLICT == state.reason
        await supernode.assign("node-1", both[1])
        await eventually(lambda: supernode.delivered("node-1", "two") == PUBLISHED)
    assert second.content == (tmp_path / "files/same").read_bytes()


@pytest.mark.parametrize("harm", ["deleted", "changed", "cache deleted"])
async def test_a_damaged_published_file_is_published_again(
    supernode: ScriptedSupernode, tmp_path: Path, harm: str
) -> None:
    file = File("a", content(3))
    async with peer(supernode.url, tmp_path, recheck_interval=0.2):
        await supernode.deliver("node-1", file, "d/a")
        await supernode.until_delivered("node-1")
        published = tmp_path / "files/d/a"
        if harm == "deleted":
            published.unlink()
        elif harm == "changed":
            published.chmod(0o600)
            published.write_bytes(b"changed")
        else:
            for path in (tmp_path / "cache").rglob("*"):
                if path.is_file():
                    path.unlink()
            published.unlink()
        await eventually(lambda: published.exists() and published.read_bytes() == file.content)
        await eventually(lambda: supernode.delivered("node-1") == PUBLISHED)


# The process


@contextlib.asynccontextmanager
async def process(supernode: ScriptedSupernode, root: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """The peer as a process."""
    flags = ["--supernode", supernode.url, "--listen", "127.0.0.1:0", "--root", str(root), "--name", "node-1"]
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pantala_peer", *flags, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def test_f1_pieces_survive_a_kill_and_are_not_fetched_again(supernode: ScriptedSupernode, tmp_path: Path) -> None:
    file = File("a", content(40))
    async with process(supernode, tmp_path) as running:
        await supernode.deliver("node-1", file, "a")
        await eventually(lambda: len(supernode.sent) >= 15, within=30)
        running.kill()
        await running.wait()
    known = supernode.peers["node-1"].held[file.task_id].bit_count()
    assert known > 5
    sent = len(supernode.sent)
    async with process(supernode, tmp_path):
        await eventually(lambda: supernode.delivered("node-1") == PUBLISHED, within=30)
    assert len(supernode.sent) - sent <= file.geometry.pieces - known
    assert file.content == (tmp_path / "files/a").read_bytes()


async def test_f16_a_peer_reports_its_end_and_its_files_stay(supernode: ScriptedSupernode, tmp_path: Path) -> None:
    file = File("a", content(3))
    async with process(supernode, tmp_path) as running:
        await supernode.deliver("node-1", file, "a")
        await supernode.until_delivered("node-1", timeout=30)
        running.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await running.wait() == 0
    assert supernode.peers["node-1"].leaving
    assert hashlib.sha256((tmp_path / "files/a").read_bytes()).hexdigest() == file.sha256
    supernode.sent.clear()
    before = (tmp_path / "files/a").stat().st_ino
    async with process(supernode, tmp_path):
        await eventually(lambda: not supernode.peers["node-1"].leaving, within=30)
        await eventually(lambda: supernode.delivered("node-1") == PUBLISHED, within=30)
    assert [] == supernode.sent
    assert before == (tmp_path / "files/a").stat().st_ino


async def test_f16_a_running_upload_ends_before_the_process(supernode: ScriptedSupernode, tmp_path: Path) -> None:
    file = File("a", os.urandom(40 * 1024 * 1024), piece_size=4 * 1024 * 1024)
    async with process(supernode, tmp_path) as running:
        await supernode.deliver("node-1", file, "a")
        await supernode.until_delivered("node-1", timeout=30)
        port = supernode.peers["node-1"].port
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=64 * 1024)
        shown = ticket.issue(KEY, file.task_id, file.generation, now=time.time())
        asked = f"Range: bytes=0-{len(file.content) - 1}"
        head = f"GET /pieces/{file.task_id}/{file.generation} HTTP/1.1\r\nHost: x\r\n{asked}"
        writer.write(f"{head}\r\n{ticket.HEADER}: {shown}\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        running.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert running.returncode is None
        async with asyncio.timeout(20):
            assert hashlib.sha256(await reader.readexactly(len(file.content))).hexdigest() == file.sha256
            writer.close()
            assert await running.wait() == 0


async def test_wrong_flags_end_with_one_line_and_code_2() -> None:
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pantala_peer", "--listen", "x", stderr=asyncio.subprocess.PIPE
    )
    _, said = await running.communicate()
    assert running.returncode == 2
    assert said.count(b"\n") == 1


async def test_a_root_that_cannot_be_used_ends_the_process(supernode: ScriptedSupernode, tmp_path: Path) -> None:
    (tmp_path / "root").symlink_to(tmp_path)
    async with process(supernode, tmp_path / "root") as running, asyncio.timeout(10):
        assert await running.wait() == 1
