"""One real supernode, honest peers, and a hostile one: every honest peer soon has the right bytes.

The origin is read once, whatever the hostile peer reports and serves.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec
import pytest

from pantala_peer.app import PeerApp
from pantala_protocol import task_id, ticket
from pantala_protocol.geometry import piece_size
from pantala_protocol.statement import TaskReport, WantedTask
from pantala_protocol.sync import (
    Assignment,
    DeliveryState,
    DeliveryStatus,
    HeldPieces,
    PieceFailure,
    PieceWork,
    SyncAnswer,
)
from testbed.origin import Behaviour, Generated, Origin, sha256
from tests.support.eventually import eventually
from tests.support.peer_lab import peer
from tests.support.supernode_lab import SupernodeLab

SIZE = 3 * 1024 * 1024 + 17
PIECES = -(-SIZE // piece_size(SIZE))
BODY = Generated(SIZE)
ALL = f"0-{PIECES - 1}"
HONEST = ("node-1", "node-2", "node-3")
SOON = 12.0
"""Seconds until all honest peers have the file. Silent peers and slow providers are given up later than this."""
PATIENCE = {"head_timeout": 1.5, "stall_timeout": 1.0, "slow_timeout": 2.0}
"""The timeouts of the honest peers."""

Request = tuple[bytes, int, int]
Serve = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Hostile:
    """A peer on the raw protocol that sends any report, and serves with ``serve``."""

    url: str
    serve: Serve
    name: str = "hostile"
    seq: int = 0
    supernode: str = ""
    revision: int = 0
    port: int = 0
    asked: list[Request] = field(default_factory=list)
    assignments: tuple[Assignment, ...] = ()
    work: list[PieceWork] = field(default_factory=list)
    _connections: list[asyncio.Task[None]] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def living(self) -> AsyncIterator["Hostile"]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as self._http:
                yield self
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def say(self, **said: object) -> tuple[int, SyncAnswer | None]:
        """Send one exchange with any content."""
        self.seq += 1
        said = {"peer": self.name, "boot": "b", "seq": self.seq, "port": self.port, "inventory": {}} | said
        said |= {"supernode": self.supernode, "revision": self.revision}
        if self.seq > 1 and said["inventory"] == {}:
            del said["inventory"]
        async with self._http.post(f"{self.url}/api/v1/sync", data=msgspec.json.encode(said)) as reply:
            body = await reply.read()
        if reply.status != 200:
            return reply.status, None
        answer = msgspec.json.decode(body, type=SyncAnswer)
        self.supernode, self.revision = answer.supernode, answer.revision
        self.assignments = answer.assignments or self.assignments
        self.work += answer.work
        return 200, answer

    async def claim_all(self) -> None:
        """Report all pieces of each assigned task."""
        while not any(assignment.generation for assignment in self.assignments):
            await self.say()
        await self.say(done={a.task_id: HeldPieces(a.generation, ALL) for a in self.assignments})

    async def go_on(self) -> None:
        """Stay connected and take no work."""
        while True:
            await self.say()
            await asyncio.sleep(0.05)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.append(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"Range: bytes=(\d+)-(\d+)", head)
                assert found is not None
                request = (head, int(found[1]), int(found[2]) + 1)
                self.asked.append(request)
                await self.serve(request, writer)
        writer.transport.abort()


def head(first: int, end: int, size: int = SIZE) -> bytes:
    lines = ["HTTP/1.1 206 Partial Content", f"Content-Length: {end - first}"]
    return "\r\n".join([*lines, f"Content-Range: bytes {first}-{end - 1}/{size}", "\r\n"]).encode()


async def wrong_bytes(request: Request, writer: asyncio.StreamWriter) -> None:
    _, first, end = request
    writer.write(head(first, end) + bytes(end - first))
    await writer.drain()


async def not_here(_request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


async def silence(_request: Request, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def half(request: Request, writer: asyncio.StreamWriter) -> None:
    _, first, end = request
    writer.write(head(first, end) + BODY.read(first, (end - first) // 2))
    await writer.drain()
    writer.transport.abort()


async def half_and_silence(request: Request, writer: asyncio.StreamWriter) -> None:
    _, first, end = request
    writer.write(head(first, end) + BODY.read(first, (end - first) // 2))
    await asyncio.sleep(60)


async def drops(request: Request, writer: asyncio.StreamWriter) -> None:
    """Send one more byte before each stall timeout."""
    _, first, end = request
    writer.write(head(first, end))
    for byte in BODY.read(first, end - first):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.2)


async def endless_head(_request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 206 Partial Content\r\n")
    while True:
        writer.write(b"X-More: and more\r\n")
        await writer.drain()
        await asyncio.sleep(0.001)


async def more_than_asked(request: Request, writer: asyncio.StreamWriter) -> None:
    _, first, end = request
    writer.write(head(first, end) + BODY.read(first, end - first) + bytes(1 << 20))
    await writer.drain()


class Lab(SupernodeLab):
    """The supernode, the origin and the honest peers."""

    def __init__(self, folder: Path, origin: Origin) -> None:
        super().__init__(folder)
        self.origin = origin

    async def want(self, *names: str) -> None:
        url = self.origin.url("/file")
        await self.state(WantedTask("u", "ns/t", task_id.compute(url), url, path="file", peers=names, attempt="1/"))

    async def report(self) -> TaskReport:
        return (await self.changes()).tasks[0]

    @contextlib.asynccontextmanager
    async def honest(self, *names: str) -> AsyncIterator[list[PeerApp]]:
        async with contextlib.AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(peer(self.url, self.folder / name, name, **PATIENCE)) for name in names
            ]

    async def until_all_have_it(self, *names: str) -> None:
        """Wait until the honest peers have published the file, and check its bytes and the origin's."""

        async def have_it() -> bool:
            return set(names) <= set((await self.report()).ready_peers)

        await eventually(have_it, within=SOON)
        for name in names:
            assert BODY.read(0, SIZE) == (self.folder / name / "files/file").read_bytes()
        assert SIZE == self.origin.body_bytes("/file")
        assert sha256(BODY) == (await self.report()).digest.removeprefix("sha256:")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with Origin() as origin, Lab(tmp_path, origin) as lab:
        origin.serve("/file", BODY, always=Behaviour(rate=8 * 1024 * 1024))
        yield lab


