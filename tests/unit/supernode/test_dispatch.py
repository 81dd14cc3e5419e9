"""Giving work: who is woken by what, and who is not."""

import asyncio

import pytest

from pantala_protocol.statement import WantedTask
from pantala_protocol.sync import PieceFailure, Wanted, Work
from pantala_protocol.task_id import compute
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.task_progress import SUPERNODE
from pantala_supernode.sync.session import PeerSession
from pantala_supernode.tasks.task import Task
from tests.unit.supernode.conftest import ID, URL, Bench, Wish

PIECES = 4
ALL = (1 << PIECES) - 1


@pytest.fixture
def task(bench: Bench, wanted: Wish) -> Task:
    bench.state(wanted("u", "a", "b", "c"))
    task = bench.cached(PIECES)
    for name in ("a", "b", "c"):
        bench.assignments.assign(bench.peer(name))
    return task


def session(bench: Bench, name: str) -> PeerSession:
    return bench.dispatcher.sessions[name]


def waits(bench: Bench, name: str) -> asyncio.Future[tuple[Work, ...]]:
    return bench.dispatcher.waiting.enter(session(bench, name))


def takes_everything(bench: Bench, name: str) -> None:
    """All that the supernode can give is given to one, so that others find nothing."""
    for piece in range(PIECES):
        bench.managers.progress.give(ID, name, piece, SUPERNODE)
    for _ in range(SchedulingPolicy().supernode_uploads - PIECES):
        bench.managers.progress.service[SUPERNODE].booked += 1


def pieces(work: tuple[Work, ...]) -> list[tuple[int, str]]:
    return [(one.piece, one.provider) for one in work]


async def test_a_new_piece_goes_to_one_who_waits_for_it(bench: Bench, task: Task) -> None:
    takes_everything(bench, "a")
    held = waits(bench, "b")
    bench.dispatcher.succeeded(session(bench, "a"), task, 0b0010)
    work = held.result()
    assert (1, "a") in pieces(work)
    assert work[0].ticket


async def test_a_piece_that_is_reported_again_wakes_nobody(bench: Bench, task: Task) -> None:
    takes_everything(bench, "a")
    bench.dispatcher.succeeded(session(bench, "a"), task, 0b0010)
    held = waits(bench, "b")
    bench.dispatcher.succeeded(session(bench, "a"), task, 0b0010)
    assert not held.done()


async def test_a_piece_that_cannot_be_served_wakes_nobody(bench: Bench, task: Task) -> None:
    takes_everything(bench, "a")
    bench.managers.progress.service[SUPERNODE].booked += 1
    held = waits(bench, "b")
    bench.dispatcher.succeeded(session(bench, "a"), task, 0b0010, serves=False)
    assert not held.done()


async def test_room_at_a_provider_goes_to_one_who_waits_for_what_it_has(bench: Bench, task: Task) -> None:
    takes_everything(bench, "a")
    progress = bench.managers.progress
    progress.init_progress(ID, "b", ALL)
    progress.init_progress(ID, "c", 0b0111)
    progress.init_progress(ID, "a", 0)
    progress.service[SUPERNODE].booked = SchedulingPolicy().supernode_uploads
    for piece in range(SchedulingPolicy().peer_uploads):
        progress.give(ID, "a", piece, "b")
    held = waits(bench, "c")
    bench.dispatcher.serve_waiting(ID)
    assert not held.done()
    bench.dispatcher.succeeded(session(bench, "a"), task, 0b0001, serves=False)
    assert [(3, "b")] == pieces(held.result())


async def test_a_piece_that_failed_goes_to_another_who_waits(bench: Bench, task: Task) -> None:
    takes_everything(bench, "a")
    held = waits(bench, "b")
    bench.dispatcher.failed(session(bench, "a"), PieceFailure(ID, 2, SUPERNODE, "stalled"))
    assert (2, SUPERNODE) in pieces(held.result())


async def test_who_cannot_be_answered_any_more_is_given_nothing(bench: Bench, task: Task) -> None:
    held = waits(bench, "b")
    held.cancel()
    bench.dispatcher.serve_waiting(ID)
    assert {} == bench.managers.progress.tasks[ID].peers["b"].given


async def test_wrong_bytes_count_against_their_provider_and_a_disk_of_ones_own_against_nobody(
    bench: Bench, task: Task
) -> None:
    progress = bench.managers.progress
    progress.init_progress(ID, "c", ALL)
    for name, kind in (("a", "corrupt"), ("b", "corrupt")):
        progress.give(ID, name, 0, "c")
        bench.dispatcher.failed(session(bench, name), PieceFailure(ID, 0, "c", kind))
    assert 2 == progress.service["c"].failed
    bench.clock.now += SchedulingPolicy().blacklist_seconds
    bench.dispatcher.expire()
    assert {SUPERNODE} == {work.provider for work in bench.dispatcher.work(session(bench, "a"))}


async def test_a_piece_of_ours_that_is_said_to_be_wrong_is_looked_at(bench: Bench, task: Task) -> None:
    bench.managers.progress.give(ID, "a", 0, SUPERNODE)
    bench.dispatcher.failed(session(bench, "a"), PieceFailure(ID, 0, SUPERNODE, "corrupt"))
    assert [(ID, 0)] == bench.accused


