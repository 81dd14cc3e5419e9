"""Which piece from whom: each rule of the policy by itself."""

from __future__ import annotations

import random

import pytest

from pantala_supernode.errors import NotFoundError
from pantala_supernode.progress import ProgressManager
from pantala_supernode.scheduler import PieceInfo, Policy, SchedulerManager
from pantala_supernode.swarm import SUPERNODE

POLICY = Policy(window=4, peer_uploads=2, supernode_uploads=3, sample=4)


class Stage:
    def __init__(self, pieces: int = 8) -> None:
        self.progress = ProgressManager()
        self.there: set[str] = set()
        self.scheduler = SchedulerManager(
            self.progress, policy=POLICY, chance=random.Random(1), can_serve=lambda name: name in self.there
        )
        self.swarm = self.progress.init_task("t")
        self.swarm.cached = (1 << pieces) - 1

    def joins(self, name: str, have: int = 0) -> None:
        self.progress.init_progress("t", name, have)
        self.there.add(name)

    def asks(self, name: str, room: int = 4, now: float = 0.0) -> list[PieceInfo]:
        return self.scheduler.schedule("t", name, room=room, now=now)

    def takes(self, name: str, *decided: PieceInfo) -> None:
        for info in decided:
            self.progress.succeed("t", name, 1 << info.piece, lambda _piece: 1)

    def fails(self, name: str, info: PieceInfo, *, corrupt: bool = False, now: float = 0.0) -> None:
        self.progress.fail("t", name, info.piece, blame=True, corrupt=corrupt)
        self.scheduler.failed(name, info.provider, now=now)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def providers(decided: list[PieceInfo]) -> set[str]:
    return {info.provider for info in decided}


def test_the_supernode_gives_what_nobody_has_up_to_its_limit(stage: Stage) -> None:
    stage.joins("a")
    decided = stage.asks("a")
    assert (3, {SUPERNODE}) == (len({info.piece for info in decided}), providers(decided))


def test_room_is_what_the_window_leaves(stage: Stage) -> None:
    stage.joins("a")
    assert POLICY.window == stage.scheduler.room("a")
    stage.asks("a", room=2)
    assert POLICY.window - 2 == stage.scheduler.room("a")
    assert [] == stage.asks("a", room=0)


def test_unknown_clients_are_an_error_or_have_all_the_room(stage: Stage) -> None:
    assert POLICY.window == stage.scheduler.room("stranger")
    with pytest.raises((KeyError, NotFoundError)):
        stage.asks("stranger")


def test_a_client_takes_from_a_peer_what_a_peer_has(stage: Stage) -> None:
    stage.joins("seed", 0b11111111)
    stage.joins("a")
    decided = stage.asks("a", room=2)
    assert {"seed"} == providers(decided)


def test_a_peer_serves_no_more_than_its_limit_and_the_supernode_helps_out(stage: Stage) -> None:
    stage.joins("seed", 0b11111111)
    stage.joins("a")
    decided = stage.asks("a")
    assert ["seed", "seed", SUPERNODE, SUPERNODE] == [info.provider for info in decided]


def test_the_least_loaded_peer_serves(stage: Stage) -> None:
    stage.joins("busy", 0b11111111)
    stage.joins("idle", 0b11111111)
    stage.joins("a")
    stage.progress.give("t", "a", 0, "busy")
    (info,) = stage.asks("a", room=1)
    assert "idle" == info.provider


def test_of_what_a_peer_has_the_rarest_goes_first(stage: Stage) -> None:
    stage.joins("x", 0b11111111)
    stage.joins("y", 0b11101111)
    stage.joins("a")
    stage.there.discard("y")
    assert [PieceInfo(4, "x")] == stage.asks("a", room=1)


@pytest.mark.parametrize("away", [True, False])
def test_nobody_is_sent_to_one_who_cannot_serve(stage: Stage, away: bool) -> None:
    stage.joins("seed", 0b11111111)
    stage.joins("a")
    if away:
        stage.there.discard("seed")
    else:
        stage.swarm.clients["seed"].withheld = 0b11111111
    assert {SUPERNODE} == providers(stage.asks("a"))


