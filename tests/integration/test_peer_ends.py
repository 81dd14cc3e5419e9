"""A peer with a slow disk, that is stopped, or that cannot start. faults/rows/kills.py kills peers."""

import asyncio
import hashlib
import os
import signal
import threading

import pytest

from pantala_peer.app import build
from pantala_peer.settings import Settings
from pantala_pieces.errors import StoreError
from pantala_pieces.file import Piece, PieceFile
from pantala_process.settings import ListenAddress
from pantala_protocol.sync import Delivery
from tests.support.eventually import eventually
from tests.support.peer_lab import PeerLab, ticketed
from tests.support.peer_lab import it as it
from tests.support.scripted_files import File, content
from tests.support.scripted_supernode import KEY, PUBLISHED


async def test_a_disk_that_hangs_in_a_write_blocks_nothing_else(it: PeerLab, monkeypatch: pytest.MonkeyPatch) -> None:
    slow, quick = File("slow", content(3)), File("quick", content(12, seed=2))
    put, writes = PieceFile.put, threading.Event()

    def slowly(file: PieceFile, pieces: list[Piece]) -> None:
        if file.meta.task_id == slow.task_id:
            writes.wait(20)
        put(file, pieces)

    monkeypatch.setattr(PieceFile, "put", slowly)
    async with it.peer() as node:
        await eventually(lambda: "node-1" in it.supernode.peers)
        it.supernode.window = 3
        await it.supernode.assign("node-1", (slow, (Delivery("one", "slow"),)))
        await eventually(lambda: len(it.supernode.sent) == 3)
        it.supernode.window = 15
        both = ((slow, (Delivery("one", "slow"),)), (quick, (Delivery("two", "quick"),)))
        await it.supernode.assign("node-1", *both)
        await it.supernode.until_published(uid="two")
        assert not node.cache.is_whole(slow.task_id)
        writes.set()
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


async def test_a_root_belongs_to_one_peer_until_this_peer_ends(it: PeerLab) -> None:
    """Also a killed peer leaves no lock."""
    second = build(Settings(it.supernode.url, ListenAddress("127.0.0.1", 0), it.root(), "node-1"))
    async with it.process() as running:
        await eventually(lambda: "node-1" in it.supernode.peers, within=30)
        with pytest.raises(StoreError, match=f"{it.root()}: another peer uses it. Stop that peer, .* own --root"):
            async with asyncio.timeout(5):
                await second.run(asyncio.Event())
        running.kill()
    async with it.peer():
        await it.supernode.publish(File("a", content(1)))


async def test_a_root_that_cannot_be_used_ends_the_process(it: PeerLab) -> None:
    it.root("link").symlink_to(it.folder)
    async with it.process("link") as running, asyncio.timeout(10):
        assert 1 == await running.wait()
