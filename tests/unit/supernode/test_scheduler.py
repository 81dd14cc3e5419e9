"""Which provider gives which piece: each rule of the scheduler by itself."""

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
ALL = 0b1111_1111


class Stage:
    """A scheduler over one task of which the supernode has ``pieces``."""

    def __init__(self, pieces: int = 8) -> None:
        self.progress = ProgressManager(LOCAL)
        self.there: dict[str, SwarmPeer] = {}
        self.scheduler = SchedulerManager(self.progress, policy=POLICY, chance=random.Random(1), lookup=self.there.get)
        self.swarm = self.progress.init_task("t")
        self.shows((1 << pieces) - 1)

    def shows(self, cached: int, *, arriving: bool = False) -> None:
        self.swarm.copy = Copy(ID, CDNStatus.RUNNING if arriving else CDNStatus.SUCCESS, cached=cached)

    def joins(self, *names: str, have: int = 0, zone: str = "", **more: Any) -> None:
        for name in names:
            self.progress.init_progress("t", name, have, zone=zone)
            self.there[name] = SwarmPeer(name, "10.0.0.1", 65002, b"key", zone, **more)

    def asks(self, name: str, room: int = 4, now: float = 0.0, **more: Any) -> list[PieceChoice]:
        return self.scheduler.schedule("t", name, room=room, now=now, **more)

    def providers(self, name: str, **more: Any) -> list[str]:
        return [choice.provider for choice in self.asks(name, **more)]

    def takes(self, name: str, *choices: PieceChoice) -> None:
        for choice in choices:
            self.progress.succeed("t", name, 1 << choice.piece, lambda _piece: 1, now=0.0)

    def fails(self, name: str, choice: PieceChoice, *, corrupt: bool = False, now: float = 0.0) -> None:
        self.progress.fail("t", name, choice.piece, blame=True)
        self.scheduler.failed(name, choice.provider, corrupt=corrupt, now=now)

    def line(self, *names: str, provider: str | None = None) -> list[str]:
        """Which of the waiting peers are next in line."""
        waiting = Pool()
        for name in names:
            waiting.add(name)
        return self.scheduler.next_in_line("t", waiting, now=0.0, provider=provider)


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def seeded(stage: Stage) -> Stage:
    """The peer ``seed`` has all pieces, and ``a`` has none."""
    stage.joins("seed", have=ALL)
    stage.joins("a")
    return stage


def test_the_supernode_gives_new_pieces_up_to_its_limit(stage: Stage) -> None:
    stage.joins("a")
    choices = stage.asks("a")
    assert (3, {SUPERNODE}) == (len({choice.piece for choice in choices}), {choice.provider for choice in choices})


# The peer on the supernode's machine


def test_the_local_peer_takes_all_pieces_from_a_busy_supernode(stage: Stage) -> None:
    stage.joins("far", have=ALL)
    stage.joins(LOCAL)
    assert [SUPERNODE] * 4 == stage.providers(LOCAL, provider="far")
    assert POLICY.supernode_uploads < 4


def test_the_local_peer_takes_no_room_from_the_others() -> None:
    stage = Stage(pieces=16)
    stage.joins(LOCAL, "far")
    taken, given = stage.asks(LOCAL), stage.asks("far")
    assert [SUPERNODE] * POLICY.supernode_uploads == [choice.provider for choice in given]
    assert not {choice.piece for choice in taken} & {choice.piece for choice in given}


def test_a_piece_that_the_local_peer_gets_in_a_moment_comes_from_there(stage: Stage) -> None:
    stage.joins(LOCAL, "far")
    taken = stage.asks(LOCAL)
    assert [] == stage.asks("far"), "the local peer keeps up"
    stage.takes(LOCAL, *taken)
    stage.asks(LOCAL)
    assert {LOCAL} == {*stage.providers("far")}


def test_a_piece_of_the_local_peer_leaves_the_machine_once() -> None:
    stage = Stage(pieces=2)
    stage.joins(LOCAL, "a", "b", zone="z")
    stage.takes(LOCAL, *stage.asks(LOCAL))
    given = {name: stage.asks(name, room=1) for name in ("a", "b")}
    assert {LOCAL} == {choice.provider for choice in given["a"] + given["b"]}, "the supernode need not give it again"
    assert {0, 1} == {given["a"][0].piece, given["b"][0].piece}
    for name, choices in given.items():
        stage.takes(name, *choices)


