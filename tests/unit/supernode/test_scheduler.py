"""Which provider gives which piece: each rule of the scheduler by itself."""

from collections import Counter

import pytest

from pantala_supernode.errors import NotFoundError
from pantala_supernode.swarm.scheduler import PieceChoice, Urgent
from pantala_supernode.swarm.task_progress import SUPERNODE
from tests.support.scheduler_stage import ALL, POLICY, SchedulerStage


@pytest.fixture
def stage() -> SchedulerStage:
    return SchedulerStage()


@pytest.fixture
def seeded(stage: SchedulerStage) -> SchedulerStage:
    """The peer ``seed`` has all pieces, and ``a`` has none."""
    stage.joins("seed", have=ALL)
    stage.joins("a")
    return stage


def test_the_supernode_gives_new_pieces_up_to_its_limit(stage: SchedulerStage) -> None:
    stage.joins("a")
    choices = stage.asks("a")
    assert (3, {SUPERNODE}) == (len({choice.piece for choice in choices}), {choice.provider for choice in choices})


# Providers


def test_a_peer_takes_from_the_supernode_and_from_peers_at_the_same_time(stage: SchedulerStage) -> None:
    stage.joins("other", have=0b1111)
    stage.joins("a")
    choices = stage.asks("a")
    assert {SUPERNODE: 2, "other": 2} == Counter(choice.provider for choice in choices)
    assert all(choice.piece >= 4 for choice in choices if choice.provider == SUPERNODE), "new ones from the supernode"


def test_room_is_the_rest_of_the_window(stage: SchedulerStage) -> None:
    stage.joins("a")
    assert POLICY.window == stage.scheduler.room("a") == stage.scheduler.room("stranger")
    stage.asks("a", room=2)
    assert POLICY.window - 2 == stage.scheduler.room("a")
    assert [] == stage.asks("a", room=0)
    with pytest.raises((KeyError, NotFoundError)):
        stage.asks("stranger")


def test_a_peer_serves_up_to_its_limit_and_the_supernode_helps(seeded: SchedulerStage) -> None:
    assert ["seed", "seed", SUPERNODE, SUPERNODE] == seeded.providers("a")


def test_the_least_loaded_peer_serves(stage: SchedulerStage) -> None:
    stage.joins("busy", "idle", have=ALL)
    stage.joins("a")
    stage.progress.give("t", "a", 0, "busy")
    assert ["idle"] == stage.providers("a", room=1)


def test_a_provider_gives_its_rarest_piece(stage: SchedulerStage) -> None:
    stage.joins("x", have=ALL)
    stage.joins("y", have=0b1110_1111)
    stage.joins("a")
    del stage.there["y"]
    assert [PieceChoice(4, "x")] == stage.asks("a", room=1)


def test_the_preferred_provider_serves_first(stage: SchedulerStage) -> None:
    stage.joins("x", "y", "z", have=0b1111)
    stage.joins("a")
    stage.progress.give("t", "z", 4, "y")
    assert ["y"] == stage.providers("a", room=1, provider="y")


@pytest.mark.parametrize(("reported", "window"), [(None, 4), (6, 6), (1, 1), (0, 1), (-5, 1), (10**9, 16)])
def test_a_peer_reports_its_window_within_bounds(stage: SchedulerStage, reported: int | None, window: int) -> None:
    stage.joins("a", downloads=reported)
    assert window == stage.scheduler.room("a")


@pytest.mark.parametrize(
    ("downloads", "reported", "window"),
    [(4, 0, 4), (4, 3, 4), (4, 5, 5), (4, 15, 15), (8, 9, 9), (4, 10**9, 4 + 64), (None, 15, 4)],
)
def test_a_fast_peer_may_ask_ahead(stage: SchedulerStage, downloads: int | None, reported: int, window: int) -> None:
    stage.joins("a", downloads=downloads, window=reported)
    assert window == stage.scheduler.room("a")


def test_providers_have_more_pieces_booked_for_a_peer_that_asks_ahead() -> None:
    """Otherwise the scheduler would count pieces that are fetched already, and the fast peer would have to wait."""
    stage = SchedulerStage(pieces=64)
    stage.joins("seed", have=(1 << 64) - 1)
    stage.joins("slow", downloads=4)
    stage.joins("fast", downloads=4, window=14)
    assert {"seed": 12, SUPERNODE: 13} == Counter(stage.providers("fast", room=64))
    assert [] == stage.asks("slow")


def test_a_peer_that_cannot_serve_gets_no_requests_ahead() -> None:
    stage = SchedulerStage(pieces=64)
    stage.joins("leaving", have=(1 << 64) - 1, leaving=True)
    stage.joins("fast", downloads=4, window=14)
    assert "leaving" not in stage.providers("fast", room=64)


@pytest.mark.parametrize(("reported", "booked"), [(None, 2), (6, 6), (1, 1), (0, 0), (-5, 0), (10**9, 32)])
def test_a_peer_reports_its_uploads_within_bounds(reported: int | None, booked: int) -> None:
    stage = SchedulerStage(pieces=64)
    stage.joins("seed", have=(1 << 64) - 1, upload_slots=reported)
    stage.joins("a")
    assert booked == stage.providers("a", room=64).count("seed")


def test_a_large_swarm_is_decided_by_a_sample(stage: SchedulerStage) -> None:
    stage.joins(*(f"n{number}" for number in range(50)), have=ALL)
    stage.joins("a")
    providers = stage.providers("a")
    assert (4, False) == (len(providers), SUPERNODE in providers)


# Failures


