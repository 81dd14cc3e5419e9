"""One swarm: a peer and a client of Dragonfly exchange the pieces of one task."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pantala_protocol import task_id
from pantala_protocol.statement import Statement, WantedTask
from pantala_supernode.app import App, serving
from testbed.origin import Behaviour, Generated, Origin
from tests.support.dragonfly_client import Dfget
from tests.support.eventually import eventually
from tests.support.peer_lab import peer
from tests.support.supernode_lab import loopback

P = 128 * 1024
SIZE = 30 * P + 11


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    async with serving(loopback(tmp_path / "data", dragonfly=True)) as app:
        yield app


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as origin:
        origin.serve("/f", Generated(SIZE, seed=1))
        yield origin


def state(app: App, url: str) -> None:
    """Assign the file to the node."""
    wanted = WantedTask("u", "ns/n", task_id.compute(url), url, path="f", peers=("node-1",))
    app.supernode.state(Statement(1, (wanted,)))


def dfget(app: App, url: str, **settings: Any) -> Dfget:
    return Dfget(f"127.0.0.1:{app.settings.listen.port}", url, **settings)


async def published(root: Path) -> bytes:
    """The file on the node, once it is there."""
    path = root / "files" / "f"
    await eventually(path.exists, within=30)
    return path.read_bytes()


def from_supernode(app: App, url: str) -> int:
    return app.managers.progress.tasks[task_id.compute(url)].supernode_bytes


async def test_a_peer_downloads_from_a_client(app: App, origin: Origin, tmp_path: Path) -> None:
    """The supernode serves each byte once. The peer gets all pieces from the client, unwrapped and verified."""
    url, root = origin.url("/f"), tmp_path / "peer"
    async with dfget(app, url) as client:
        content = await client.run()
        async with peer(f"http://127.0.0.1:{app.settings.listen.port}", root):
            state(app, url)
            assert content == await published(root)
    assert (SIZE, 31) == (from_supernode(app, url), client.served)
    assert SIZE == origin.body_bytes("/f")


async def test_a_client_downloads_from_a_peer(app: App, origin: Origin, tmp_path: Path) -> None:
    url, root = origin.url("/f"), tmp_path / "peer"
    async with peer(f"http://127.0.0.1:{app.settings.listen.port}", root):
        state(app, url)
        content = await published(root)
        for old in (False, True):
            async with dfget(
                app, url, old=old, pattern="cdn", reachable=lambda entry: entry["cid"].startswith("peer:node-1~")
            ) as client:
                assert content == await client.run()
    assert SIZE == origin.body_bytes("/f")


async def test_wrong_bytes_of_a_client_harm_no_peer(app: App, origin: Origin, tmp_path: Path) -> None:
    url, root = origin.url("/f"), tmp_path / "peer"
    async with dfget(app, url) as client:
        content = await client.run()
        client.pieces = {number: bytes(len(piece)) for number, piece in client.pieces.items()}
        async with peer(f"http://127.0.0.1:{app.settings.listen.port}", root):
            state(app, url)
            assert content == await published(root)


async def test_peers_and_clients_read_the_origin_once(app: App, origin: Origin, tmp_path: Path) -> None:
    origin.serve("/f", Generated(SIZE, seed=1), always=Behaviour(rate=SIZE / 2))
    url, root = origin.url("/f"), tmp_path / "peer"
    state(app, url)
    async with (
        peer(f"http://127.0.0.1:{app.settings.listen.port}", root),
        dfget(app, url) as one,
        dfget(app, url, old=True) as two,
    ):
        contents = {*await asyncio.gather(one.run(), two.run(), published(root))}
    assert {hashlib.sha256(Generated(SIZE, seed=1).read(0, SIZE)).hexdigest()} == {
        hashlib.sha256(content).hexdigest() for content in contents
    }
    assert SIZE == origin.body_bytes("/f")
