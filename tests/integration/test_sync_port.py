"""The promises of a supernode to its peers: the real one keeps them, and so does the scripted one."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_protocol import ranges, task_id
from pantala_protocol.statement import WantedTask
from pantala_protocol.sync import HeldPieces, PieceWork
from testbed.origin import Bytes
from tests.support.manual_peer import ManualPeer
from tests.support.scripted_files import File
from tests.support.scripted_supernode import ScriptedSupernode
from tests.support.supernode_lab import StatedSupernode, SupernodeLab

PIECE = 128 * 1024
BODY = random.Random(1).randbytes(8 * PIECE)


class RealSubject(SupernodeLab):
    """A real supernode. It reads its file from an origin."""

    async def assign(self, *peers: str) -> None:
        """Deliver the file to these peers."""
        url = self.origin.url("/file")
        await self.state(WantedTask("u", "ns/t", task_id.compute(url), url, path="a/file", peers=peers))
        await self.cached()

    async def restart(self) -> None:
        await self.stop()
        await self.start()


class ScriptedSubject(StatedSupernode):
    """A scripted supernode with the same file."""

    def __init__(self, supernode: ScriptedSupernode) -> None:
        super().__init__(supernode.url, Path())
        self.supernode = supernode

    async def assign(self, *peers: str) -> None:
        for peer in peers:
            await self.supernode.deliver(File("file", BODY, PIECE), "a/file", peer=peer)

    async def restart(self) -> None:
        await self.supernode.restart()


Subject = RealSubject | ScriptedSubject


@pytest.fixture(params=["scripted", "real"])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    if request.param == "real":
        async with RealSubject(tmp_path) as real:
            real.origin.serve("/file", Bytes(BODY))
            yield real
    else:
        supernode = ScriptedSupernode()
        async with supernode.serving(), ScriptedSubject(supernode) as scripted:
            yield scripted


def pieces(work: list[PieceWork]) -> set[int]:
    return {one.piece for one in work}


async def test_an_unknown_peer_must_send_its_inventory(subject: Subject) -> None:
    answer = await asyncio.wait_for(ManualPeer(subject, "n1").say(inventory=None), 2)
    assert (True, None, ()) == (answer.inventory_wanted, answer.assignments, answer.work)
    assert 32 == len(bytes.fromhex(answer.key))


async def test_an_exchange_with_an_inventory_is_answered_at_once(subject: Subject) -> None:
    """A peer sends no second exchange beside an inventory. News from the node must not wait for a hold."""
    peer = ManualPeer(subject, "n1")
    for _ in range(2):
        answer = await asyncio.wait_for(peer.say(inventory={}), 2)
        assert not answer.inventory_wanted
        assert peer.seq == answer.seq


async def test_a_held_exchange_is_answered_with_the_assignments_once(subject: Subject) -> None:
    peer = ManualPeer(subject, "n1")
    await peer.say()
    waiting = asyncio.create_task(peer.say())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await subject.assign("n1")
    answer = await asyncio.wait_for(waiting, 5)
    assert answer.assignments is not None
    assert ["a/file"] == [delivery.path for task in answer.assignments for delivery in task.deliveries]
    assert answer.work or await peer.work()
    waiting = asyncio.create_task(peer.say())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    waiting.cancel()


async def test_a_newer_exchange_releases_the_held_one_without_orders(subject: Subject) -> None:
    peer = ManualPeer(subject, "n1")
    await peer.say()
    first = asyncio.create_task(peer.say())
    await asyncio.sleep(0.1)
    second = asyncio.create_task(peer.say())
    answer = await asyncio.wait_for(first, 2)
    assert ((), None) == (answer.work, answer.assignments)
    assert not second.done()
    second.cancel()


async def test_a_lost_answer_is_repeated_and_its_work_is_given_once(subject: Subject) -> None:
    await subject.assign("n1")
    peer = ManualPeer(subject, "n1")
    request = peer.request()
    first = await peer.send(request)
    assert 4 == len(first.work)
    assert pieces(list(first.work)) == pieces(list((await peer.send(request)).work))
    nothing = asyncio.create_task(peer.say())  # the window is full
    await asyncio.sleep(0.3)
    assert not nothing.done()
    nothing.cancel()


async def test_work_names_the_piece_and_its_provider(subject: Subject) -> None:
    await subject.assign("n1")
    peer = ManualPeer(subject, "n1")
    mask, expected = 0, {number: BODY[number * PIECE : (number + 1) * PIECE] for number in range(8)}
    found: dict[int, bytes] = {}
    work = await peer.work()
    while work:
        for one in work:
            url = f"http://{one.host}:{one.port}/pieces/{one.task_id}/{one.generation}"
            headers = {"Range": f"bytes={one.offset}-{one.offset + one.size - 1}", "X-Pantala-Ticket": one.ticket}
            async with subject.session.get(url, headers=headers) as answer:
                assert 206 == answer.status
                found[one.piece] = await answer.read()
            mask |= 1 << one.piece
        done = {work[0].task_id: HeldPieces(work[0].generation, ranges.render(mask))}
        work = list((await peer.say(done=done)).work) if len(found) < 8 else []
    assert expected == found


async def test_a_restarted_supernode_asks_for_the_inventory_and_gives_only_what_is_missing(subject: Subject) -> None:
    await subject.assign("n1")
    peer = ManualPeer(subject, "n1")
    work = await peer.work()
    mine = sum(1 << one.piece for one in work)
    held = {work[0].task_id: HeldPieces(work[0].generation, ranges.render(mine))}
    await peer.say(done=held)
    await subject.restart()
    answer = await peer.say()
    assert (True, None) == (answer.inventory_wanted, answer.assignments)
    await subject.assign("n1")
    answer = await peer.say(inventory=held)
    fresh = list(answer.work) or await peer.work()
    assert set() == pieces(fresh) & pieces(work)
    assert {work[0].generation} == {one.generation for one in fresh}