async def test_a_peers_own_numbers_bound_what_it_is_given(bench: Bench, task: Task) -> None:
    bench.managers.peers.update("a", downloads=1)
    assert 1 == len(bench.dispatcher.work(session(bench, "a")))
    assert () == bench.dispatcher.work(session(bench, "a"))


async def test_a_byte_that_does_not_come_frees_its_piece_for_another_who_waits(bench: Bench, task: Task) -> None:
    takes_everything(bench, "a")
    held = waits(bench, "b")
    bench.dispatcher.stalled(session(bench, "a"), task, 25)  # pieces have 10 bytes
    assert (2, SUPERNODE) in pieces(held.result())
    assert {0, 1, 3} == set(bench.managers.progress.tasks[ID].peers["a"].given)


async def test_a_byte_of_a_piece_that_was_not_given_frees_nothing(bench: Bench, task: Task) -> None:
    bench.managers.progress.give(ID, "a", 0, SUPERNODE)
    bench.dispatcher.stalled(session(bench, "a"), task, 25)
    assert {0} == set(bench.managers.progress.tasks[ID].peers["a"].given)


async def test_who_takes_no_part_has_nothing_freed_and_blames_nobody(bench: Bench, task: Task) -> None:
    stranger = bench.peer("d")
    bench.dispatcher.stalled(stranger, task, 0)
    bench.dispatcher.failed(stranger, PieceFailure(ID, 0, "a", "corrupt"))
    assert 0 == bench.managers.progress.service["a"].failed


async def test_whose_own_disk_failed_gets_no_piece_for_a_while(bench: Bench, task: Task) -> None:
    bench.managers.progress.give(ID, "a", 0, SUPERNODE)
    bench.dispatcher.failed(session(bench, "a"), PieceFailure(ID, 0, SUPERNODE, "local"))
    assert () == bench.dispatcher.work(session(bench, "a"))
    bench.clock.now += 6
    assert bench.dispatcher.work(session(bench, "a"))


async def test_a_provider_that_lacks_what_it_is_said_to_have_is_asked_for_all_it_has(bench: Bench, task: Task) -> None:
    progress = bench.managers.progress
    progress.init_progress(ID, "c", ALL)
    progress.give(ID, "a", 1, "c")
    bench.dispatcher.failed(session(bench, "a"), PieceFailure(ID, 1, "c", "missing"))
    assert ALL & ~0b0010 == progress.pieces_by_cid(ID, "c")
    assert not session(bench, "c").inventoried


# Blobs that containers wait for

WINDOW = SchedulingPolicy().window
BLOBS = tuple(sorted(compute(f"blob-{number}") for number in range(3)))


@pytest.fixture
def blobs(bench: Bench) -> tuple[Task, ...]:
    """Three, each of more pieces than a client is given at once, for two clients."""
    bench.state(*(WantedTask(name, f"ns/{name}", name, URL, path=name, peers=("a", "b")) for name in BLOBS))
    tasks = tuple(bench.cached(3 * WINDOW, name=name) for name in BLOBS)
    for name in ("a", "b"):
        bench.assignments.assign(bench.peer(name))
    return tasks


def wants(bench: Bench, name: str, **positions: int) -> None:
    """What the client's node waits for: positions by a blob's number."""
    session(bench, name).wants = {
        BLOBS[int(number[1:])]: Wanted("r", "x", "sha256:0", position=at) for number, at in positions.items()
    }


def of(work: tuple[Work, ...]) -> list[tuple[str, int]]:
    return [(one.task_id, one.piece) for one in work]


async def test_each_blob_that_is_waited_for_gets_a_piece_before_any_gets_more(
    bench: Bench, blobs: tuple[Task, ...]
) -> None:
    wants(bench, "a", b0=10, b2=0)
    work = of(bench.dispatcher.work(session(bench, "a")))
    assert [(BLOBS[2], 0), (BLOBS[0], 1)] == work[:2]
    assert WINDOW == len(work)
    assert {BLOBS[0]} == {name for name, _ in work[2:]}


async def test_a_blob_that_is_waited_for_later_does_not_wait_for_the_end_of_another(
    bench: Bench, blobs: tuple[Task, ...]
) -> None:
    wants(bench, "a", b0=0)
    (_, piece), *more = of(bench.dispatcher.work(session(bench, "a")))
    assert {BLOBS[0]} == {name for name, _ in more}
    assert () == bench.dispatcher.work(session(bench, "a"))
    wants(bench, "a", b0=0, b1=20)

    bench.dispatcher.succeeded(session(bench, "a"), blobs[0], 1 << piece)

    assert [(BLOBS[1], 2)] == of(bench.dispatcher.work(session(bench, "a")))


async def test_what_comes_free_by_one_blob_goes_to_another_of_which_nothing_is_on_its_way(
    bench: Bench, blobs: tuple[Task, ...]
) -> None:
    wants(bench, "b", b0=0)
    bench.dispatcher.work(session(bench, "b"))
    supernode = bench.managers.progress.service[SUPERNODE]
    supernode.booked += SchedulingPolicy().supernode_uploads - supernode.booked
    wants(bench, "a", b0=0, b1=0)
    assert () == bench.dispatcher.work(session(bench, "a"))
    held = waits(bench, "a")

    bench.dispatcher.succeeded(session(bench, "b"), blobs[0], 1)

    assert (BLOBS[1], 0) in of(held.result())