def test_the_supernode_helps_the_full_local_peer_for_idle_peers(stage: Stage) -> None:
    stage.joins(LOCAL, have=ALL)
    stage.joins("a", "b")
    assert {LOCAL} == {*stage.providers("a")}, "it is full then"
    assert [SUPERNODE] == stage.providers("b")
    stage.there[LOCAL].leaving = True
    assert {SUPERNODE} == {*stage.providers("b")}, "no other provider is left"


def test_the_local_peer_is_first_in_line(stage: Stage) -> None:
    stage.joins(LOCAL, have=0b1111)
    stage.joins("far")
    assert [LOCAL, "far"] == stage.line(LOCAL, "far")


# Providers


def test_a_peer_takes_from_the_supernode_and_from_peers_at_the_same_time(stage: Stage) -> None:
    stage.joins("other", have=0b1111)
    stage.joins("a")
    choices = stage.asks("a")
    assert {SUPERNODE: 2, "other": 2} == Counter(choice.provider for choice in choices)
    assert all(choice.piece >= 4 for choice in choices if choice.provider == SUPERNODE), "new ones from the supernode"


def test_room_is_the_rest_of_the_window(stage: Stage) -> None:
    stage.joins("a")
    assert POLICY.window == stage.scheduler.room("a") == stage.scheduler.room("stranger")
    stage.asks("a", room=2)
    assert POLICY.window - 2 == stage.scheduler.room("a")
    assert [] == stage.asks("a", room=0)
    with pytest.raises((KeyError, NotFoundError)):
        stage.asks("stranger")


def test_a_peer_serves_up_to_its_limit_and_the_supernode_helps(seeded: Stage) -> None:
    assert ["seed", "seed", SUPERNODE, SUPERNODE] == seeded.providers("a")


def test_the_least_loaded_peer_serves(stage: Stage) -> None:
    stage.joins("busy", "idle", have=ALL)
    stage.joins("a")
    stage.progress.give("t", "a", 0, "busy")
    assert ["idle"] == stage.providers("a", room=1)


def test_a_provider_gives_its_rarest_piece(stage: Stage) -> None:
    stage.joins("x", have=ALL)
    stage.joins("y", have=0b1110_1111)
    stage.joins("a")
    del stage.there["y"]
    assert [PieceChoice(4, "x")] == stage.asks("a", room=1)


def test_the_preferred_provider_serves_first(stage: Stage) -> None:
    stage.joins("x", "y", "z", have=0b1111)
    stage.joins("a")
    stage.progress.give("t", "z", 4, "y")
    assert ["y"] == stage.providers("a", room=1, provider="y")


@pytest.mark.parametrize(("reported", "window"), [(None, 4), (6, 6), (1, 1), (0, 1), (-5, 1), (10**9, 16)])
def test_a_peer_reports_its_window_within_bounds(stage: Stage, reported: int | None, window: int) -> None:
    stage.joins("a", downloads=reported)
    assert window == stage.scheduler.room("a")


@pytest.mark.parametrize(
    ("downloads", "reported", "window"),
    [(4, 0, 4), (4, 3, 4), (4, 5, 5), (4, 15, 15), (8, 9, 9), (4, 10**9, 4 + 64), (None, 15, 4)],
)
def test_a_fast_peer_may_ask_ahead(stage: Stage, downloads: int | None, reported: int, window: int) -> None:
    stage.joins("a", downloads=downloads, window=reported)
    assert window == stage.scheduler.room("a")


def test_providers_have_more_pieces_booked_for_a_peer_that_asks_ahead() -> None:
    """Otherwise the scheduler would count pieces that are fetched already, and the fast peer would have to wait."""
    stage = Stage(pieces=64)
    stage.joins("seed", have=(1 << 64) - 1)
    stage.joins("slow", downloads=4)
    stage.joins("fast", downloads=4, window=14)
    assert {"seed": 12, SUPERNODE: 13} == Counter(stage.providers("fast", room=64))
    assert [] == stage.asks("slow")


def test_a_peer_that_cannot_serve_gets_no_requests_ahead() -> None:
    stage = Stage(pieces=64)
    stage.joins("leaving", have=(1 << 64) - 1, leaving=True)
    stage.joins("fast", downloads=4, window=14)
    assert "leaving" not in stage.providers("fast", room=64)