BAD = [wrong_bytes, not_here, silence, half, half_and_silence, drops, endless_head, more_than_asked]


@pytest.mark.parametrize("serve", BAD)
async def test_a_peer_that_claims_all_pieces_and_serves_badly_does_no_harm(lab: Lab, serve: Serve) -> None:
    async with Hostile(lab.url, serve).living() as hostile, lab.honest(*HONEST):
        await lab.want("hostile", *HONEST)
        await hostile.claim_all()
        going_on = asyncio.create_task(hostile.go_on())
        await lab.until_all_have_it(*HONEST)
        going_on.cancel()
        assert hostile.asked


async def test_a_peer_that_claims_all_pieces_and_dies_does_no_harm(lab: Lab) -> None:
    """It closes its port without a farewell."""
    async with lab.honest(*HONEST):
        async with Hostile(lab.url, silence).living() as hostile:
            await lab.want("hostile", *HONEST)
            await hostile.claim_all()
        await lab.until_all_have_it(*HONEST)


async def test_a_peer_that_takes_work_and_reports_nothing_does_no_harm(lab: Lab) -> None:
    """It has some pieces for a while. Other peers do not wait for them."""
    async with Hostile(lab.url, not_here).living() as hostile:
        await lab.want("hostile", *HONEST)
        while len(hostile.work) < 4:
            await hostile.say()
        going_on = asyncio.create_task(hostile.go_on())
        async with lab.honest(*HONEST):
            await lab.until_all_have_it(*HONEST)
        going_on.cancel()


