"""A thousand clients and peers ask for one file at once. All of them get all pieces, and the origin is read once.

They report their pieces without downloading them, so that a thousand of them fit into one process.
"""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.connection import BenchConnection
from pantala_protocol import task_id
from pantala_protocol.statement import Statement, WantedTask
from pantala_supernode.app import App, serving
from testbed.origin import Behaviour, Generated, Origin
from tests.support.reporting_peer import ReportingDfget, ReportingPeer
from tests.support.supernode_lab import loopback

pytestmark = pytest.mark.alone

PIECES = 4
SIZE = PIECES * 128 * 1024
EACH = 500
"""Clients of Dragonfly, and as many of our peers."""
NODES = tuple(f"node-{number}" for number in range(EACH))


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[Path]:
    """Raise the limit for both ends of a thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4 * EACH + 200:
        pytest.skip(f"{hard} file descriptors are too few")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4 * EACH + 200), hard))
    yield Path("/proc/self/fd")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    async with serving(loopback(tmp_path / "data", dragonfly=True)) as app:
        yield app


async def test_a_thousand_at_once_read_the_origin_once(app: App, descriptors: Path) -> None:
    before, port = len(list(descriptors.iterdir())), app.settings.listen.port
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not failed.done():
            failed.set_exception(AssertionError(str(context)))

    asyncio.get_running_loop().set_exception_handler(fail)
    async with Origin() as origin:
        origin.serve("/f", Generated(SIZE, seed=1), always=Behaviour(rate=SIZE))
        url = origin.url("/f")
        wanted = WantedTask("u", "ns/n", task_id.compute(url), url, path="f", peers=NODES)
        app.supernode.state(Statement(1, (wanted,)))
        connections = [await BenchConnection.open("127.0.0.1", port) for _ in range(2 * EACH)]
        clients = [
            ReportingDfget(connection, url, number).run() for number, connection in enumerate(connections[EACH:])
        ]
        nodes = [
            ReportingPeer(connection, name, PIECES).run() for connection, name in zip(connections, NODES, strict=False)
        ]
        all_clients = asyncio.gather(*clients, *nodes)
        both: set[asyncio.Future[Any]] = {all_clients, failed}
        await asyncio.wait(both, timeout=90, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            all_clients.cancel()
            failed.result()
        assert all_clients.done()
        all_clients.result()
        assert len(list(descriptors.iterdir())) <= before + 4 * EACH + 20
        for connection in connections:
            connection.close()
        assert SIZE == origin.body_bytes("/f")
    await asyncio.sleep(0.5)
    assert len(list(descriptors.iterdir())) <= before + 20
    progress = app.managers.progress
    clients_of = progress.tasks[wanted.task_id].peers
    assert {(1 << PIECES) - 1} == {client.have for client in clients_of.values()}
    assert (2 * EACH, 0) == (len(clients_of), progress.peer_bookings)
