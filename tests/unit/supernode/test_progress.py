"""Progress after each report, also after a report that makes no sense."""

from collections.abc import Callable
from typing import Any

import pytest

from pantala_supernode.errors import EmptyValueError, NotFoundError
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.task_progress import SUPERNODE, TaskProgress
from pantala_supernode.tasks.copy import Copy
from tests.unit.supernode.conftest import ID


def ten(_piece: int) -> int:
    return 10


@pytest.fixture
def progress() -> ProgressManager:
    manager = ProgressManager()
    swarm = manager.init_task("t")
    swarm.copy = Copy(ID, cached=0b1111)
    manager.init_progress("t", "a")
    manager.init_progress("t", "b", 0b0011)
    return manager


@pytest.fixture
def swarm(progress: ProgressManager) -> TaskProgress:
    return progress.tasks["t"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda progress: progress.init_progress("x", "a"),
        lambda progress: progress.pieces_by_cid("x", "a"),
        lambda progress: progress.pieces_by_cid("t", "x"),
        lambda progress: list(progress.peers_by_piece("x", 0)),
        lambda progress: list(progress.peers_by_task("x")),
        lambda progress: progress.give("t", "x", 0, "b"),
        lambda progress: progress.succeed("x", "a", 1, ten, now=0.0),
        lambda progress: progress.succeed("t", "x", 1, ten, now=0.0),
        lambda progress: progress.fail("t", "x", 0, blame=True),
        lambda progress: progress.remove_pieces("t", "x", 1),
        lambda progress: progress.forget_progress("x", "a"),
    ],
)
def test_an_unknown_task_or_peer_is_an_error(progress: ProgressManager, ask: Callable[[ProgressManager], Any]) -> None:
    with pytest.raises(NotFoundError):
        ask(progress)
    assert 0b0011 == progress.pieces_by_cid("t", "b")


def test_a_peer_needs_a_name(progress: ProgressManager) -> None:
    with pytest.raises(EmptyValueError):
        progress.init_progress("t", "")


def test_peers_are_found_by_task_and_by_piece(progress: ProgressManager) -> None:
    assert ["a", "b"] == list(progress.peers_by_task("t"))
    assert ["b"] == list(progress.peers_by_piece("t", 1))
    assert [] == list(progress.peers_by_piece("t", 2))
    assert (frozenset({"t"}), frozenset()) == (progress.tasks_of("a"), progress.tasks_of("x"))


def test_a_success_counts_once_and_frees_the_provider(progress: ProgressManager, swarm: TaskProgress) -> None:
    progress.give("t", "a", 0, "b")
    progress.give("t", "a", 2, SUPERNODE)
    assert ["b", SUPERNODE] == progress.succeed("t", "a", 0b0101, ten, now=0.0)
    assert progress.succeed("t", "a", 0b0101, ten, now=0.0) is None
    service = progress.service["b"]
    assert (0b0101, 2, 1) == (progress.pieces_by_cid("t", "a"), swarm.copies(0), swarm.copies(2))
    assert (0, 1, 10, 10) == (service.booked, service.succeeded, swarm.peer_bytes, swarm.supernode_bytes)
    progress.delete_task("t")
    assert (10, 10) == (progress.peer_bytes, progress.supernode_bytes)


def test_a_piece_that_was_not_given_is_not_accounted(progress: ProgressManager) -> None:
    assert [] == progress.succeed("t", "a", 0b1000, ten, now=0.0)
    assert (0b1000, 0) == (progress.pieces_by_cid("t", "a"), progress.supernode_bytes)


def test_semi_success_makes_no_provider(progress: ProgressManager, swarm: TaskProgress) -> None:
    peer = swarm.peers["a"]
    progress.succeed("t", "a", 0b0001, ten, now=0.0, serves=False)
    assert (0b0001, 0) == (peer.have, peer.served)
    progress.succeed("t", "a", 0b0001, ten, now=0.0)
    assert (0b0001, 0b0001) == (peer.have, peer.served)
    progress.succeed("t", "a", 0b0001, ten, now=0.0, serves=False)
    assert 0b0001 == peer.served


