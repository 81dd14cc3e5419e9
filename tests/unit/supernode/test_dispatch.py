"""Work for peers: which report or event gives pieces, the held exchanges and the tickets."""

import asyncio

import pytest

from pantala_pieces.transfer.upload.fetches import FetchState, PieceFetch
from pantala_protocol import ticket
from pantala_protocol.statement import WantedTask
from pantala_protocol.sync import PieceFailure, PieceWork, WantedBlob
from pantala_protocol.task_id import TaskID, compute
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.task_progress import SUPERNODE
from tests.unit.supernode.conftest import ID, URL, Bench, Wish

POLICY = SchedulingPolicy()
PIECES = 4
ALL = (1 << PIECES) - 1
BLOBS: tuple[TaskID, ...] = tuple(sorted(compute(f"blob-{number}") for number in range(3)))


class Lab(Bench):
    """Peers of one task with four pieces, or of three blobs that containers wait for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.progress = self.managers.progress

    def work(self, name: str) -> tuple[PieceWork, ...]:
        return self.dispatcher.work(self.dispatcher.sessions[name])

    def waits(self, name: str) -> asyncio.Future[tuple[PieceWork, ...]]:
        return self.dispatcher.waiting.enter(self.dispatcher.sessions[name])

    def given(self, name: str) -> set[int]:
        return set(self.progress.tasks[ID].peers[name].given)

    def takes_everything(self, name: str) -> None:
        """Give all that the supernode can give to one peer."""
        for piece in range(PIECES):
            self.progress.give(ID, name, piece, SUPERNODE)
        self.progress.service[SUPERNODE].booked += POLICY.supernode_uploads - PIECES

    def succeeds(self, name: str, pieces: int, *, serves: bool = True, task: str = ID) -> None:
        task_found = self.managers.tasks.known(task)
        self.dispatcher.succeeded(self.dispatcher.sessions[name], task_found, pieces, serves=serves)

    def fails(self, name: str, piece: int, provider: str, kind: str) -> None:
        self.dispatcher.failed(self.dispatcher.sessions[name], PieceFailure(ID, piece, provider, kind))

    def stalls(self, name: str, position: int) -> None:
        """A byte does not arrive. Pieces have 10 bytes."""
        self.dispatcher.stalled(self.dispatcher.sessions[name], self.managers.tasks.known(ID), position)

    def wants(self, name: str, **positions: int) -> None:
        """The blobs that the peer's node waits for, by their number, with the positions."""
        self.dispatcher.sessions[name].wants = {
            BLOBS[int(number[1:])]: WantedBlob("r", "x", "sha256:0", position=at) for number, at in positions.items()
        }


@pytest.fixture
def lab(wanted: Wish) -> Lab:
    lab = Lab()
    lab.state(wanted("u", "a", "b", "c"))
    lab.cached(PIECES)
    for name in ("a", "b", "c"):
        lab.assignments.assign(lab.peer(name))
    return lab


def pieces(work: tuple[PieceWork, ...]) -> list[tuple[int, str]]:
    return [(one.piece, one.provider) for one in work]


async def test_the_local_peer_gets_its_next_piece_before_an_idle_peer_that_it_cannot_serve(lab: Lab) -> None:
    lab.progress.local_peer = "a"
    for name, more in (("a", {"upload_slots": 1}), ("b", {}), ("c", {})):
        lab.managers.peers.update(name, downloads=1, **more)
        lab.progress.init_progress(ID, name)
    held = {name: lab.waits(name) for name in ("b", "c")}
    lab.cached(PIECES + 20)  # else all others would wait for the local peer, which lacks only a few
    (first,) = lab.work("a")
    lab.succeeds("a", 1 << first.piece)
    (second,) = lab.work("a")
    await asyncio.sleep(0)
    work = [held[name].result()[0] for name in ("b", "c")]
    assert {"a", SUPERNODE} == {each.provider for each in work}
    assert second.piece not in {each.piece for each in work}


async def test_a_new_piece_goes_to_a_waiting_peer(lab: Lab) -> None:
    lab.takes_everything("a")
    held = lab.waits("b")
    lab.succeeds("a", 0b0010)
    work = held.result()
    assert (1, "a") in pieces(work)
    assert work[0].ticket


async def test_a_report_of_the_local_peer_frees_no_place_at_the_supernode(lab: Lab) -> None:
    """The answer to the report gives the local peer the next pieces. Other peers then take them from that peer."""
    lab.progress.local_peer = "a"
    lab.managers.peers.known("a").leaving = True
    lab.progress.give(ID, "a", 0, SUPERNODE)
    held = lab.waits("b")
    lab.succeeds("a", 0b0001)
    assert not held.done()
    lab.dispatcher.expire()
    assert {SUPERNODE} == {provider for _, provider in pieces(await held)}