@pytest.mark.parametrize(("reported", "booked"), [(None, 2), (6, 6), (1, 1), (0, 0), (-5, 0), (10**9, 32)])
def test_a_peer_reports_its_uploads_within_bounds(reported: int | None, booked: int) -> None:
    stage = Stage(pieces=64)
    stage.joins("seed", have=(1 << 64) - 1, upload_slots=reported)
    stage.joins("a")
    assert booked == stage.providers("a", room=64).count("seed")


def test_a_large_swarm_is_decided_by_a_sample(stage: Stage) -> None:
    stage.joins(*(f"n{number}" for number in range(50)), have=ALL)
    stage.joins("a")
    providers = stage.providers("a")
    assert (4, False) == (len(providers), SUPERNODE in providers)


# Failures


def test_a_failure_keeps_a_peer_from_the_provider_for_a_while(seeded: Stage) -> None:
    seeded.fails("a", *seeded.asks("a", room=1))
    assert [SUPERNODE] == seeded.providers("a", room=1)
    seeded.scheduler.expire(POLICY.blacklist_seconds)
    assert ["seed"] == seeded.providers("a", room=1, now=POLICY.blacklist_seconds)


def test_a_busy_provider_is_not_blamed(stage: Stage) -> None:
    """It had more requests than slots, so the peer asks it again soon, and others at once."""
    stage.joins("seed", have=ALL)
    stage.joins("a", "b", "c", downloads=2, window=4)
    for name in ("a", "b", "c"):
        assert {"seed"} == set(stage.providers(name, room=1))
    for now in range(8):
        stage.scheduler.failed("a", "seed", refused=True, now=float(now))
    assert [SUPERNODE] == stage.providers("a", room=1, now=8.0)
    assert ["seed"] == stage.providers("a", room=1, now=7.0 + POLICY.busy_seconds)


def test_an_idle_provider_that_refuses_is_blamed(stage: Stage) -> None:
    stage.joins("seed", have=ALL)
    for name in ("a", "b", "c", "d"):
        stage.joins(name)
        for _ in range(2):
            stage.scheduler.failed(name, "seed", refused=True, now=0.0)
    stage.joins("e")
    assert [SUPERNODE] == stage.providers("e", room=1, now=1.0)


def test_a_peer_without_work_finds_room_where_others_ask_ahead(stage: Stage) -> None:
    stage.joins("seed", have=ALL, downloads=2, window=4)
    stage.joins("fast", downloads=2, window=4)
    stage.joins("idle", downloads=2)
    stage.scheduler.schedule("t", "fast", room=2, now=0.0)
    stage.progress.give("t", "idle", 7, "seed")
    assert POLICY.peer_uploads < 1 + stage.progress.service["seed"].booked
    assert "seed" in stage.providers("idle", room=1)


def test_a_failure_of_the_supernode_has_no_effect(stage: Stage) -> None:
    stage.joins("a")
    stage.fails("a", *stage.asks("a", room=1))
    assert [SUPERNODE] == stage.providers("a", room=1)


def test_wrong_bytes_for_two_peers_exclude_a_provider(stage: Stage) -> None:
    stage.joins("a", "b", "c")
    stage.joins("bad", have=ALL)
    for accuser, expected in (("a", ["bad"]), ("b", [SUPERNODE])):
        stage.fails(accuser, *stage.asks(accuser, room=1), corrupt=True)
        assert expected == stage.providers("c", room=1)
        stage.progress.release("c")
    assert ["bad", SUPERNODE] == stage.providers("c", room=2, now=POLICY.tolerance.out_seconds)


# Seeds and waiting peers


def test_a_piece_on_its_way_to_a_peer_is_not_sent_again_while_the_file_arrives(stage: Stage) -> None:
    stage.shows(0b1, arriving=True)
    stage.joins("a", "b")
    stage.asks("a", room=1)
    assert [] == stage.asks("b")
    stage.shows(0b1)
    assert {SUPERNODE} == {*stage.providers("b")}