def test_nobody_takes_from_itself(stage: Stage) -> None:
    stage.joins("a", 0b00001111)
    assert {SUPERNODE} == providers(stage.asks("a"))


def test_who_was_failed_is_kept_apart_for_a_while(stage: Stage) -> None:
    stage.joins("seed", 0b11111111)
    stage.joins("a")
    (info,) = stage.asks("a", room=1)
    stage.fails("a", info)
    assert {SUPERNODE} == providers(stage.asks("a", room=1))
    stage.scheduler.expire(POLICY.blacklist_seconds)
    assert {"seed"} == providers(stage.asks("a", room=1, now=POLICY.blacklist_seconds))


def test_a_failure_of_the_supernode_keeps_nobody_apart(stage: Stage) -> None:
    stage.joins("a")
    (info,) = stage.asks("a", room=1)
    stage.fails("a", info)
    assert {SUPERNODE} == providers(stage.asks("a", room=1))


def test_who_fails_many_times_in_a_row_serves_nobody_for_a_while(stage: Stage) -> None:
    stage.joins("bad", 0b11111111)
    stage.joins("a")
    stage.joins("b")
    for _ in range(POLICY.streak_limit):
        (info,) = stage.asks("a", room=1)
        stage.fails("a", info)
        stage.scheduler._blacklist.clear()
    assert {SUPERNODE} == providers(stage.asks("b", room=1))
    stage.scheduler.expire(POLICY.quarantine_seconds)
    assert {"bad"} == providers(stage.asks("b", room=1, now=POLICY.quarantine_seconds))


def test_one_accuser_may_lie_two_are_believed(stage: Stage) -> None:
    for name in ("a", "b", "c", "d"):
        stage.joins(name)
    stage.joins("bad", 0b11111111)
    for accuser, expected in (("a", {"bad"}), ("b", {SUPERNODE})):
        stage.progress.give("t", accuser, 0, "bad")
        stage.fails(accuser, PieceInfo(0, "bad"), corrupt=True)
        stage.swarm.clients["c"].have = 0
        assert expected == providers(stage.asks("d", room=1))
        stage.progress.release("d")


def test_a_peer_that_is_forgotten_has_nothing_held_against_it(stage: Stage) -> None:
    stage.joins("seed", 0b11111111)
    stage.joins("a")
    stage.fails("a", *stage.asks("a", room=1))
    stage.scheduler.forget("seed")
    assert {"seed"} == providers(stage.asks("a", room=1))


def test_a_piece_on_its_way_to_a_peer_is_not_sent_again_while_the_file_arrives(stage: Stage) -> None:
    stage.swarm.cached, stage.swarm.arriving = 0b1, True
    stage.joins("a")
    stage.joins("b")
    stage.asks("a", room=1)
    assert [] == stage.asks("b")
    stage.swarm.arriving = False
    assert {SUPERNODE} == providers(stage.asks("b"))


def test_who_had_its_share_of_seeds_waits_while_there_are_others(stage: Stage) -> None:
    stage.joins("a")
    stage.joins("b")
    stage.asks("a", room=1)
    stage.asks("b", room=1)
    stage.takes("a", *[PieceInfo(piece, SUPERNODE) for piece in list(stage.swarm.clients["a"].given)])
    assert [SUPERNODE] == [info.provider for info in stage.asks("a", room=2)]


def test_those_with_the_fewest_pieces_are_next_in_line(stage: Stage) -> None:
    for name, have in (("a", 0b111), ("b", 0b1), ("c", 0b11)):
        stage.joins(name, have)
    assert ["b", "c", "a"] == stage.scheduler.next_in_line("t", ["a", "b", "stranger", "c"])
    for number in range(9):
        stage.joins(f"n{number}")
    waiting = ["a", *(f"n{number}" for number in range(9))]
    assert POLICY.sample == len(stage.scheduler.next_in_line("t", waiting))


def test_a_large_swarm_is_decided_over_by_a_sample(stage: Stage) -> None:
    for number in range(50):
        stage.joins(f"n{number}", 0b11111111)
    stage.joins("a")
    decided = stage.asks("a")
    assert (4, False) == (len(decided), SUPERNODE in providers(decided))