def test_a_failure_keeps_a_peer_from_the_provider_for_a_while(seeded: SchedulerStage) -> None:
    seeded.fails("a", *seeded.asks("a", room=1))
    assert [SUPERNODE] == seeded.providers("a", room=1)
    seeded.scheduler.expire(POLICY.blacklist_seconds)
    assert ["seed"] == seeded.providers("a", room=1, now=POLICY.blacklist_seconds)


def test_a_busy_provider_is_not_blamed(stage: SchedulerStage) -> None:
    """It had more requests than slots, so the peer asks it again soon, and others at once."""
    stage.joins("seed", have=ALL)
    stage.joins("a", "b", "c", downloads=2, window=4)
    for name in ("a", "b", "c"):
        assert {"seed"} == set(stage.providers(name, room=1))
    for now in range(8):
        stage.scheduler.failed("a", "seed", refused=True, now=float(now))
    assert [SUPERNODE] == stage.providers("a", room=1, now=8.0)
    assert ["seed"] == stage.providers("a", room=1, now=7.0 + POLICY.busy_seconds)


def test_an_idle_provider_that_refuses_is_blamed(stage: SchedulerStage) -> None:
    stage.joins("seed", have=ALL)
    for name in ("a", "b", "c", "d"):
        stage.joins(name)
        for _ in range(2):
            stage.scheduler.failed(name, "seed", refused=True, now=0.0)
    stage.joins("e")
    assert [SUPERNODE] == stage.providers("e", room=1, now=1.0)


def test_a_peer_without_work_finds_room_where_others_ask_ahead(stage: SchedulerStage) -> None:
    stage.joins("seed", have=ALL, downloads=2, window=4)
    stage.joins("fast", downloads=2, window=4)
    stage.joins("idle", downloads=2)
    stage.scheduler.schedule("t", "fast", room=2, now=0.0)
    stage.progress.give("t", "idle", 7, "seed")
    assert POLICY.peer_uploads < 1 + stage.progress.service["seed"].booked
    assert "seed" in stage.providers("idle", room=1)


def test_a_failure_of_the_supernode_has_no_effect(stage: SchedulerStage) -> None:
    stage.joins("a")
    stage.fails("a", *stage.asks("a", room=1))
    assert [SUPERNODE] == stage.providers("a", room=1)


def test_wrong_bytes_for_two_peers_exclude_a_provider(stage: SchedulerStage) -> None:
    stage.joins("a", "b", "c")
    stage.joins("bad", have=ALL)
    for accuser, expected in (("a", ["bad"]), ("b", [SUPERNODE])):
        stage.fails(accuser, *stage.asks(accuser, room=1), corrupt=True)
        assert expected == stage.providers("c", room=1)
        stage.progress.release("c")
    assert ["bad", SUPERNODE] == stage.providers("c", room=2, now=POLICY.tolerance.out_seconds)


# Seeds and waiting peers


def test_a_piece_on_its_way_to_a_peer_is_not_sent_again_while_the_file_arrives(stage: SchedulerStage) -> None:
    stage.shows(0b1, arriving=True)
    stage.joins("a", "b")
    stage.asks("a", room=1)
    assert [] == stage.asks("b")
    stage.shows(0b1)
    assert {SUPERNODE} == {*stage.providers("b")}


def test_a_peer_with_its_share_of_seeds_waits_while_there_are_others() -> None:
    stage = SchedulerStage(pieces=12)
    stage.joins("a", "b")
    stage.asks("b", room=1)
    for _ in range(5):
        stage.takes("a", *[PieceChoice(piece, SUPERNODE) for piece in list(stage.swarm.peers["a"].given)])
        stage.asks("a", room=1)
    assert 5 == stage.swarm.peers["a"].seeds
    assert [SUPERNODE] == stage.providers("a", room=2), "then it is too far ahead"


def test_peers_with_the_fewest_pieces_are_next_in_line(stage: SchedulerStage) -> None:
    for name, have in (("a", 0b111), ("b", 0b1), ("c", 0b11)):
        stage.joins(name, have=have)
    assert ["b", "c", "a"] == stage.line("a", "b", "stranger", "c")
    names = [f"n{number}" for number in range(9)]
    stage.joins(*names)
    assert POLICY.sample == len(stage.line("a", *names))


def test_peers_that_can_take_a_piece_of_a_provider_are_next_in_line_for_it(stage: SchedulerStage) -> None:
    stage.shows(ALL, arriving=True)
    names = ("a", "b", "seed")
    for name, have in zip(names, (0b111, 0b1, 0b11), strict=True):
        stage.joins(name, have=have)
    assert ["b"] == stage.line(*names, provider="seed")
    assert ["b", "seed", "a"] == stage.line(*names, provider=SUPERNODE)
    for piece in range(POLICY.peer_uploads):
        stage.progress.give("t", "b", piece + 1, "seed")
    assert [] == stage.line(*names, provider="seed")


# Urgent pieces


def test_an_urgent_piece_comes_first(stage: SchedulerStage) -> None:
    stage.joins("a")
    for piece in (6, 1, 7):
        assert [PieceChoice(piece, SUPERNODE)] == stage.asks("a", room=1, urgent=Urgent(piece))


def test_a_piece_that_is_there_or_not_cached_is_not_urgent(stage: SchedulerStage) -> None:
    stage.joins("a", have=0b1)
    for piece in (0, 8):
        (choice,) = stage.asks("a", room=1, urgent=Urgent(piece))
        assert piece != choice.piece


def test_an_urgent_piece_comes_from_a_peer_but_after_a_stall_from_the_supernode(seeded: SchedulerStage) -> None:
    assert [PieceChoice(5, "seed")] == seeded.asks("a", room=1, urgent=Urgent(5))
    assert [PieceChoice(4, SUPERNODE)] == seeded.asks("a", room=1, urgent=Urgent(4, stalled=True))
