"""A thousand clients and peers ask for one file at once. All of them get all pieces, and the origin is read once.

They report their pieces without downloading them, so that a thousand of them fit into one process.
"""

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.connection import BenchConnection, get, post
from pantala_protocol import ranges, task_id
from pantala_protocol.statement import Statement, WantedTask
from pantala_protocol.sync import HeldPieces, SyncAnswer, SyncRequest
from pantala_supernode.app import App, serving
from testbed.origin import Behaviour, Generated, Origin
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


class Dfget:
    """A client of Dragonfly that reports each piece without downloading it."""

    def __init__(self, connection: BenchConnection, url: str, number: int) -> None:
        self._connection = connection
        self._url = url
        self._cid = f"127.0.0.1-{number}-1600000000.000"
        self._number = number

    async def run(self) -> None:
        body = {"rawUrl": self._url, "cid": self._cid, "ip": "127.0.0.1", "path": f"/peer/file/{self._number}"}
        registration = post("/peer/registry", msgspec.json.encode(body | {"port": 15000 + self._number}))
        while (said := await self._ask(registration))["code"] == 609:  # noqa: ASYNC110
            await asyncio.sleep(0.5)  # as these clients do
        assert 200 == said["code"], said
        path = f"/peer/task?srcCid={self._cid}&taskId={said['data']['taskId']}&status="
        reported = "700&result=502&range=&dstCid="
        while (said := await self._ask(get(path + reported)))["code"] != 600:
            assert said["code"] in (601, 602), said
            for entry in said.get("data", ())[:1]:
                reported = f"701&result=501&range={entry['range']}&dstCid={entry['cid']}"

    async def _ask(self, request: bytes) -> dict[str, Any]:
        said: dict[str, Any] = msgspec.json.decode(await ask(self._connection, request))
        return said


class Node:
    """A peer that reports each piece without downloading it."""

    def __init__(self, connection: BenchConnection, name: str) -> None:
        self._connection = connection
        self._said = SyncRequest(name, f"{name}-boot", 0, port=65002, inventory={})

    async def run(self) -> None:
        have, done = 0, dict[str, HeldPieces]()
        while have.bit_count() < PIECES:
            answer = await self._sync(done)
            for work in answer.work:
                have |= 1 << work.piece
            done = {work.task_id: HeldPieces(work.generation, ranges.render(have)) for work in answer.work}
        await self._sync(done, leaving=True)

    async def _sync(self, done: dict[str, HeldPieces], **more: Any) -> SyncAnswer:
        self._said = msgspec.structs.replace(self._said, seq=self._said.seq + 1, done=done, **more)
        request = post("/api/v1/sync", msgspec.json.encode(self._said))
        answer = msgspec.json.decode(await ask(self._connection, request), type=SyncAnswer)
        self._said = msgspec.structs.replace(
            self._said, supernode=answer.supernode, revision=answer.revision, inventory=None
        )
        return answer


async def ask(connection: BenchConnection, request: bytes) -> bytes:
    """The body of the answer. Other statuses than 200 reach the loop's exception handler."""
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    connection.ask(request, answered.set_result)
    return await answered


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
        clients = [Dfget(connection, url, number).run() for number, connection in enumerate(connections[EACH:])]
        nodes = [Node(connection, name).run() for connection, name in zip(connections, NODES, strict=False)]
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
