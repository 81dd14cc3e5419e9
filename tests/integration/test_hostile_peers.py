"""One real supernode, honest peers, and a hostile one: every honest peer soon has the right bytes.

The origin is read once, whatever the hostile peer reports and serves.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pantala_protocol import ticket
from pantala_protocol.sync import DeliveryState, DeliveryStatus, HeldPieces, PieceFailure
from testbed.origin import Behaviour
from tests.support.hostile_lab import ALL, BAD_ANSWERS, BAD_BYTES, BODY, PIECES, HostileLab, not_here
from tests.support.hostile_peer import HostilePeer, Serve, silence

HONEST = ("node-1", "node-2", "node-3")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[HostileLab]:
    async with HostileLab(tmp_path) as lab:
        lab.origin.serve("/file", BODY, always=Behaviour(rate=8 * 1024 * 1024))
        yield lab


@pytest.mark.parametrize("serve", [*BAD_BYTES, *BAD_ANSWERS])
async def test_a_peer_that_claims_all_pieces_and_serves_badly_does_no_harm(lab: HostileLab, serve: Serve) -> None:
    async with HostilePeer(lab.url, serve).living() as hostile, lab.honest(*HONEST):
        await lab.want("hostile", *HONEST)
        await hostile.claim_all(PIECES)
        going_on = asyncio.create_task(hostile.go_on())
        await lab.until_all_have_it(*HONEST)
        going_on.cancel()
        assert hostile.asked


async def test_a_peer_that_claims_all_pieces_and_dies_does_no_harm(lab: HostileLab) -> None:
    """It closes its port without a farewell."""
    async with lab.honest(*HONEST):
        async with HostilePeer(lab.url, silence).living() as hostile:
            await lab.want("hostile", *HONEST)
            await hostile.claim_all(PIECES)
        await lab.until_all_have_it(*HONEST)


async def test_a_peer_that_takes_work_and_reports_nothing_does_no_harm(lab: HostileLab) -> None:
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
async def test_a_peer_that_floods_the_supernode_with_false_reports_does_no_harm(lab: HostileLab, flood: str) -> None:
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


async def test_a_ticket_is_valid_for_one_generation_of_one_task_at_one_server(lab: HostileLab) -> None:
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
