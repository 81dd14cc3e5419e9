"""A peer publishes files, and tasks move between replicas that are added or removed."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pantala_protocol import task_id
from pantala_protocol.statement import CDNStatus, Member, Membership, TaskReport, WantedTask
from pantala_protocol.sync import Delivery
from testbed.origin import Generated, Origin
from tests.support.eventually import eventually
from tests.support.peer_lab import PeerLab, peer, stays
from tests.support.peer_lab import it as it
from tests.support.scripted_files import PIECE, File, content
from tests.support.supernode_lab import SupernodeLab

MIB = 1024 * 1024
NODES = ("node-1", "node-2")
FILES = {f"/{number}": Generated(MIB // 2 + number, number) for number in range(9)}
PATHS = list(FILES)


@dataclass
class Cluster:
    """Three supernodes, the peers' root, and the part of the operator."""

    root: Path
    supernodes: list[SupernodeLab]
    origin: Origin
    stack: contextlib.AsyncExitStack
    membership: Membership = field(default_factory=lambda: Membership(0, ()))

    async def start(self, number: int) -> None:
        await self.stack.enter_async_context(self.supernodes[number])

    def wanted(self, path: str) -> WantedTask:
        url = self.origin.url(path)
        return WantedTask(path, f"ns{path}", task_id.compute(url), url, path=path[1:], peers=NODES, attempt="1/")

    def owned(self, number: int, paths: list[str]) -> list[str]:
        """Those of ``paths`` that a supernode owns."""
        name = f"s-{number}"
        owners = {path: self.membership.owner(self.wanted(path).task_id) for path in paths}
        return [path for path, owner in owners.items() if owner is not None and owner.name == name]

    def scale(self, staying: range, listed: range) -> None:
        members = tuple(Member(f"s-{n}", self.supernodes[n].url, leaving=n not in staying) for n in listed)
        self.membership = Membership(self.membership.revision + 1, members)

    async def state(self, number: int, paths: list[str]) -> None:
        tasks = [self.wanted(path) for path in paths]
        await self.supernodes[number].state(*tasks, membership=self.membership, member=f"s-{number}")

    async def reports(self, number: int) -> dict[str, TaskReport]:
        return {report.uid: report for report in (await self.supernodes[number].changes()).tasks}

    async def until_caught_up(self, number: int, paths: list[str]) -> None:
        """Wait until the supernode has each file whole, and every node has reported its publication."""

        async def caught_up() -> bool:
            known = await self.reports(number)
            return all(
                path in known
                and known[path].cdn_status is CDNStatus.SUCCESS
                and set(NODES) == set(known[path].ready_peers)
                for path in paths
            )

        await eventually(caught_up, within=30)

    async def move(self, before: dict[int, list[str]], paths: list[str]) -> dict[int, list[str]]:
        """State each task to its owner first, and then remove it from its former owner."""
        after = {number: self.owned(number, paths) for number in range(3)}
        listed = [number for number in range(3) if self.membership.member(f"s-{number}")]
        for number in listed:
            await self.state(number, sorted({*after[number], *before.get(number, [])}))
        for number in listed:
            await self.until_caught_up(number, after[number])
        for number in listed:
            await self.state(number, after[number])
        return after


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    supernodes = [SupernodeLab(tmp_path / f"s-{number}", grace=0.2) for number in range(3)]
    async with Origin() as origin, contextlib.AsyncExitStack() as stack:
        for path, body in FILES.items():
            origin.serve(path, body)
        made = Cluster(tmp_path, supernodes, origin, stack)
        await made.start(0)
        made.scale(range(1), range(1))
        for name in NODES:
            await stack.enter_async_context(peer(supernodes[0].url, tmp_path / name, name))
        yield made


async def test_every_file_stays_from_one_supernode_to_three_and_back(cluster: Cluster) -> None:
    here = await cluster.move({}, PATHS)
    published = [cluster.root / name / "files" / path[1:] for name in NODES for path in PATHS]
    async with stays(*published):
        await cluster.start(1)
        await cluster.start(2)
        cluster.scale(range(3), range(3))
        here = await cluster.move(here, PATHS)
        assert here[1] or here[2]
        moved = [report for number in (1, 2) for report in (await cluster.reports(number)).values()]
        assert [0] * len(moved) == [report.supernode_bytes + report.peer_bytes for report in moved]
        cluster.scale(range(1), range(3))
        here = await cluster.move(here, PATHS)
        cluster.scale(range(1), range(1))
        here = await cluster.move(here, PATHS)
        assert PATHS == sorted(here[0])
        await asyncio.sleep(0.5)
    for name in NODES:
        for path in PATHS:
            assert FILES[path].read(0, 3 * MIB) == (cluster.root / name / "files" / path[1:]).read_bytes()


async def test_unwanted_files_of_all_replicas_are_removed(cluster: Cluster) -> None:
    for number in (1, 2):
        await cluster.start(number)
    cluster.scale(range(3), range(3))
    await cluster.move({}, PATHS)
    await cluster.move({}, [])
    await eventually(lambda: not any(path for name in NODES for path in (cluster.root / name / "files").iterdir()))


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 10 * PIECE + 17])
async def test_an_assigned_file_appears_at_its_path(it: PeerLab, size: int) -> None:
    file = File("a", random.Random(1).randbytes(size))
    async with it.peer():
        await it.supernode.publish(file, "models/a.bin")
    published = it.published("models/a.bin")
    assert file.content == published.read_bytes()
    assert published.stat().st_mode & 0o777 == 0o440
    assert it.supernode.has_sent_once(file)


async def test_a_file_that_is_not_assigned_any_more_is_removed(it: PeerLab) -> None:
    async with it.peer() as node:
        await it.supernode.publish(File("a", content(3)), "models/a.bin")
        await it.supernode.assign("node-1")
        await eventually(lambda: it.supernode.delivered() is None)
        await eventually(lambda: not node.cache.tasks())
    assert [] == [path for path in it.folder.rglob("*") if path.is_file()]
    assert [] == list(it.published().parent.iterdir())


async def test_peers_download_pieces_from_each_other(it: PeerLab) -> None:
    file = File("a", content(16))
    async with it.peer(), it.peer("node-2"):
        await it.supernode.publish(file)
        it.supernode.sent.clear()
        await it.supernode.publish(file, "b", peer="node-2")
        assert [] == it.supernode.sent
    assert file.content == it.published("b", peer="node-2").read_bytes()


async def test_two_deliveries_of_one_task_share_the_disk(it: PeerLab) -> None:
    file = File("a", content(2))
    one, two = it.published("x/one"), it.published("x/two")
    async with it.peer():
        await it.supernode.assign("node-1", (file, (Delivery("u1", "x/one"), Delivery("u2", "x/two"))))
        await it.supernode.until_published(uid="u1")
        await it.supernode.until_published(uid="u2")
        assert one.stat().st_ino == two.stat().st_ino
        await it.supernode.assign("node-1", (file, (Delivery("u2", "x/two"),)))
        await eventually(lambda: it.supernode.delivered(uid="u1") is None)
        assert [two] == list(two.parent.iterdir())
        assert two.samefile(next(it.root().rglob("cache/**/data")))
