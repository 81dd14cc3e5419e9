"""One real supernode, honest peers, and a hostile one: every honest peer soon has the right bytes.

The origin is read once, whatever the hostile peer reports and serves.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pantala_peer.app import PeerApp
from pantala_protocol import task_id, ticket
from pantala_protocol.geometry import piece_size
from pantala_protocol.statement import TaskReport, WantedTask
from pantala_protocol.sync import DeliveryState, DeliveryStatus, HeldPieces, PieceFailure
from testbed.origin import Behaviour, Generated, sha256
from tests.support.eventually import eventually
from tests.support.hostile_peer import HostilePeer, Request, Serve, head, silence
from tests.support.peer_lab import peer
from tests.support.supernode_lab import SupernodeLab

SIZE = 3 * 1024 * 1024 + 17
PIECES = -(-SIZE // piece_size(SIZE))
BODY = Generated(SIZE)
ALL = f"0-{PIECES - 1}"
HONEST = ("node-1", "node-2", "node-3")
SOON = 12.0
"""Seconds until all honest peers have the file. Silent peers and slow providers are given up later than this."""
PATIENCE: dict[str, Any] = {"head_timeout": 1.5, "stall_timeout": 1.0, "slow_timeout": 2.0}
"""The timeouts of the honest peers."""


async def wrong_bytes(request: Request, writer: asyncio.StreamWriter) -> None:
    _, first, end = request
    writer.write(head(first, end, SIZE) + bytes(end - first))
    await writer.drain()


async def bytes_of_another_piece(request: Request, writer: asyncio.StreamWriter) -> None:
    _, first, end = request
    other = BODY.read(end if end < SIZE else 0, end - first)
    writer.write(head(first, end, SIZE) + other.ljust(end - first, b"x"))
    await writer.drain()


async def garbage(_request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(random.Random(1).randbytes(1 << 16))
    await writer.drain()


async def not_here(_request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


async def half(request: Request, writer: asyncio.StreamWriter) -> None:
    _, first, end = request
    writer.write(head(first, end, SIZE) + BODY.read(first, (end - first) // 2))
    await writer.drain()
    writer.transport.abort()


async def half_and_silence(request: Request, writer: asyncio.StreamWriter) -> None:
    _, first, end = request
    writer.write(head(first, end, SIZE) + BODY.read(first, (end - first) // 2))
    await asyncio.sleep(60)


async def drops(request: Request, writer: asyncio.StreamWriter) -> None:
    """Send one more byte before each stall timeout."""
    _, first, end = request
    writer.write(head(first, end, SIZE))
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
    writer.write(head(first, end, SIZE) + BODY.read(first, end - first) + bytes(1 << 20))
    await writer.drain()


class Lab(SupernodeLab):
    """The supernode, the origin and the honest peers."""

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
    async with Lab(tmp_path) as lab:
        lab.origin.serve("/file", BODY, always=Behaviour(rate=8 * 1024 * 1024))
        yield lab


BAD_BYTES = [wrong_bytes, bytes_of_another_piece, garbage, more_than_asked]
BAD_ANSWERS = [not_here, silence, half, half_and_silence, drops, endless_head]


@pytest.mark.parametrize("serve", [*BAD_BYTES, *BAD_ANSWERS])
async def test_a_peer_that_claims_all_pieces_and_serves_badly_does_no_harm(lab: Lab, serve: Serve) -> None:
    async with HostilePeer(lab.url, serve).living() as hostile, lab.honest(*HONEST):
        await lab.want("hostile", *HONEST)
        await hostile.claim_all(PIECES)
        going_on = asyncio.create_task(hostile.go_on())
        await lab.until_all_have_it(*HONEST)
        going_on.cancel()
        assert hostile.asked


async def test_a_peer_that_claims_all_pieces_and_dies_does_no_harm(lab: Lab) -> None:
    """It closes its port without a farewell."""
    async with lab.honest(*HONEST):
        async with HostilePeer(lab.url, silence).living() as hostile:
            await lab.want("hostile", *HONEST)
            await hostile.claim_all(PIECES)
        await lab.until_all_have_it(*HONEST)


async def test_a_peer_that_takes_work_and_reports_nothing_does_no_harm(lab: Lab) -> None:
    """It has some pieces for a while. Other peers do not wait for them."""
    async with HostilePeer(lab.url, not_here).living() as hostile:
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
    async with HostilePeer(lab.url, not_here).living() as hostile, lab.honest(*HONEST):
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
    async with HostilePeer(lab.url, not_here).living() as hostile, lab.honest("node-1", "node-2"):
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
