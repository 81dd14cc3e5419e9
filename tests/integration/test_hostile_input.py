"""Hostile requests to a real supernode process: huge numbers, parts of requests, and answers that remain unread."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from pantala_protocol import registry, task_id
from pantala_protocol.registry import ManifestAnswer
from pantala_protocol.statement import WantedTask
from pantala_protocol.sync import PieceWork, SyncAnswer, SyncRequest, WantedBlob
from pantala_supernode.registry.manifest import OCI_INDEX
from testbed.origin import Generated, Origin
from tests.support.eventually import eventually
from tests.support.fake_registry import FakeRegistry, sha256
from tests.support.supernode_lab import SupernodeProcess

SIZES = (900_000, 1_100_000, 1_300_000)


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as made:
        for size in SIZES:
            made.serve(f"/{size}", Generated(size, seed=size))
        yield made


@pytest.fixture
async def supernode(tmp_path: Path) -> AsyncIterator[SupernodeProcess]:
    async with SupernodeProcess(tmp_path) as made:
        await made.start()
        yield made


def tasks(origin: Origin) -> list[WantedTask]:
    urls = {size: origin.url(f"/{size}") for size in SIZES}
    return [
        WantedTask(f"uid-{size}", f"ns/{size}", task_id.compute(url), url, path=f"ns/{size}", peers=("n1",))
        for size, url in urls.items()
    ]


async def cached(supernode: SupernodeProcess, origin: Origin) -> None:
    await supernode.state(*tasks(origin))
    await supernode.cached()


async def exchange(supernode: SupernodeProcess, request: SyncRequest) -> SyncAnswer:
    url = f"{supernode.url}/api/v1/sync"
    async with supernode.session.post(url, data=msgspec.json.encode(request)) as answer:
        assert 200 == answer.status, await answer.text()
        return msgspec.json.decode(await answer.read(), type=SyncAnswer)


async def ask(supernode: SupernodeProcess, work: PieceWork, range_: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", work.port)
    head = (
        f"GET /pieces/{work.task_id}/{work.generation} HTTP/1.1\r\nHost: h\r\n"
        f"X-Pantala-Ticket: {work.ticket}\r\nRange: bytes={range_}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode())
    async with asyncio.timeout(10):
        status = int((await reader.readline()).split()[1])
    writer.close()
    return status


def peak(supernode: SupernodeProcess) -> int:
    """The most memory that the process has used, in MiB."""
    text = Path(f"/proc/{supernode.running.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) // 1024


async def test_h2_hostile_numbers_take_no_memory(supernode: SupernodeProcess, origin: Origin) -> None:
    await cached(supernode, origin)
    request = SyncRequest("n1", "boot", 1, port=1, inventory={}, window=50, blake3=True)
    work = (await exchange(supernode, request)).work[0]
    before = peak(supernode)
    assert 206 == await ask(supernode, work, "0-99")
    for first, last in ((0, 1 << 33), (1 << 33, (1 << 33) + 5), (0, 10**18 - 1), (10**17, 10**18 - 1), (5, 1 << 52)):
        assert 404 == await ask(supernode, work, f"{first}-{last}")
    wanted = {
        task.task_id: WantedBlob("r.example", "a", "sha256:" + "0" * 64, position=(1 << 53) - 1, stalls=1)
        for task in tasks(origin)
    }
    for seq, stalls in ((2, 1), (3, 2)):
        wants = {name: msgspec.structs.replace(each, stalls=stalls) for name, each in wanted.items()}
        await exchange(
            supernode, SyncRequest("n1", "boot", seq, port=1, inventory={}, wants=wants, window=50, blake3=True)
        )
    bodies = (
        b'{"peer":"n1","boot":"boot","seq":9,"failures":[{"task_id":"%b","piece":9007199254740991,"provider":"","kind":"x"}]}',
        b'{"peer":"n1","boot":"boot","seq":9,"window":9007199254740991}',
        b'{"peer":"n1","boot":"boot","seq":9,"done":{"%b":{"generation":"g","pieces":"0-9999999"}}}',
    )
    for body in bodies:
        data = body.replace(b"%b", work.task_id.encode())
        async with supernode.session.post(f"{supernode.url}/api/v1/sync", data=data) as answer:
            assert 400 == answer.status
    assert peak(supernode) - before < 50


async def post(supernode: SupernodeProcess, framing: str, body: bytes, writers: list[asyncio.StreamWriter]) -> int:
    """Send the head and the body of an exchange, which may be unfinished. Returns the status; 0: no answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(supernode.url.rpartition(":")[2]))
    writers.append(writer)
    writer.write(f"POST /api/v1/sync HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n".encode() + body)
    with contextlib.suppress(ConnectionError):  # the supernode refused the body before its end
        await writer.drain()
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(2 if len(body) < 15 << 20 else 20):
            return int((await reader.readline()).split()[1])
    return 0


@pytest.mark.parametrize("framing", ["Content-Length: 15728640", "Transfer-Encoding: chunked"])
async def test_h2_unfinished_bodies_of_one_client_take_limited_memory(
    supernode: SupernodeProcess, framing: str
) -> None:
    await supernode.state()
    before, open_ones = peak(supernode), list[asyncio.StreamWriter]()
    begun = (b"e00000\r\n" if "chunked" in framing else b"") + b" " * (14 << 20)
    whole = msgspec.json.encode(SyncRequest("n1", "boot", 1, port=1)).ljust(15728640)
    try:
        for _ in range(10):
            await post(supernode, framing, begun, open_ones)
        assert peak(supernode) - before < 100
        await exchange(supernode, SyncRequest("n1", "boot", 1, port=1))
        for writer in open_ones:
            writer.transport.abort()

        async def is_served() -> bool:
            return 200 == await post(supernode, "Content-Length: 15728640", whole, open_ones)

        await eventually(is_served)
        assert 413 == await post(supernode, "Content-Length: 16777217", bytes(16777217), open_ones)
    finally:
        for writer in open_ones:
            writer.transport.abort()


async def test_h2_unread_manifests_of_one_client_take_limited_memory(tmp_path: Path) -> None:
    async with FakeRegistry() as fake, SupernodeProcess(tmp_path, "--registries", fake.url) as supernode:
        body = msgspec.json.encode(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "annotations": {"a": "x" * 4_000_000}}
        )
        fake.manifests[sha256(body)] = (OCI_INDEX, body)
        await supernode.start()
        await supernode.state()
        host = fake.url.removeprefix("http://")
        path = f"{registry.PATH}?registry={host}&repository=a&reference={sha256(body)}"
        async with supernode.session.get(f"{supernode.url}{path}") as answer:
            assert 200 == answer.status
            assert body == msgspec.json.decode(await answer.read(), type=ManifestAnswer).body
        before, sockets = peak(supernode), []
        for _ in range(40):
            sockets.append(socket.create_connection(("127.0.0.1", supernode.port)))
            sockets[-1].sendall(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        try:
            await exchange(supernode, SyncRequest("n1", "boot", 1, port=1))
            await asyncio.to_thread(lambda: [each.recv(1, socket.MSG_PEEK) for each in sockets])
            assert peak(supernode) - before < 100
        finally:
            for each in sockets:
                each.close()
