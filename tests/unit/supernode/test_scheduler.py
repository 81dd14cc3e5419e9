"""Which piece from whom: each rule of the policy by itself."""

import random
from collections import Counter
from typing import Any

import pytest

from pantala_protocol.statement import CDNStatus
from pantala_supernode.errors import NotFoundError
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.peer import SwarmPeer
from pantala_supernode.swarm.pool import Pool
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.scheduler import PieceChoice, SchedulerManager, Urgent
from pantala_supernode.swarm.task_progress import SUPERNODE
from pantala_supernode.tasks.copy import Copy
from tests.unit.supernode.conftest import ID

POLICY = SchedulingPolicy(window=4, peer_uploads=2, supernode_uploads=3, sample=4)
LOCAL = "the supernode's node"


class Stage:
    def __init__(self, pieces: int = 8) -> None:
        self.progress = ProgressManager(LOCAL)
        self.there: dict[str, SwarmPeer] = {}
        self.scheduler = SchedulerManager(self.progress, policy=POLICY, chance=random.Random(1), lookup=self.there.get)
        self.swarm = self.progress.init_task("t")
        self.shows((1 << pieces) - 1)

    def shows(self, cached: int, *, arriving: bool = False) -> None:
        """The supernode has these pieces."""
        status = CDNStatus.RUNNING if arriving else CDNStatus.SUCCESS
        self.swarm.copy = Copy(ID, status, cached=cached)

    def joins(self, name: str, have: int = 0, zone: str = "", **more: Any) -> None:
        self.progress.init_progress("t", name, have, zone=zone)
        self.there[name] = SwarmPeer(name, "boot", "10.0.0.1", 65002, b"key", zone, **more)

    def asks(self, name: str, room: int = 4, now: float = 0.0) -> list[PieceChoice]:
        return self.scheduler.schedule("t", name, room=room, now=now)

    def takes(self, name: str, *decided: PieceChoice) -> None:
        for info in decided:
            self.progress.succeed("t", name, 1 << info.piece, lambda _piece: 1)

    def fails(self, name: str, info: PieceChoice, *, corrupt: bool = False, now: float = 0.0) -> None:
        self.progress.fail("t", name, info.piece, blame=True)
        self.scheduler.failed(name, info.provider, corrupt=corrupt, now=now)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def providers(decided: list[PieceChoice]) -> set[str]:
    return {info.provider for info in decided}


def test_the_supernode_gives_what_nobody_has_up_to_its_limit(stage: Stage) -> None:
    stage.joins("a")
    decided = stage.asks("a")
    assert (3, {SUPERNODE}) == (len({info.piece for info in decided}), providers(decided))


def test_the_client_on_the_supernodes_machine_takes_all_from_there_however_busy_it_is(stage: Stage) -> None:
    stage.joins("far", 0b11111111)
    stage.joins(LOCAL)
    decided = stage.scheduler.schedule("t", LOCAL, room=4, now=0.0, provider="far")
    assert [SUPERNODE] * 4 == [info.provider for info in decided]
    assert POLICY.supernode_uploads < len(decided)


def test_what_the_client_on_the_supernodes_machine_takes_leaves_the_supernode_its_room() -> None:
    stage = Stage(pieces=16)
    stage.joins(LOCAL)
    taken = stage.asks(LOCAL)
    stage.joins("far")
    given = stage.asks("far")
    assert [SUPERNODE] * POLICY.supernode_uploads == [info.provider for info in given]
    assert not {info.piece for info in taken} & {info.piece for info in given}


def test_what_the_client_on_the_supernodes_machine_is_about_to_have_comes_from_there(stage: Stage) -> None:
    stage.joins(LOCAL)
    taken = stage.asks(LOCAL)
    stage.joins("far")
    assert [] == stage.asks("far"), "it keeps up"
    stage.takes(LOCAL, *taken)
    stage.asks(LOCAL)
    assert {LOCAL} == providers(stage.asks("far"))


def test_what_the_client_on_the_supernodes_machine_has_leaves_the_machine_once() -> None:
    stage = Stage(pieces=2)
    for name in (LOCAL, "a", "b"):
        stage.joins(name, zone="z")
    stage.takes(LOCAL, *stage.asks(LOCAL))

    given = {name: stage.asks(name, room=1) for name in ("a", "b")}

    assert {LOCAL} == providers(given["a"] + given["b"]), "the supernode has given it, and need not again"
    assert {0, 1} == {given["a"][0].piece, given["b"][0].piece}
    for name, decided in given.items():
        stage.takes(name, *decided)


def test_the_supernode_helps_the_client_on_its_machine_out_for_one_who_has_nothing_to_do(stage: Stage) -> None:
    stage.joins(LOCAL, 0b11111111)
    for name in ("a", "b"):
        stage.joins(name)
    assert {LOCAL} == providers(stage.asks("a")), "it is full then"
    assert [SUPERNODE] == [info.provider for info in stage.asks("b")]
    stage.there[LOCAL].leaving = True
    assert {SUPERNODE} == providers(stage.asks("b")), "nobody else can"


