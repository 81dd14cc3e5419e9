"""Several replicas over real sockets: they share tasks, read each origin once, and copy from each other."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from pantala_protocol import task_id
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import CDNStatus, Member, Membership, TaskReport, WantedTask
from pantala_supernode.replicas.decision import CopyReport, Stage
from testbed.origin import Behaviour, Generated, Origin, sha256
from tests.support.dragonfly_client import Dfget
from tests.support.eventually import eventually
from tests.support.supernode_lab import SupernodeLab

MIB = 1024 * 1024
BODY = Generated(6 * MIB + 17)
REVISIONS = itertools.count(1)


class Node(SupernodeLab):
    """A replica, and the requests of other replicas to it."""

    def __init__(self, folder: Path, name: str, **changes: Any) -> None:
        super().__init__(folder / name, **changes)
        self.name = name

    async def want(self, membership: Membership | None, *tasks: WantedTask) -> None:
        await self.state(*tasks, membership=membership, member=self.name)

    async def ask(self, method: str, path: str, body: object = None, **more: Any) -> tuple[int, Any]:
        data = None if body is None else msgspec.json.encode(body)
        async with self.session.request(method, f"{self.url}/api/v1/copies/{path}", data=data, **more) as answer:
            return answer.status, await answer.read()

    def report(self, uid: str = "u") -> TaskReport:
        report = self.app.feed.task(uid)
        assert report is not None
        return report

    async def until_report(self, wanted: Callable[[TaskReport], bool], uid: str = "u") -> TaskReport:
        return await eventually(lambda: found if wanted(found := self.report(uid)) else None, within=30)

    async def whole(self, uid: str = "u") -> TaskReport:
        return await self.until_report(lambda report: report.cdn_status is CDNStatus.SUCCESS, uid)

    async def cached_to(self, share: float) -> TaskReport:
        """Wait until it has more than this share of the file."""
        return await self.until_report(lambda report: report.pieces_cached * report.piece_size > share * BODY.size)

    def content(self, task: str) -> bytes:
        file = self.app.store.get(task)
        assert file is not None
        return file.path.read_bytes()


class Ring:
    """Some replicas, an origin, and a task that ``owner`` owns and ``holder`` reads first."""

    def __init__(self, nodes: list[Node], origin: Origin) -> None:
        self.nodes = nodes
        self.origin = origin
        self.holder, self.owner, _ = nodes
        self.wanted, self.shared = self.owned_by(self.owner)
        """The task, and the membership of all replicas."""

    async def hold(self, **behaviour: Any) -> Node:
        """Let the holder want the task before the others are members."""
        self.origin.serve("/file", BODY, always=Behaviour(**behaviour))
        await self.holder.want(None, self.wanted)
        return self.holder

    async def move(self) -> Node:
        """Let the holder and the owner want the task, as members."""
        for node in (self.holder, self.owner):
            await node.want(self.shared, self.wanted)
        return self.owner

    def check_content(self, *nodes: Node) -> None:
        for node in nodes:
            assert BODY.read(0, BODY.size) == node.content(self.wanted.task_id)

    def membership(self, *, leaving: tuple[Node, ...] = ()) -> Membership:
        members = tuple(Member(node.name, node.url, leaving=node in leaving) for node in self.nodes)
        return Membership(next(REVISIONS), members)

    def owned_by(self, owner: Node) -> tuple[WantedTask, Membership]:
        """A task that ``owner`` owns, and the membership of all replicas."""
        membership = self.membership()
        for number in itertools.count():
            task = task_id.compute(self.origin.url(f"/{owner.name}/{number}"))
            found = membership.owner(task)
            if found is not None and found.name == owner.name:
                return WantedTask("u", "ns/u", task, self.origin.url("/file")), membership
        raise AssertionError


@pytest.fixture
async def ring(tmp_path: Path) -> AsyncIterator[Ring]:
    changes = {"grace": 0.2, "dragonfly": True, "cache_seconds": 60, "fresh_seconds": 0}
    nodes = [Node(tmp_path, f"s-{number}", **changes) for number in range(3)]
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(Origin())
        origin.serve("/file", BODY)
        for node in nodes:
            await stack.enter_async_context(node)
        yield Ring(nodes, origin)


async def test_a_running_task_moves_without_reading_the_origin_again(ring: Ring) -> None:
    holder = await ring.hold(rate=4 * MIB)
    await holder.cached_to(0.5)
    owner = await ring.move()
    await owner.cached_to(0)
    assert holder.report().cdn_status is CDNStatus.RUNNING
    reports = [await node.whole() for node in (holder, owner)]
    assert BODY.size == ring.origin.body_bytes("/file")
    assert reports[0] == reports[1]
    assert (f"sha256:{sha256(BODY)}", BODY.size) == (reports[1].digest, reports[1].origin_bytes)
    ring.check_content(holder, owner)
    task = ring.wanted.task_id
    assert holder.app.copies.report(task) == owner.app.copies.report(task)


async def test_a_whole_task_is_copied_when_it_moves(ring: Ring) -> None:
    holder = await ring.hold()
    await holder.whole()
    owner = await ring.move()
    assert holder.report() == await owner.whole()
    await holder.want(ring.shared)
    assert BODY.size == ring.origin.body_bytes("/file")


async def test_if_the_holder_dies_the_owner_continues_at_the_origin(ring: Ring) -> None:
    holder = await ring.hold(rate=2 * MIB)
    await holder.cached_to(1 / 3)
    owner = await ring.move()
    copied = await owner.cached_to(0.5)
    await holder.stop()
    report = await owner.whole()
    ring.check_content(owner)
    _, again = ring.origin.requests("/file")
    resumed_at = int(again.range.removeprefix("bytes=").rstrip("-"))
    assert resumed_at >= copied.pieces_cached * copied.piece_size
    assert BODY.size - resumed_at == again.sent
    assert report.origin_bytes <= ring.origin.body_bytes("/file")


async def test_a_new_task_of_all_replicas_is_read_once(ring: Ring) -> None:
    for node in ring.nodes:
        await node.want(ring.shared, ring.wanted)
    reports = [await node.whole() for node in ring.nodes]
    assert BODY.size == ring.origin.body_bytes("/file")
    assert 1 == len({(report.digest, report.origin_bytes) for report in reports})


async def test_replicas_that_all_take_themselves_for_the_owner_read_the_origin_once(ring: Ring) -> None:
    for node in ring.nodes:
        rest = tuple(other for other in ring.nodes if other is not node)
        await node.want(ring.membership(leaving=rest), ring.wanted)
    for node in ring.nodes:
        await node.whole()
    assert BODY.size == ring.origin.body_bytes("/file")


async def test_another_replica_reads_the_origin_if_the_owner_is_dead(ring: Ring) -> None:
    await ring.owner.stop()
    await ring.holder.want(ring.shared, ring.wanted)
    await ring.holder.whole()
    assert BODY.size == ring.origin.body_bytes("/file")


async def test_the_failure_of_the_owner_is_reported_by_the_replica_that_wants_the_task(ring: Ring) -> None:
    ring.origin.serve("/file", BODY, always=Behaviour(status=404))
    await ring.owner.want(ring.shared)
    await ring.holder.want(ring.shared, ring.wanted)
    report = await ring.holder.until_report(lambda report: report.failure is not None)
    assert report.failure is not None
    assert (Reason.SOURCE_NOT_FOUND, True) == (report.failure.reason, report.failure.final)
    assert 1 == len(ring.origin.requests("/file"))


async def test_a_wrong_piece_on_the_holders_disk_is_never_copied(ring: Ring) -> None:
    holder = await ring.hold()
    report = await holder.whole()
    file = holder.app.store.get(ring.wanted.task_id)
    assert file is not None
    with file.path.open("r+b") as data:
        data.seek(2 * report.piece_size)
        data.write(b"wrong")
    owner = await ring.move()
    for node in (owner, holder):
        await node.whole()
    ring.check_content(owner, holder)
    assert report.digest == owner.report().digest


async def test_a_running_task_of_unknown_length_moves(ring: Ring) -> None:
    holder = await ring.hold(rate=4 * MIB, framing="chunked")
    await holder.cached_to(0)
    owner = await ring.move()
    assert (await owner.whole()).digest == (await holder.whole()).digest == f"sha256:{sha256(BODY)}"
    assert BODY.size == ring.origin.body_bytes("/file")


async def test_the_pieces_of_a_suspended_task_are_copied_and_not_read_again(ring: Ring) -> None:
    holder = await ring.hold(rate=4 * MIB)
    await holder.cached_to(0.5)
    await holder.want(ring.shared, msgspec.structs.replace(ring.wanted, suspended=True))
    held = await holder.until_report(lambda report: report.cdn_status is not CDNStatus.RUNNING)
    await ring.owner.want(ring.shared, ring.wanted)
    report = await ring.owner.whole()
    ring.check_content(ring.owner)
    starts = [access.range for access in ring.origin.requests("/file")]
    assert ["", f"bytes={held.pieces_cached * held.piece_size}-"] == starts
    assert report.origin_bytes >= BODY.size


async def test_two_of_dragonflys_clients_at_two_replicas_cost_one_read(ring: Ring) -> None:
    for node in ring.nodes:
        await node.want(ring.membership())
    url = ring.origin.url("/file")
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(Dfget(node.url.removeprefix("http://"), url)) for node in ring.nodes[:2]
        ]
        begun = time.monotonic()
        await asyncio.gather(*(client.register(tries=1) for client in clients))
        assert time.monotonic() - begun < 5
        assert [BODY.read(0, BODY.size)] * 2 == await asyncio.gather(*(client.run() for client in clients))
    assert BODY.size == ring.origin.body_bytes("/file")


async def test_earlier_copies_are_revalidated_once_or_read_again_once(ring: Ring) -> None:
    for node in ring.nodes:
        await node.want(ring.membership())
    url, nodes = ring.origin.url("/file"), ring.nodes[:2]

    async def download() -> list[bytes]:
        async with AsyncExitStack() as stack:
            hosts = [node.url.removeprefix("http://") for node in nodes]
            clients = [await stack.enter_async_context(Dfget(host, url, pattern="cdn")) for host in hosts]
            files = await asyncio.gather(*(client.run() for client in clients))
        for node in ring.nodes:  # the clients and their leases are gone, the copies stay
            for client in clients:
                if node.app.managers.tasks.get(client.task_id) is not None:
                    node.app.dragonfly.peers.delete_task(client.task_id, full=False)
        return files

    assert [BODY.read(0, BODY.size)] * 2 == await download()
    assert [BODY.read(0, BODY.size)] * 2 == await download()
    assert [BODY.size, 0] == [access.sent for access in ring.origin.requests("/file")]
    other = Generated(BODY.size, seed=9)
    ring.origin.serve("/file", other)
    assert [other.read(0, other.size)] * 2 == await download()
    assert [BODY.size, 0, other.size] == [access.sent for access in ring.origin.requests("/file")]


async def test_a_replica_names_the_owner_of_a_task_that_it_does_not_own(ring: Ring) -> None:
    await ring.holder.want(ring.shared)
    status, body = await ring.holder.ask("PUT", ring.wanted.task_id, {"url": ring.wanted.url})
    answer = msgspec.json.decode(body)
    assert (421, {"name": ring.owner.name, "url": ring.owner.url}) == (status, answer["owner"])
    assert "Misdirected" == answer["error"]["reason"]


async def test_copies_are_reported_and_served_whole_or_in_parts(ring: Ring) -> None:
    node, wanted = ring.holder, ring.wanted
    assert 404 == (await node.ask("GET", wanted.task_id))[0]
    assert 400 == (await node.ask("PUT", "nothing", {"url": wanted.url}))[0]
    assert 200 == (await node.ask("PUT", wanted.task_id, {"url": wanted.url, "headers": {"X-Key": "secret"}}))[0]

    async def whole() -> CopyReport | None:
        found = msgspec.json.decode((await node.ask("GET", wanted.task_id))[1], type=CopyReport)
        return found if found.whole else None

    report = await eventually(whole)
    assert (Stage.IDLE, BODY.size, f"sha256:{sha256(BODY)}") == (report.stage, report.length, report.digest)
    assert "secret" == ring.origin.requests("/file")[0].headers["x-key"]
    path = f"{wanted.task_id}/content"
    query = {"generation": report.generation}
    assert (200, BODY.read(0, BODY.size)) == await node.ask("GET", path, params=query)
    assert (200, BODY.read(999, BODY.size)) == await node.ask("GET", path, params={**query, "start": 999})
    assert (200, BODY.read(5, MIB)) == await node.ask("GET", path, params={**query, "start": 5, "end": MIB + 5})
    assert 409 == (await node.ask("GET", path, params={**query, "start": 5, "end": BODY.size + 1}))[0]
    assert 409 == (await node.ask("GET", path, params={**query, "start": BODY.size + 1}))[0]
    assert 404 == (await node.ask("GET", path, params={"generation": "other"}))[0]
    assert 400 == (await node.ask("GET", path))[0]


async def test_a_reader_is_cut_off_when_the_copy_is_removed(ring: Ring) -> None:
    node, wanted = await ring.hold(rate=MIB), ring.wanted
    report = await node.cached_to(0)
    assert report.length == BODY.size
    query = {"generation": node.app.copies.report(wanted.task_id).generation}
    reading = asyncio.create_task(node.ask("GET", f"{wanted.task_id}/content", params=query))
    await eventually(lambda: 1 == node.app.copies.readers)
    await node.want(None)
    with pytest.raises(aiohttp.ClientPayloadError):
        await asyncio.wait_for(reading, 5)
    assert 0 == node.app.copies.readers


async def test_many_tasks_of_all_replicas_do_not_block_each_other(ring: Ring) -> None:
    """There are more tasks than slots. A replica that waits for another one does not hold a slot."""
    membership, wanted = ring.membership(), []
    for number in range(60):
        body = Generated(300_000 + number, seed=number)
        url = ring.origin.url(f"/many/{number}")
        ring.origin.serve(f"/many/{number}", body, always=Behaviour(delay=0.1))
        wanted.append(WantedTask(f"u{number}", f"ns/u{number}", task_id.compute(url), url))
    for node in ring.nodes:
        await node.want(membership, *wanted)
    for node in ring.nodes:
        for number in range(60):
            await node.whole(f"u{number}")
    for number in range(60):
        assert 300_000 + number == ring.origin.body_bytes(f"/many/{number}")
