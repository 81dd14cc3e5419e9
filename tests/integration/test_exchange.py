"""The exchange of a real supernode, with peers that send each request by hand. See also test_sync_port."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from pantala_pieces.digests import PieceHash
from pantala_process import flight
from pantala_protocol import ranges, task_id, ticket
from pantala_protocol.statement import Member, Membership, Statement, WantedTask
from pantala_protocol.sync import HeldPieces, PieceFailure, PieceWork, SyncAnswer
from pantala_supernode.sync.timing import SyncTiming
from testbed.origin import Behaviour, Generated
from tests.support.eventually import eventually
from tests.support.manual_peer import ManualPeer
from tests.support.supernode_lab import SupernodeLab

SIZE = 1024 * 1024
PIECES = 8


class Lab(SupernodeLab):
    def wanted(self, *peers: str, uid: str = "u1", path: str = "a/file") -> WantedTask:
        url = self.origin.url("/file")
        return WantedTask(uid, "ns/t", task_id.compute(url), url, path=path, peers=peers, attempt="1/")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with Lab(tmp_path, grace=0.2) as lab:
        lab.origin.serve("/file", Generated(SIZE))
        yield lab


def pieces(work: list[PieceWork]) -> set[int]:
    return {one.piece for one in work}


def held(work: PieceWork, mask: int) -> dict[str, HeldPieces]:
    return {work.task_id: HeldPieces(work.generation, ranges.render(mask))}


async def test_before_a_statement_the_first_exchange_is_answered_at_once_without_assignments(lab: Lab) -> None:
    answer = await asyncio.wait_for(ManualPeer(lab, "n1").say(), 2)
    assert (None, 0) == (answer.assignments, answer.revision)
    assert 32 == len(bytes.fromhex(answer.key))


async def test_a_peer_without_a_zone_has_that_of_the_statement(lab: Lab) -> None:
    """Kubelets before Kubernetes 1.35 do not give a pod its zone. A zone that a peer reports counts more."""
    await lab.state(lab.wanted("n1", "n2", "n3"), zones={"n1": "east", "n2": "east"})
    for name, zone in (("n1", ""), ("n2", "west"), ("n3", "")):
        await ManualPeer(lab, name).say(zone=zone)
    changes = await lab.until(lambda changes: len(changes.peers) == 3)
    assert {"n1": "east", "n2": "west", "n3": ""} == {peer.name: peer.zone for peer in changes.peers}


async def test_the_work_of_a_lost_peer_is_given_to_another(lab: Lab) -> None:
    await lab.state(lab.wanted("n1", "n2"))
    await lab.cached()
    gone = ManualPeer(lab, "n1")
    given = pieces(await gone.work())
    other, have = ManualPeer(lab, "n2"), 0
    work, deadline = await other.work(), time.monotonic() + 10
    while have != (1 << PIECES) - 1:
        assert time.monotonic() < deadline
        have |= sum(1 << one.piece for one in work)
        if have != (1 << PIECES) - 1:
            work = list((await other.say(done=held(work[0], have) if work else {})).work)
    assert given <= set(range(PIECES))


async def test_connected_peers_that_fetch_nothing_hold_up_no_other(lab: Lab) -> None:
    """Two peers have all places of the supernode. The next one gets pieces by one exchange, which is held."""
    await lab.state(lab.wanted("n1", "n2", "n3"))
    await lab.cached()
    silent = [ManualPeer(lab, "n1"), ManualPeer(lab, "n2")]
    assert PIECES == sum([len(await peer.work()) for peer in silent])
    other = ManualPeer(lab, "n3")
    first = await other.say()
    connected = [asyncio.create_task(peer.say()) for peer in silent]
    try:
        assert () == first.work
        assert (await other.say()).work
    finally:
        for task in connected:
            task.cancel()
        await asyncio.gather(*connected, return_exceptions=True)


async def test_m5_the_supernode_reports_by_how_much_the_clock_of_a_peer_is_wrong(lab: Lab) -> None:
    """A peer of the former minor version reports no time."""
    await lab.state(lab.wanted("late", "silent"))
    await ManualPeer(lab, "late").say(clock=int(time.time()) - 3600)
    await ManualPeer(lab, "silent").say()
    ahead = {each.name: each.clock_ahead for each in (await lab.changes()).peers}
    assert ahead["silent"] is None
    assert -3602 <= (ahead["late"] or 0) <= -3598


async def test_a_small_file_comes_with_the_first_answer(lab: Lab) -> None:
    """A peer that does not know the field ``content`` fetches the same piece from the piece server."""
    lab.origin.serve("/file", Generated(1024))
    await lab.state(lab.wanted("n1"))
    await lab.cached()
    answer = await ManualPeer(lab, "n1").say()
    (work,), (assignment,) = answer.work, answer.assignments or ()
    assert (Generated(1024).read(0, 1024), 1024) == (work.content, assignment.length)
    url = f"http://{work.host}:{work.port}/pieces/{work.task_id}/{work.generation}"
    async with lab.session.get(url, headers={ticket.HEADER: work.ticket, "Range": "bytes=0-1023"}) as fetched:
        assert (206, work.content) == (fetched.status, await fetched.read())


async def test_a_peer_of_this_version_gets_no_sha256(lab: Lab) -> None:
    await lab.state(lab.wanted("n1"))
    await lab.cached()
    assert {""} == {work.sha256 for work in (await ManualPeer(lab, "n1").say()).work}


@pytest.mark.parametrize(("size", "count"), [(1024, 1), (3 * SIZE, 4)])
async def test_f14_a_former_peer_gets_sha256_in_its_first_answer(lab: Lab, size: int, count: int) -> None:
    content = Generated(size)
    lab.origin.serve("/file", content)
    await lab.state(lab.wanted("n1"))
    await lab.cached()
    answer = await ManualPeer(lab, "n1").say(blake3=False)
    assert count == len(answer.work)
    for work in answer.work:
        data = content.read(work.offset, work.size)
        assert (hashlib.sha256(data).hexdigest(), PieceHash(data).hexdigest()) == (work.sha256, work.digest)
        assert work.content == (data if size == len(data) else None)


async def test_f14_the_held_exchange_of_a_former_peer_is_answered_as_soon_as_a_peer_has_a_piece(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for later in ("expire", "free_places"):
        monkeypatch.setattr(lab.app.dispatcher, later, lambda: None)
    await lab.state(lab.wanted("n1", "n2", "n3"))
    await lab.cached()
    one, other, former = (ManualPeer(lab, name) for name in ("n1", "n2", "n3"))
    taken = await one.work(), await other.work()
    assert PIECES == sum(map(len, taken))
    await former.say(blake3=False)
    waiting = asyncio.create_task(former.say(blake3=False))
    await eventually(lambda: len(lab.app.dispatcher.waiting) == 1)
    await one.say(done=held(taken[0][0], 1 << taken[0][0].piece))
    work = (await waiting).work
    contents = [Generated(SIZE).read(each.offset, each.size) for each in work]
    assert "n1" == work[0].provider
    assert [hashlib.sha256(data).hexdigest() for data in contents] == [each.sha256 for each in work]


async def test_an_unstated_task_is_removed_from_peers_and_the_volume(lab: Lab, tmp_path: Path) -> None:
    await lab.state(lab.wanted("n1"), lab.wanted("n1", uid="u2", path="b"))
    await lab.cached()
    peer = ManualPeer(lab, "n1")
    await peer.say()
    await lab.state(lab.wanted("n1", uid="u2", path="b"))
    answer = await asyncio.wait_for(_with_assignments(peer), 5)
    assert ["b"] == [delivery.path for task in answer.assignments or () for delivery in task.deliveries]
    await lab.state()
    answer = await asyncio.wait_for(_with_assignments(peer), 5)
    assert () == answer.assignments
    await lab.until(lambda _changes: not list(tmp_path.rglob("data")))
    assert SIZE == lab.origin.body_bytes("/file")


async def test_a_task_that_is_stated_again_as_its_copy_is_deleted_keeps_the_copy(lab: Lab) -> None:
    """The deletion begins in a later turn of the event loop. The Task then had no copy, and nothing fetched it."""
    await lab.state(lab.wanted("n1"))
    await lab.cached()
    supernode = lab.app.supernode
    supernode.state(Statement(2))
    supernode.apply(lab.app.managers.tasks.expire(now=time.monotonic() + 10))
    supernode.state(Statement(3, (lab.wanted("n1"),)))
    await asyncio.sleep(0.3)
    await lab.cached()
    assert SIZE == lab.origin.body_bytes("/file")


async def test_a_task_that_is_stated_and_removed_during_a_deletion_leaves_no_copy(lab: Lab, tmp_path: Path) -> None:
    await lab.state(lab.wanted("n1"))
    await lab.cached()
    supernode, tasks = lab.app.supernode, lab.app.managers.tasks
    supernode.state(Statement(2))
    supernode.apply(tasks.expire(now=time.monotonic() + 10))
    await asyncio.sleep(0)
    supernode.state(Statement(3, (lab.wanted("n1"),)))
    supernode.state(Statement(4))
    supernode.apply(tasks.expire(now=time.monotonic() + 10))
    await asyncio.sleep(0.3)
    assert [] == list(supernode._cdn.copies)
    assert [] == list(tmp_path.rglob("data"))


async def test_f21_a_wrong_piece_on_the_volume_is_fetched_again(lab: Lab, tmp_path: Path) -> None:
    """The supernode checks the piece that a peer reports as corrupt, and fetches it again."""
    await lab.state(lab.wanted("n1"))
    await lab.cached()
    peer = ManualPeer(lab, "n1")
    work = (await peer.work())[0]
    (data,) = tmp_path.rglob("data")
    with data.open("r+b") as file:
        file.seek(work.offset)
        file.write(bytes(16))
    await peer.say(failures=(PieceFailure(work.task_id, work.piece, "", "corrupt"),))
    await lab.until(lambda _changes: lab.origin.body_bytes("/file") > SIZE)
    await lab.cached()
    content = data.read_bytes()
    assert Generated(SIZE).read(0, SIZE) == content
    assert SIZE + work.size == lab.origin.body_bytes("/file")


async def test_a_suspended_task_gives_no_work(lab: Lab) -> None:
    await lab.state(lab.wanted("n1"))
    await lab.cached()
    peer = ManualPeer(lab, "n1")
    await lab.state(msgspec.structs.replace(lab.wanted("n1"), suspended=True))
    answer = await peer.say()
    assert ((), True) == (answer.work, bool(answer.assignments))
    await lab.state(lab.wanted("n1"))
    assert await peer.work()


async def _with_assignments(peer: ManualPeer) -> SyncAnswer:
    while True:
        answer = await peer.say()
        if answer.assignments is not None:
            return answer


async def test_discarded_content_does_not_keep_a_peer_from_other_work(lab: Lab) -> None:
    """A copy without content gives no work, and the exchange still succeeds."""
    peer = ManualPeer(lab, "n1")
    lab.origin.serve("/bad", Generated(SIZE, seed=9), always=Behaviour(rate=4 * SIZE))
    bad = msgspec.structs.replace(lab.wanted("n1", uid="u2", path="bad"), url=lab.origin.url("/bad"))
    bad = msgspec.structs.replace(bad, task_id=task_id.compute(bad.url), digest=f"sha256:{'0' * 64}")
    await peer.say()
    await lab.state(bad)
    assert bad.task_id == (await peer.work())[0].task_id
    await lab.until(lambda changes: any(report.failure for report in changes.tasks))
    await lab.state(bad, lab.wanted("n1"))
    assert lab.wanted().task_id == (await peer.work())[0].task_id


async def test_a_peer_that_asks_ahead_gets_more_pieces(lab: Lab) -> None:
    await lab.state(lab.wanted("n1", "n2"))
    await lab.cached()
    one, other = ManualPeer(lab, "n1"), ManualPeer(lab, "n2")
    assert 4 == len((await one.say()).work)
    assert 6 == len((await other.say(window=6)).work)


async def test_the_supernode_asks_for_longer_intervals_the_more_peers_download(lab: Lab) -> None:
    names = [f"n{number}" for number in range(6)]
    await lab.state(lab.wanted(*names))
    await lab.cached()
    peers = [ManualPeer(lab, name) for name in names]
    fetching = sum([bool((await peer.say()).work) for peer in peers])
    assert fetching > 1

    async def is_right() -> bool:
        return round(fetching * SyncTiming().share, 3) == (await peers[-1].say(inventory={})).pace

    await eventually(is_right, every=0.2, what="the supernode has counted, which it does once a second")


async def test_a_stopping_supernode_answers_held_requests(lab: Lab) -> None:
    """A peer asks again as soon as it is answered. So the supernode stops accepting requests first."""
    peer = ManualPeer(lab, "n1")
    await peer.say()
    changes = await lab.until(lambda changes: bool(changes.peers))
    waiting = asyncio.create_task(peer.say())
    query = f"boot={changes.boot}&since={changes.version}&wait=20"
    listening = asyncio.create_task(lab.session.get(f"{lab.url}/api/v1/changes?{query}"))
    await eventually(lambda: len(lab.app.dispatcher.waiting) == 1)
    began = time.monotonic()
    await lab.stop()
    assert time.monotonic() - began < 3
    assert () == (await waiting).work
    assert 200 == (await listening).status


async def test_a_task_that_is_assigned_again_is_given_with_all_its_pieces(lab: Lab) -> None:
    """A drained node drops the file. When the file is wanted there again, earlier reports do not count."""
    await lab.state(lab.wanted("n1", "n2"))
    await lab.cached()
    peer = ManualPeer(lab, "n1")
    work = await peer.work()
    reporting = asyncio.create_task(peer.say(done=held(work[0], (1 << PIECES) - 1)))
    await lab.until(lambda changes: changes.tasks[0].supernode_bytes > 0)
    await lab.state(lab.wanted("n2"))
    assert () == (await asyncio.wait_for(reporting, 5)).assignments
    await lab.state(lab.wanted("n1", "n2"))
    assert 4 == len(await asyncio.wait_for(peer.work(), 5))


async def test_another_membership_reaches_a_peer_whose_exchange_is_held(lab: Lab) -> None:
    first = Membership(1, (Member("s-0", lab.url), Member("s-1", "http://s-1:8002")))
    second = Membership(2, first.members[:1])
    speaker = ManualPeer(lab, "n1")
    await lab.state(membership=first, member="s-0")
    assert first == (await speaker.say()).membership
    held = asyncio.create_task(speaker.say())
    await eventually(lambda: len(lab.app.dispatcher.waiting) == 1)
    await lab.state(membership=second, member="s-0")
    answer = await asyncio.wait_for(held, 2)
    assert ((), second) == (answer.assignments, answer.membership)


async def test_the_tasks_of_a_large_statement_let_exchanges_take_turns(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 tasks held up all peers for half a second, and the assignments of 1,000 peers for minutes."""
    monkeypatch.setattr(flight, "_TURN", 0.0)
    await eventually(lambda: lab.app.supernode.recovered)
    names = [f"/{number}" for number in range(20)]
    for name in names:
        lab.origin.serve(name, Generated(1000))
    urls = [lab.origin.url(name) for name in names]
    tasks = tuple(WantedTask(url, f"ns/{url}", task_id.compute(url), url) for url in urls)
    copies = lab.app.supernode._cdn.copies
    lab.app.supernode.state(Statement(1, tasks))
    assert 1 == len(list(copies))
    lab.app.supernode.state(Statement(2, tasks[:10]))
    await eventually(lambda: len(list(lab.app.store)) == 10 == len(list(lab.app.managers.tasks)))
    assert 10 == sum(copy.whole for copy in copies)
    assert all(lab.origin.body_bytes(name) == 1000 for name in names[:10])