def test_the_client_on_the_supernodes_machine_is_first_in_line(stage: Stage) -> None:
    waiting = Pool()
    for name, have in ((LOCAL, 0b1111), ("far", 0)):
        stage.joins(name, have)
        waiting.add(name)
    assert [LOCAL, "far"] == stage.scheduler.next_in_line("t", waiting, now=0.0)


def test_a_client_takes_from_the_supernode_and_from_peers_at_the_same_time(stage: Stage) -> None:
    stage.joins("other", 0b1111)
    stage.joins("a")
    decided = stage.asks("a")
    assert {SUPERNODE: 2, "other": 2} == Counter(info.provider for info in decided)
    assert all(info.piece >= 4 for info in decided if info.provider == SUPERNODE), "new ones from the supernode"


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
    del stage.there["y"]
    assert [PieceChoice(4, "x")] == stage.asks("a", room=1)


@pytest.mark.parametrize("why", ["gone", "away", "leaving", "no port", "no slots", "withheld"])
def test_nobody_is_sent_to_one_who_cannot_serve(stage: Stage, why: str) -> None:
    stage.joins("seed", 0b11111111)
    stage.joins("a")
    seed = stage.there["seed"]
    if why == "gone":
        del stage.there["seed"]
    elif why == "away":
        seed.connected = False
    elif why == "leaving":
        seed.leaving = True
    elif why == "no port":
        seed.port = 0
    elif why == "no slots":
        seed.upload_slots = 0
    else:
        stage.progress.init_progress("t", "seed")
        stage.progress.succeed("t", "seed", 0b11111111, lambda _piece: 1, serves=False)
    assert {SUPERNODE} == providers(stage.asks("a"))
    assert [] == stage.scheduler.schedule("t", "a", room=1, now=0.0, provider="seed")


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


def test_two_who_were_sent_wrong_bytes_are_believed_and_one_is_not(stage: Stage) -> None:
    for name in ("a", "b", "c"):
        stage.joins(name)
    stage.joins("bad", 0b11111111)
    for accuser, expected in (("a", {"bad"}), ("b", {SUPERNODE})):
        (info,) = stage.asks(accuser, room=1)
        stage.fails(accuser, info, corrupt=True)
        assert expected == providers(stage.asks("c", room=1))
        stage.progress.release("c")
    back = POLICY.tolerance.out_seconds
    assert ["bad", SUPERNODE] == [info.provider for info in stage.asks("c", room=2, now=back)]


def test_a_peer_that_is_forgotten_has_nothing_held_against_it(stage: Stage) -> None:
    stage.joins("seed", 0b11111111)
    stage.joins("a")
    stage.fails("a", *stage.asks("a", room=1))
    stage.scheduler.forget("seed")
    assert {"seed"} == providers(stage.asks("a", room=1))


def test_a_piece_on_its_way_to_a_peer_is_not_sent_again_while_the_file_arrives(stage: Stage) -> None:
    stage.shows(0b1, arriving=True)
    stage.joins("a")
    stage.joins("b")
    stage.asks("a", room=1)
    assert [] == stage.asks("b")
    stage.shows(0b1)
    assert {SUPERNODE} == providers(stage.asks("b"))


def test_who_had_its_share_of_seeds_waits_while_there_are_others() -> None:
    stage = Stage(pieces=12)
    stage.joins("a")
    stage.joins("b")
    stage.asks("b", room=1)
    for _ in range(5):
        stage.takes("a", *[PieceChoice(piece, SUPERNODE) for piece in list(stage.swarm.peers["a"].given)])
        stage.asks("a", room=1)
    assert 5 == stage.swarm.peers["a"].seeds
    assert [SUPERNODE] == [info.provider for info in stage.asks("a", room=2)], "then it is too far ahead"


def waiting(*names: str) -> Pool:
    pool = Pool()
    for name in names:
        pool.add(name)
    return pool


def test_those_with_the_fewest_pieces_are_next_in_line(stage: Stage) -> None:
    for name, have in (("a", 0b111), ("b", 0b1), ("c", 0b11)):
        stage.joins(name, have)
    assert ["b", "c", "a"] == stage.scheduler.next_in_line("t", waiting("a", "b", "stranger", "c"), now=0.0)
    for number in range(9):
        stage.joins(f"n{number}")
    names = waiting("a", *(f"n{number}" for number in range(9)))
    assert POLICY.sample == len(stage.scheduler.next_in_line("t", names, now=0.0))


def test_next_in_line_for_a_provider_is_who_can_take_something_of_it(stage: Stage) -> None:
    stage.shows(0xFF, arriving=True)
    for name, have in (("a", 0b111), ("b", 0b1), ("seed", 0b11)):
        stage.joins(name, have)
    names = waiting("a", "b", "seed")
    assert ["b"] == stage.scheduler.next_in_line("t", names, now=0.0, provider="seed")
    assert ["b", "seed", "a"] == stage.scheduler.next_in_line("t", names, now=0.0, provider=SUPERNODE)
    for piece in range(POLICY.peer_uploads):
        stage.progress.give("t", "b", piece + 1, "seed")
    assert [] == stage.scheduler.next_in_line("t", names, now=0.0, provider="seed")