FLOODS: dict[str, Callable[[str, str], dict[str, object]]] = {
    "huge ranges": lambda task, generation: {"done": {task: HeldPieces(generation, "0-4194303")}},
    "many ranges": lambda task, generation: {"done": {task: HeldPieces(generation, ",".join(["0-4194303"] * 200))}},
    "ranges beyond all": lambda task, generation: {"done": {task: HeldPieces(generation, "0-99999999999999999999")}},
    "negative ranges": lambda task, generation: {"done": {task: HeldPieces(generation, "-5--1")}},
    "other generations": lambda task, _: {"done": {task: HeldPieces("f" * 16, ALL)}},
    "unknown tasks": lambda _, generation: {"done": {f"{n:064x}": HeldPieces(generation, ALL) for n in range(1000)}},
    "nonsense": lambda _, generation: {"done": {"../../etc": HeldPieces(generation, ALL)}, "zone": "z" * 10000},
    "negative pieces": lambda task, _: {"failures": (PieceFailure(task, -1, "node-1", "corrupt"),) * 1000},
    "pieces beyond all": lambda task, _: {"failures": (PieceFailure(task, 10**18, "node-1", "missing"),) * 1000},
    "accusations": lambda task, _: {
        "failures": tuple(
            PieceFailure(task, piece, name, kind)
            for piece in range(PIECES)
            for name in ("", *HONEST)
            for kind in ("corrupt", "missing", "stalled", "no such kind")
        )
    },
    "deliveries": lambda _, __: {
        "deliveries": {str(n): DeliveryState(DeliveryStatus.FAILED, "NoSuchReason", "x" * 1000) for n in range(500)}
    },
    "impossible loads": lambda *_: {"uploads": 10**18, "downloads": 10**18, "upload_slots": -(10**18)},
    "inventories": lambda task, generation: {
        "inventory": {task: HeldPieces(generation, ALL), "x": HeldPieces("", "0")}
    },
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_peer_that_floods_the_supernode_with_false_reports_does_no_harm(lab: Lab, flood: str) -> None:
    async with Hostile(lab.url, not_here).living() as hostile, lab.honest(*HONEST):
        await lab.want("hostile", *HONEST)
        while not any(assignment.generation for assignment in hostile.assignments):
            await hostile.say()
        reports = FLOODS[flood](hostile.assignments[0].task_id, hostile.assignments[0].generation)

        async def flood_it() -> None:
            while True:
                status, _ = await hostile.say(**reports)
                assert status < 500

        flooding = asyncio.create_task(flood_it())
        await lab.until_all_have_it(*HONEST)
        assert not flooding.done()
        flooding.cancel()


async def test_a_ticket_is_valid_for_one_generation_of_one_task_at_one_server(lab: Lab) -> None:
    """A peer cannot use its ticket for any other piece."""
    async with Hostile(lab.url, not_here).living() as hostile, lab.honest("node-1", "node-2"):
        await lab.want("node-1", "node-2")
        await lab.until_all_have_it("node-1", "node-2")
        await lab.want("hostile", "node-1", "node-2")
        while not hostile.work:
            await hostile.say()
        work = hostile.work[0]
        servers = {(one.address, one.port) for one in (await lab.changes()).peers if one.name != "hostile"}

        async def get(host: str, port: int, name: str, generation: str, shown: str) -> int:
            headers = {ticket.HEADER: shown, "Range": "bytes=0-9"}
            async with lab.session.get(f"http://{host}:{port}/pieces/{name}/{generation}", headers=headers) as reply:
                return reply.status

        assert 206 == await get(work.host, work.port, work.task_id, work.generation, work.ticket)
        for host, port in servers - {(work.host, work.port)}:
            assert 403 == await get(host, port, work.task_id, work.generation, work.ticket)
        assert 403 == await get(work.host, work.port, "e" * 64, work.generation, work.ticket)
        assert 403 == await get(work.host, work.port, work.task_id, "e" * 16, work.ticket)
        later = str(int(work.ticket.partition(".")[0]) + 1000) + work.ticket[work.ticket.index(".") :]
        assert 403 == await get(work.host, work.port, work.task_id, work.generation, later)