async def test_the_places_of_a_silent_peer_go_to_a_waiting_one(lab: Lab) -> None:
    assert PIECES == len(lab.work("a"))
    lab.progress.service[SUPERNODE].booked = POLICY.supernode_uploads
    held = lab.waits("b")
    lab.dispatcher.free_places()
    assert not held.done()
    lab.clock.now += 3.0
    lab.dispatcher.free_places()
    assert PIECES == len(held.result())


async def test_the_ticket_shows_which_peer_fetches(lab: Lab) -> None:
    """So ``a`` keeps its places, although ``b`` has the same pieces."""
    fetched, _ = lab.work("a"), lab.work("b")
    for work in fetched:
        assert ticket.check(b"s" * 32, ID, "g", work.ticket, now=1_000_000.0)
        fetch = PieceFetch(ticket.reader(work.ticket), ID, work.piece)
        lab.dispatcher.on_fetch(fetch, FetchState.BEGUN)
    lab.clock.now += 60.0
    lab.dispatcher.free_places()
    peers = lab.progress.tasks[ID].peers
    assert (0, ALL) == (peers["a"].lapsed, peers["b"].lapsed)
    for work in fetched:
        lab.dispatcher.on_fetch(PieceFetch(ticket.reader(work.ticket), ID, work.piece), FetchState.BROKEN)
    lab.clock.now += 3.0
    lab.dispatcher.free_places()
    assert ALL == peers["a"].lapsed


async def test_a_fetch_by_an_unknown_reader_changes_nothing(lab: Lab) -> None:
    """So no node can take places for another node, whose mark it does not know."""
    for reader in ("", *map(str, range(100))):
        lab.dispatcher.on_fetch(PieceFetch(reader, ID, 0), FetchState.BEGUN)
    assert 0 == lab.progress.service[SUPERNODE].booked


async def test_a_held_peer_without_room_waits_for_work_again_once_its_pieces_are_taken_back(lab: Lab) -> None:
    lab.work("a")
    session = lab.dispatcher.sessions["a"]
    assert lab.dispatcher.is_full(session)
    assert not lab.dispatcher.is_full(lab.dispatcher.sessions["b"])
    held = lab.dispatcher.waiting.enter(session, full=True)
    assert [] == lab.dispatcher.waiting.tasks()
    lab.dispatcher.release(session)
    assert PIECES == len(held.result())


async def test_a_repeated_report_wakes_no_peer(lab: Lab) -> None:
    lab.takes_everything("a")
    lab.succeeds("a", 0b0010)
    held = lab.waits("b")
    lab.succeeds("a", 0b0010)
    assert not held.done()


async def test_a_piece_that_cannot_be_served_wakes_no_peer(lab: Lab) -> None:
    lab.takes_everything("a")
    lab.progress.service[SUPERNODE].booked += 1
    held = lab.waits("b")
    lab.succeeds("a", 0b0010, serves=False)
    assert not held.done()


async def test_room_at_a_provider_goes_to_a_peer_that_lacks_its_pieces(lab: Lab) -> None:
    for name, have in (("b", ALL), ("c", 0b0111), ("a", 0)):
        lab.progress.init_progress(ID, name, have)
    lab.progress.service[SUPERNODE].booked = POLICY.supernode_uploads
    for piece in range(POLICY.peer_uploads):
        lab.progress.give(ID, "a", piece, "b")
    held = lab.waits("c")
    lab.dispatcher.serve_waiting(ID)
    assert not held.done()
    lab.succeeds("a", 0b0001, serves=False)
    assert [(3, "b")] == pieces(held.result())


async def test_a_failed_piece_goes_to_a_waiting_peer(lab: Lab) -> None:
    lab.takes_everything("a")
    held = lab.waits("b")
    lab.fails("a", 2, SUPERNODE, "stalled")
    assert (2, SUPERNODE) in pieces(held.result())


async def test_wrong_bytes_count_against_their_provider(lab: Lab) -> None:
    lab.progress.init_progress(ID, "c", ALL)
    for name in ("a", "b"):
        lab.progress.give(ID, name, 0, "c")
        lab.fails(name, 0, "c", "corrupt")
    assert 2 == lab.progress.service["c"].failed
    lab.clock.now += POLICY.blacklist_seconds
    lab.dispatcher.expire()
    assert {SUPERNODE} == {work.provider for work in lab.work("a")}