def test_failures_count_against_the_provider(progress: ProgressManager) -> None:
    service = progress.service["b"]
    for _ in range(2):
        progress.give("t", "a", 0, "b")
        assert "b" == progress.fail("t", "a", 0, blame=True)
    assert progress.fail("t", "a", 0, blame=True) is None
    progress.give("t", "a", 0, "b")
    assert "b" == progress.fail("t", "a", 0, blame=False), "the peer's own disk failed"
    assert (2, 0) == (service.failed, service.booked)


def test_outstanding_pieces_are_counted_over_all_tasks(progress: ProgressManager) -> None:
    progress.init_task("u")
    progress.init_progress("u", "a")
    progress.give("t", "a", 0, "b")
    progress.give("t", "a", 2, SUPERNODE)
    progress.give("u", "a", 0, SUPERNODE)
    assert (3, 0, 1) == (progress.outstanding("a"), progress.outstanding("b"), progress.peer_bookings)
    progress.succeed("t", "a", 0b0001, ten, now=0.0)
    progress.fail("t", "a", 2, blame=False)
    assert (1, 0) == (progress.outstanding("a"), progress.peer_bookings)
    progress.delete_task("u")
    assert 0 == progress.outstanding("a")


def test_a_zone_is_known_while_a_peer_is_in_it(progress: ProgressManager, swarm: TaskProgress) -> None:
    first = progress.init_progress("t", "z1", 0b0001, zone="z")
    assert swarm.zone_of(first) is None
    other = progress.init_progress("t", "y1", zone="y")
    zone, beyond = swarm.zone_of(first), swarm.zone_of(other)
    assert zone is not None
    assert beyond is not None
    progress.give("t", "y1", 0, "z1")
    assert (0b0001, 0b0001, 0b0001) == (zone.present, beyond.present, beyond.expected)
    assert (["z1"], []) == (list(zone.providers), list(beyond.providers))
    beyond.age()
    assert 0b0001 == beyond.expected
    beyond.age()
    assert 0 == beyond.expected
    progress.fail("t", "y1", 0, blame=True)
    assert 0 == beyond.present
    assert swarm.zone_of(swarm.peers["a"]) is None
    progress.forget_peer("y1")
    assert (None, ["z"]) == (swarm.zone_of(first), list(swarm.zones))


def test_a_peer_that_registers_again_starts_over(progress: ProgressManager, swarm: TaskProgress) -> None:
    progress.give("t", "a", 0, "b")
    progress.succeed("t", "a", 0b1000, ten, now=0.0)
    progress.init_progress("t", "a", 0b0100)
    peer = swarm.peers["a"]
    assert (0b0100, {}, 0) == (peer.have, peer.given, progress.service["b"].booked)
    assert ["b", "a"] == list(progress.peers_by_task("t"))


def test_a_released_peer_keeps_its_verified_pieces(progress: ProgressManager) -> None:
    progress.give("t", "a", 0, "b")
    assert ["t"] == progress.release("a")
    assert [] == progress.release("a")
    assert [] == progress.release("x")
    assert (0, 0b0011) == (progress.service["b"].booked, progress.pieces_by_cid("t", "b"))


def test_a_forgotten_peer_leaves_its_swarms_and_its_record(progress: ProgressManager) -> None:
    progress.give("t", "a", 0, "b")
    progress.service["b"].failed = 1
    for _ in range(2):
        progress.forget_peer("b")
        assert ["a"] == list(progress.peers_by_task("t"))
        assert (1, 0) == (progress.service["b"].booked, progress.service["b"].failed)
    assert "b" == progress.fail("t", "a", 0, blame=False)
    assert "b" not in progress.service
    progress.forget_progress("t", "b")


