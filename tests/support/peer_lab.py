"""Real peers in the test's process."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pantala_peer.app import PeerApp, build
from pantala_peer.settings import Settings
from pantala_pieces import journal
from pantala_process.settings import ListenAddress
from pantala_protocol import ticket
from tests.support.eventually import eventually
from tests.support.scripted_files import File
from tests.support.scripted_supernode import ScriptedSupernode


def python_path() -> str:
    """The search path of a process that imports the tests' modules."""
    return os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])


class PeerLab:
    """A scripted supernode, and peers below one folder."""

    def __init__(self, folder: Path, supernode: ScriptedSupernode) -> None:
        self.folder, self.supernode = folder, supernode

    def peer(self, name: str = "node-1", **changes: Any) -> AbstractAsyncContextManager[PeerApp]:
        return peer(self.supernode.url, self.root(name), name, **changes)

    def root(self, name: str = "node-1") -> Path:
        return self.folder / name

    def published(self, path: str = "a", *, peer: str = "node-1") -> Path:
        return self.root(peer) / "files" / path

    def verified(self, file: File) -> set[int]:
        """The pieces on the disk of the peer that have a record and the right bytes."""
        folder = self.root() / "cache" / file.task_id[:2] / file.task_id
        try:
            records = {record.piece for record in journal.decode((folder / "journal").read_bytes())}
            data = (folder / "data").read_bytes()
        except FileNotFoundError:
            return set()
        return {number for number in records if data[number * file.piece_size :].startswith(file.piece(number))}

    def process(self, name: str = "node-1", *wrapper: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
        return peer_process(self.supernode.url, self.root(name), name, wrapper=wrapper)


@asynccontextmanager
async def peer_process(
    url: str, root: Path, name: str, *flags: str, wrapper: Sequence[str] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A peer as a process. ``wrapper``: the module and the arguments with which another program runs it."""
    usual = ("--supernode", url, "--listen", "127.0.0.1:0", "--root", str(root), "--name", name)
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *wrapper, "pantala_peer", *usual, *flags),
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": python_path()},
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[PeerLab]:
    supernode = ScriptedSupernode()
    async with supernode.serving():
        yield PeerLab(tmp_path, supernode)


@asynccontextmanager
async def stays(*files: Path) -> AsyncIterator[None]:
    """Check that each file exists all the time, with the same inode."""
    before = [file.stat().st_ino for file in files]

    async def look() -> None:
        while True:
            assert before == [file.stat().st_ino for file in files]
            await asyncio.sleep(0.001)

    looking = asyncio.create_task(look())
    yield
    looking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await looking


@asynccontextmanager
async def peer(
    url: str, root: Path, name: str = "node-1", *, host: str = "127.0.0.1", **changes: Any
) -> AsyncIterator[PeerApp]:
    """A peer that runs inside the block, and ends as after SIGTERM."""
    made = build(Settings(url, ListenAddress(host, 0), root, name, **changes))
    stop = asyncio.Event()
    running = asyncio.create_task(made.run(stop))
    try:
        yield made
    finally:
        stop.set()
        await running


@asynccontextmanager
async def mirror(url: str, root: Path, name: str = "node-1", **changes: Any) -> AsyncIterator[PeerApp]:
    """A peer with a mirror. Yields after the first answer of the supernode."""
    settings: dict[str, Any] = {"mirror_listen": ListenAddress("127.0.0.1", 0), "grace": 1.0, **changes}
    async with peer(url, root, name, **settings) as made:
        await eventually(lambda: made.supernodes.answered_at > 0 and made.mirror.port > 0)
        yield made


def ticketed(file: File, generation: str, key: bytes, stop: int) -> dict[str, str]:
    """The headers of a request for the first bytes of a file."""
    shown = ticket.issue(key, file.task_id, generation, now=time.time())
    return {ticket.HEADER: shown, "Range": f"bytes=0-{stop - 1}"}