def test_who_is_asked_for_first_serves_first(stage: Stage) -> None:
    for name in ("x", "y", "z"):
        stage.joins(name, 0b1111)
    stage.joins("a")
    stage.progress.give("t", "z", 4, "y")
    (info,) = stage.scheduler.schedule("t", "a", room=1, now=0.0, provider="y")
    assert "y" == info.provider


@pytest.mark.parametrize(("says", "window"), [(None, 4), (6, 6), (1, 1), (0, 1), (-5, 1), (10**9, 16)])
def test_the_window_is_what_a_peer_says_within_bounds(stage: Stage, says: int | None, window: int) -> None:
    stage.joins("a", downloads=says)
    assert window == stage.scheduler.room("a")


@pytest.mark.parametrize(("says", "booked"), [(None, 2), (6, 6), (1, 1), (0, 0), (-5, 0), (10**9, 32)])
def test_a_peer_serves_as_many_as_it_says_within_bounds(says: int | None, booked: int) -> None:
    stage = Stage(pieces=64)
    stage.joins("seed", (1 << 64) - 1, upload_slots=says)
    stage.joins("a")
    assert booked == sum(info.provider == "seed" for info in stage.asks("a", room=64))


def test_a_piece_enters_a_zone_once(stage: Stage) -> None:
    stage.joins("here", 0b11111111, zone="here")
    stage.joins("there", zone="there")
    stage.joins("near", zone="there")
    (info,) = stage.asks("there", room=1)
    assert "here" == info.provider
    others = stage.asks("near", room=8)
    assert info.piece not in {other.piece for other in others}
    stage.takes("there", info)
    stage.progress.release("near")
    assert [PieceChoice(info.piece, "there")] == stage.asks("near", room=1)


def test_a_piece_that_nobody_in_the_zone_can_serve_is_brought_in_again(stage: Stage) -> None:
    stage.shows(0b1)
    stage.joins("here", 0b1, zone="here")
    stage.joins("there", 0b1, zone="there")
    stage.joins("near", zone="there")
    stage.there["there"].leaving = True
    assert [PieceChoice(0, "here")] == stage.asks("near")


def test_a_piece_on_its_way_into_the_zone_is_waited_for_a_while(stage: Stage) -> None:
    stage.shows(0b1)
    stage.joins("here", 0b1, zone="here")
    stage.joins("there", zone="there")
    stage.joins("near", zone="there")
    stage.asks("there")
    assert [] == stage.asks("near")
    for now in (POLICY.zone_patience, 2 * POLICY.zone_patience):
        stage.scheduler.expire(now)
    assert [PieceChoice(0, "here")] == stage.asks("near", now=2 * POLICY.zone_patience)


def test_one_with_other_pieces_to_take_waits_for_its_zone(stage: Stage) -> None:
    stage.joins("here", 0b1, zone="here")
    stage.joins("there", 0b1, zone="there")
    stage.joins("near", zone="there")
    stage.there["there"].leaving = True
    stage.progress.give("t", "near", 7, SUPERNODE)
    stage.shows(0b1)
    assert [] == stage.asks("near")


def test_one_without_a_zone_heeds_no_border(stage: Stage) -> None:
    stage.shows(0b1)
    stage.joins("here", 0b1, zone="here")
    stage.joins("there", 0b1, zone="there")
    stage.joins("a")
    (info,) = stage.asks("a")
    assert info.provider in {"here", "there"}


def test_a_large_swarm_is_decided_over_by_a_sample(stage: Stage) -> None:
    for number in range(50):
        stage.joins(f"n{number}", 0b11111111)
    stage.joins("a")
    decided = stage.asks("a")
    assert (4, False) == (len(decided), SUPERNODE in providers(decided))


def test_the_piece_that_is_waited_for_goes_first(stage: Stage) -> None:
    stage.joins("a")
    for piece in (6, 1, 7):
        decided = stage.scheduler.schedule("t", "a", room=1, now=0.0, urgent=Urgent(piece))
        assert [PieceChoice(piece, SUPERNODE)] == decided


def test_a_piece_that_is_there_or_cannot_be_had_is_not_urgent(stage: Stage) -> None:
    stage.joins("a", have=0b1)
    for piece in (0, 8):
        (info,) = stage.scheduler.schedule("t", "a", room=1, now=0.0, urgent=Urgent(piece))
        assert piece != info.piece


def test_an_urgent_piece_comes_from_a_peer_that_has_it_but_from_the_supernode_after_a_stall(stage: Stage) -> None:
    stage.joins("full", have=0b1111_1111)
    stage.joins("a")
    assert [PieceChoice(5, "full")] == stage.scheduler.schedule("t", "a", room=1, now=0.0, urgent=Urgent(5))
    stalled = Urgent(4, stalled=True)
    assert [PieceChoice(4, SUPERNODE)] == stage.scheduler.schedule("t", "a", room=1, now=0.0, urgent=stalled)