async def test_a_peer_that_cannot_be_answered_gets_no_piece(lab: Lab) -> None:
    lab.waits("b").cancel()
    lab.dispatcher.serve_waiting(ID)
    assert set() == lab.given("b")


async def test_a_missing_byte_frees_its_piece_for_a_waiting_peer(lab: Lab) -> None:
    lab.takes_everything("a")
    held = lab.waits("b")
    lab.stalls("a", 25)
    assert (2, SUPERNODE) in pieces(held.result())
    assert {0, 1, 3} == lab.given("a")


async def test_a_missing_byte_of_a_piece_that_was_not_given_frees_nothing(lab: Lab) -> None:
    lab.progress.give(ID, "a", 0, SUPERNODE)
    lab.stalls("a", 25)
    assert {0} == lab.given("a")


async def test_a_peer_outside_the_swarm_frees_and_accuses_nothing(lab: Lab) -> None:
    lab.peer("d")
    lab.stalls("d", 0)
    lab.fails("d", 0, "a", "corrupt")
    assert 0 == lab.progress.service["a"].failed


async def test_a_peer_whose_disk_failed_gets_no_piece_for_a_while(lab: Lab) -> None:
    lab.progress.give(ID, "a", 0, SUPERNODE)
    lab.fails("a", 0, SUPERNODE, "local")
    assert () == lab.work("a")
    lab.clock.now += 6
    assert lab.work("a")


async def test_a_provider_that_lacks_a_reported_piece_must_send_its_inventory(lab: Lab) -> None:
    lab.progress.init_progress(ID, "c", ALL)
    lab.progress.give(ID, "a", 1, "c")
    lab.fails("a", 1, "c", "missing")
    assert ALL & ~0b0010 == lab.progress.pieces_by_cid(ID, "c")
    assert not lab.dispatcher.sessions["c"].inventoried


# Blobs that containers wait for


@pytest.fixture
def blobs() -> Lab:
    """Three blobs for two peers. Each has more pieces than a window."""
    lab = Lab()
    lab.state(*(WantedTask(name, f"ns/{name}", name, URL, path=name, peers=("a", "b")) for name in BLOBS))
    for name in BLOBS:
        lab.cached(3 * POLICY.window, name=name)
    for peer in ("a", "b"):
        lab.assignments.assign(lab.peer(peer))
    return lab


def of(work: tuple[PieceWork, ...]) -> list[tuple[str, int]]:
    return [(one.task_id, one.piece) for one in work]


async def test_each_wanted_blob_gets_a_piece_before_any_gets_more(blobs: Lab) -> None:
    blobs.wants("a", b0=10, b2=0)
    work = of(blobs.work("a"))
    assert [(BLOBS[2], 0), (BLOBS[0], 1)] == work[:2]
    assert POLICY.window == len(work)
    assert {BLOBS[0], BLOBS[2]} == {name for name, _ in work[2:]}


async def test_a_blob_that_is_wanted_later_does_not_wait_for_the_end_of_another(blobs: Lab) -> None:
    blobs.wants("a", b0=0)
    assert {BLOBS[0]} == {name for name, _ in of(blobs.work("a"))}
    assert () == blobs.work("a")
    blobs.wants("a", b0=0, b1=20)
    assert [(BLOBS[1], 2)] == of(blobs.work("a"))


async def test_room_from_one_blob_goes_to_another_with_no_piece_on_its_way(blobs: Lab) -> None:
    blobs.wants("b", b0=0)
    blobs.work("b")
    blobs.progress.service[SUPERNODE].booked = POLICY.supernode_uploads + POLICY.urgent
    blobs.wants("a", b0=0, b1=0)
    assert () == blobs.work("a")
    held = blobs.waits("a")
    blobs.succeeds("b", 1, task=BLOBS[0])
    assert (BLOBS[1], 0) in of(held.result())


@pytest.mark.parametrize("deleted", [True, False])
async def test_a_task_that_is_dropped_and_stated_again_gives_no_work_before_its_copy_is_known(
    lab: Lab, wanted: Wish, deleted: bool
) -> None:
    """Its copy and its assignments follow in later turns of the event loop. An exchange was answered with 500."""
    lab.state()
    lab.managers.tasks.expire(now=lab.clock.now + 10)
    if deleted:
        lab.progress.delete_task(ID)
    lab.state(wanted("u", "a"))
    if deleted:
        lab.progress.init_task(ID)
    assert () == lab.work("a")
    lab.cached(PIECES)
    lab.assignments.assign(lab.dispatcher.sessions["a"])
    assert PIECES == len(lab.work("a"))