def test_a_full_provider_is_free_after_one_report(progress: ProgressManager, swarm: TaskProgress) -> None:
    progress.note_full("t", "b")
    assert ["b"] == list(swarm.free)
    progress.give("t", "a", 0, "b")
    progress.give("t", "a", 1, "b")
    progress.note_full("t", "b")
    assert (["b"], []) == (list(swarm.providers), list(swarm.free))
    progress.succeed("t", "b", 0b1000, ten, now=0.0)
    assert [] == list(swarm.free)
    progress.succeed("t", "a", 0b0001, ten, now=0.0)
    assert ["a", "b"] == list(swarm.free)


def test_a_deleted_task_removes_its_progress_and_bookings(progress: ProgressManager) -> None:
    progress.give("t", "a", 0, "b")
    for _ in range(2):
        progress.delete_task("t")
    assert (frozenset(), frozenset()) == (progress.tasks_of("a"), progress.tasks_of("b"))
    assert 0 == progress.service["b"].booked


def test_new_content_empties_the_swarm(progress: ProgressManager, swarm: TaskProgress) -> None:
    progress.give("t", "a", 0, SUPERNODE)
    progress.restart_task("t")
    progress.restart_task("new")
    assert ([], 0) == (list(progress.peers_by_task("t")), swarm.copy.cached)
    assert [] == list(progress.peers_by_task("new"))
    assert 0 == progress.service[SUPERNODE].booked


def test_the_rarest_pieces_are_those_with_the_fewest_copies(progress: ProgressManager, swarm: TaskProgress) -> None:
    assert 0b1100 == swarm.rarest_of(0b1111)
    assert 0b0011 == swarm.rarest_of(0b0011)
    progress.succeed("t", "a", 0b1101, ten, now=0.0)
    assert 0b1110 == swarm.rarest_of(0b1111)
    assert 0 == swarm.rarest_of(0)
    assert 0 == swarm.seeds


def test_many_copies_are_ranked_coarsely_and_counted_exactly(progress: ProgressManager, swarm: TaskProgress) -> None:
    for number in range(40):
        progress.init_progress("t", f"n{number}", 0b0001 if number % 4 else 0b0011)
    assert (41, 11) == (swarm.copies(0), swarm.copies(1))
    assert 0b0010 == swarm.rarest_of(0b0011)
    progress.forget_peer("b")
    assert (40, 10) == (swarm.copies(0), swarm.copies(1))


def test_a_busy_peer_with_more_seeds_than_most_had_its_share(progress: ProgressManager, swarm: TaskProgress) -> None:
    progress.give("t", "b", 3, SUPERNODE)
    for piece in range(4, 9):
        progress.give("t", "a", piece, SUPERNODE)
    assert not swarm.had_its_share(swarm.peers["a"]), "5, and the mean is 3"
    progress.give("t", "a", 9, SUPERNODE)
    assert swarm.had_its_share(swarm.peers["a"])
    assert not swarm.had_its_share(swarm.peers["b"])


def test_the_bytes_of_a_download_are_measured_by_provider_while_it_lasts(progress: ProgressManager) -> None:
    for piece, provider in ((0, "b"), (2, SUPERNODE), (3, SUPERNODE)):
        progress.give("t", "a", piece, provider)
        progress.succeed("t", "a", 1 << piece, ten, now=100.0 + piece)
    meter = progress.flows.get("t", "a")
    assert meter is not None
    assert {"b": 10, SUPERNODE: 20} == meter.sums
    assert {"b": 2.0, SUPERNODE: 4.0} == meter.rates(105.0)
    progress.expire(110.0)
    assert progress.is_unfinished("t", "a")
    assert (meter, {}) == (progress.flows.get("t", "a"), meter.rates(110.0))
    progress.forget_progress("t", "a")
    assert [] == list(progress.flows)
