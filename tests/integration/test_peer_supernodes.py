"""A peer with several supernodes: tasks move between them, files stay, and no piece is fetched twice."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_protocol.statement import Member, Membership
from pantala_protocol.sync import Delivery
from tests.support.eventually import eventually
from tests.support.peer_lab import peer, stays
from tests.support.scripted_files import File, content
from tests.support.scripted_supernode import PUBLISHED, ScriptedSupernode

HERE = (Delivery("uid-1", "a"),)
Supernodes = list[ScriptedSupernode]


@pytest.fixture
async def supernodes() -> AsyncIterator[Supernodes]:
    """Three supernodes. Only the first one is a member."""
    async with contextlib.AsyncExitStack() as stack:
        made = [ScriptedSupernode(f"s-{number}", bytes([number]) * 32) for number in range(3)]
        for supernode in made:
            await stack.enter_async_context(supernode.serving())
        await made[0].join(membership(1, made[0]))
        yield made


def membership(revision: int, *supernodes: ScriptedSupernode) -> Membership:
    return Membership(revision, tuple(Member(supernode.name, supernode.url) for supernode in supernodes))


async def join(revision: int, supernodes: Supernodes) -> None:
    for supernode in supernodes:
        await supernode.join(membership(revision, *supernodes))


async def until_it_has_all(supernode: ScriptedSupernode, file: File) -> None:
    """Wait until the node has reported all pieces and the publication of the file."""

    def has_all() -> bool:
        node = supernode.peers.get("node-1")
        return node is not None and node.held.get(file.task_id) == file.geometry.all

    await eventually(lambda: has_all() and supernode.delivered() == PUBLISHED)


async def until_greeted(*supernodes: ScriptedSupernode) -> None:
    await eventually(lambda: all("node-1" in each.peers and each.peers["node-1"].greeted for each in supernodes))


def sent(supernodes: Supernodes) -> list[int]:
    return sorted(number for supernode in supernodes for _, number in supernode.sent)


async def test_a_published_file_stays_while_its_task_moves(supernodes: Supernodes, tmp_path: Path) -> None:
    file = File("a", content(8))
    old, new, _ = supernodes
    async with peer(old.url, tmp_path):
        await old.publish(file)
        async with stays(tmp_path / "files/a"):
            for revision, (here, there) in enumerate([(old, new), (new, old)] * 3, start=2):
                both = membership(revision, old, new)
                await here.state(both, "node-1")  # too early: before the new owner has reported
                await asyncio.sleep(random.Random(revision).uniform(0.0, 0.1))
                await there.state(both, "node-1", (file, HERE))
                await until_it_has_all(there, file)
    assert file.geometry.pieces == len(sent(supernodes))


async def test_a_running_task_moves_and_continues(supernodes: Supernodes, tmp_path: Path) -> None:
    file = File("a", content(20))
    old, new, _ = supernodes
    async with peer(old.url, tmp_path):
        await old.deliver(file)
        await eventually(lambda: len(old.sent) >= 8)
        old.window = 0
        await asyncio.sleep(0.1)
        await join(2, [old, new])
        await new.deliver(file)
        await old.assign("node-1")
        await new.until_published()
        await eventually(lambda: not old.peers["node-1"].leaving)
    assert file.content == (tmp_path / "files/a").read_bytes()
    assert list(range(file.geometry.pieces)) == sent(supernodes)


async def test_another_supernode_continues_the_tasks_of_a_dead_one(supernodes: Supernodes, tmp_path: Path) -> None:
    """The task is stated to both. The first one dies before it has the whole file."""
    file = File("a", content(20), digest_known=False)
    whole = File("a", content(20))
    _, new, third = supernodes
    old = ScriptedSupernode("s-old")
    async with contextlib.AsyncExitStack() as life, peer(await life.enter_async_context(old.serving()), tmp_path):
        for number, supernode in enumerate((old, new, third)):
            await supernode.join(membership(1, old, new, third))
            await supernode.assign("node-1", *[(file, HERE)] * (number == 0))
        await eventually(lambda: len(old.sent) >= 4)
        await life.aclose()
        await new.publish(whole)
    assert file.content == (tmp_path / "files/a").read_bytes()


async def test_a_piece_of_several_supernodes_is_fetched_once(supernodes: Supernodes, tmp_path: Path) -> None:
    """It is reported to all of them."""
    file = File("a", content(24))
    async with peer(supernodes[0].url, tmp_path):
        await join(2, supernodes)
        for supernode in supernodes:
            await supernode.assign("node-1", (file, HERE))
        for supernode in supernodes:
            await supernode.until_published()
            held = supernode.peers["node-1"].held
            assert {file.task_id: file.geometry.all} == held
    assert list(range(file.geometry.pieces)) == sent(supernodes)


async def test_a_corrupt_piece_of_one_supernode_is_fetched_from_another(supernodes: Supernodes, tmp_path: Path) -> None:
    liar, honest, _ = supernodes
    good, bad = File("a", content(12)), File("a", content(12), corrupt=True)
    async with peer(liar.url, tmp_path):
        await join(2, supernodes)
        liar.pause_after_failure = 0.2
        await liar.assign("node-1", (bad, HERE))
        await eventually(lambda: liar.failures)
        await honest.assign("node-1", (good, HERE))
        await honest.until_published()
    assert good.content == (tmp_path / "files/a").read_bytes()
    assert {"corrupt"} == {failure.kind for failure in liar.failures}
    assert [] == honest.failures


async def test_a_file_stays_while_a_supernode_does_not_answer(supernodes: Supernodes, tmp_path: Path) -> None:
    """A new process of the peer knows only the members. The supernode that assigns the file is silent."""
    file = File("a", content(3))
    owner, other, silent = supernodes
    async with peer(owner.url, tmp_path):
        await owner.publish(file)
    await join(2, supernodes)
    silent.status = 503
    owner.status = 503
    async with stays(tmp_path / "files/a"), peer(other.url, tmp_path):
        await until_greeted(other)
        await asyncio.sleep(0.3)
        owner.status = 200
        await eventually(lambda: owner.delivered() == PUBLISHED)
        silent.status = 200
        await until_greeted(silent)
        await asyncio.sleep(0.3)
    assert file.geometry.pieces == len(sent(supernodes))


async def test_peers_accept_the_tickets_of_any_supernode(supernodes: Supernodes, tmp_path: Path) -> None:
    files = [File(str(number), content(8, number)) for number in range(3)]
    async with peer(supernodes[0].url, tmp_path / "1", "node-1"), peer(supernodes[2].url, tmp_path / "2", "node-2"):
        await supernodes[2].join(membership(1, supernodes[0]))
        await join(2, supernodes)
        for name in ("node-1", "node-2"):
            for supernode, file in zip(supernodes, files, strict=True):
                await supernode.deliver(file, file.name, peer=name, uid=file.name)
            for supernode, file in zip(supernodes, files, strict=True):
                await supernode.until_published(name, file.name)
    for number, (supernode, file) in enumerate(zip(supernodes, files, strict=True)):
        assert file.content == (tmp_path / "2/files" / str(number)).read_bytes()
        assert file.geometry.pieces == len(supernode.sent)
        assert [] == supernode.failures


async def test_a_peer_is_ready_while_any_supernode_answers(supernodes: Supernodes, tmp_path: Path) -> None:
    async with peer(supernodes[0].url, tmp_path) as node:
        await join(2, supernodes)
        await until_greeted(*supernodes)
        supernodes[0].status = supernodes[1].status = 503
        await asyncio.sleep(0.5)
        assert node.problems() == []
    assert supernodes[2].peers["node-1"].leaving