def test_a_peer_with_its_share_of_seeds_waits_while_there_are_others() -> None:
    stage = Stage(pieces=12)
    stage.joins("a", "b")
    stage.asks("b", room=1)
    for _ in range(5):
        stage.takes("a", *[PieceChoice(piece, SUPERNODE) for piece in list(stage.swarm.peers["a"].given)])
        stage.asks("a", room=1)
    assert 5 == stage.swarm.peers["a"].seeds
    assert [SUPERNODE] == stage.providers("a", room=2), "then it is too far ahead"


def test_peers_with_the_fewest_pieces_are_next_in_line(stage: Stage) -> None:
    for name, have in (("a", 0b111), ("b", 0b1), ("c", 0b11)):
        stage.joins(name, have=have)
    assert ["b", "c", "a"] == stage.line("a", "b", "stranger", "c")
    names = [f"n{number}" for number in range(9)]
    stage.joins(*names)
    assert POLICY.sample == len(stage.line("a", *names))


def test_peers_that_can_take_a_piece_of_a_provider_are_next_in_line_for_it(stage: Stage) -> None:
    stage.shows(ALL, arriving=True)
    names = ("a", "b", "seed")
    for name, have in zip(names, (0b111, 0b1, 0b11), strict=True):
        stage.joins(name, have=have)
    assert ["b"] == stage.line(*names, provider="seed")
    assert ["b", "seed", "a"] == stage.line(*names, provider=SUPERNODE)
    for piece in range(POLICY.peer_uploads):
        stage.progress.give("t", "b", piece + 1, "seed")
    assert [] == stage.line(*names, provider="seed")


# Zones


def test_a_piece_enters_a_zone_once(stage: Stage) -> None:
    stage.joins("here", have=ALL, zone="here")
    stage.joins("there", "near", zone="there")
    (choice,) = stage.asks("there", room=1)
    assert "here" == choice.provider
    assert choice.piece not in {other.piece for other in stage.asks("near", room=8)}
    stage.takes("there", choice)
    stage.progress.release("near")
    assert [PieceChoice(choice.piece, "there")] == stage.asks("near", room=1)


@pytest.fixture
def zones(stage: Stage) -> Stage:
    """The one piece is in both zones, but not with the peer ``near`` in the zone ``there``."""
    stage.shows(0b1)
    for zone in ("here", "there"):
        stage.joins(zone, have=0b1, zone=zone)
    stage.joins("near", zone="there")
    return stage


def test_a_piece_without_a_provider_in_the_zone_is_brought_in_again(zones: Stage) -> None:
    zones.there["there"].leaving = True
    assert [PieceChoice(0, "here")] == zones.asks("near")


def test_a_zone_waits_a_while_for_a_piece_on_its_way_into_it(zones: Stage) -> None:
    zones.joins("there", zone="there")
    zones.asks("there")
    assert [] == zones.asks("near")
    for now in (POLICY.zone_patience, 2 * POLICY.zone_patience):
        zones.scheduler.expire(now)
    assert [PieceChoice(0, "here")] == zones.asks("near", now=2 * POLICY.zone_patience)


def test_a_busy_peer_waits_for_its_zone(zones: Stage) -> None:
    zones.there["there"].leaving = True
    zones.shows(ALL)
    zones.progress.give("t", "near", 7, SUPERNODE)
    zones.shows(0b1)
    assert [] == zones.asks("near")


def test_a_peer_without_a_zone_takes_from_any(zones: Stage) -> None:
    zones.joins("a")
    assert {"here", "there"} > {*zones.providers("a")} != set()


# Urgent pieces


def test_an_urgent_piece_comes_first(stage: Stage) -> None:
    stage.joins("a")
    for piece in (6, 1, 7):
        assert [PieceChoice(piece, SUPERNODE)] == stage.asks("a", room=1, urgent=Urgent(piece))


def test_a_piece_that_is_there_or_not_cached_is_not_urgent(stage: Stage) -> None:
    stage.joins("a", have=0b1)
    for piece in (0, 8):
        (choice,) = stage.asks("a", room=1, urgent=Urgent(piece))
        assert piece != choice.piece


def test_an_urgent_piece_comes_from_a_peer_but_after_a_stall_from_the_supernode(seeded: Stage) -> None:
    assert [PieceChoice(5, "seed")] == seeded.asks("a", room=1, urgent=Urgent(5))
    assert [PieceChoice(4, SUPERNODE)] == seeded.asks("a", room=1, urgent=Urgent(4, stalled=True))
