"""Places at the supernode: who fetches keeps its place, and who does not loses it."""

import random

import pytest

from pantala_protocol.statement import CDNStatus
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.peer import SwarmPeer
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.scheduler import PieceChoice, SchedulerManager
from pantala_supernode.swarm.task_progress import SUPERNODE
from pantala_supernode.tasks.copy import Copy
from tests.unit.supernode.conftest import ID

POLICY = SchedulingPolicy(window=4, supernode_uploads=4)
LOCAL = "the supernode's node"
UNKNOWN = 1.0
"""Seconds of patience before any piece was reported."""


class Stage:
    """A scheduler over one task of eight pieces, and a clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.progress = ProgressManager(LOCAL)
        self.there: dict[str, SwarmPeer] = {}
        self.scheduler = SchedulerManager(self.progress, policy=POLICY, chance=random.Random(1), lookup=self.there.get)
        self.places = self.scheduler.places
        self.swarm = self.progress.init_task("t")
        self.swarm.copy = Copy(ID, CDNStatus.SUCCESS, cached=0b1111_1111)

    def joins(self, *names: str, have: int = 0) -> None:
        for name in names:
            self.there[name] = SwarmPeer(name, "10.0.0.1", 65002, b"key")
            self.progress.init_progress("t", name, have)

    def asks(self, name: str, room: int = 4) -> list[PieceChoice]:
        return self.scheduler.schedule("t", name, room=room, now=self.now)

    def begins(self, name: str, *choices: PieceChoice) -> None:
        for choice in choices:
            self.places.begun("t", name, choice.piece, now=self.now)

    def ends(self, name: str, *choices: PieceChoice, whole: bool = True) -> None:
        for choice in choices:
            self.places.ended("t", name, choice.piece, whole=whole, now=self.now)

    def reports(self, name: str, *choices: PieceChoice) -> None:
        for choice in choices:
            self.places.reported("t", name, 1 << choice.piece, now=self.now)
            self.progress.succeed("t", name, 1 << choice.piece, lambda _piece: 1, now=0.0)

    def after(self, seconds: float) -> set[str]:
        """The tasks in which a place lapsed."""
        self.now += seconds
        return self.places.expire(self.now)

    def booked(self, provider: str = SUPERNODE) -> int:
        return self.progress.service[provider].booked

    def knows(self, seconds: float) -> None:
        """A piece took ``seconds``."""
        self.joins("known")
        choices = self.asks("known")
        self.begins("known", *choices)
        self.now += seconds
        self.ends("known", *choices)
        self.reports("known", *choices)
        self.progress.forget_peer("known")
        self.scheduler.forget("known")


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_place_that_is_not_used_goes_to_the_next(stage: Stage) -> None:
    stage.joins("silent", "next")
    assert (4, 0) == (len(stage.asks("silent")), len(stage.asks("next")))
    assert set() == stage.after(UNKNOWN)
    assert {"t"} == stage.after(0.1)
    assert 4 == len(stage.asks("next"))


def test_a_fetch_keeps_its_place_however_long_it_takes(stage: Stage) -> None:
    stage.joins("slow")
    stage.begins("slow", *stage.asks("slow"))
    assert (set(), 4) == (stage.after(80.0), stage.booked())


@pytest.mark.parametrize(
    ("usual", "patience"), [(0.01, POLICY.least_patience), (0.4, 0.8), (30.0, POLICY.most_patience)]
)
def test_the_patience_is_two_usual_piece_times_within_bounds(stage: Stage, usual: float, patience: float) -> None:
    stage.knows(usual)
    stage.joins("silent")
    stage.asks("silent")
    assert (set(), {"t"}) == (stage.after(patience - 0.01), stage.after(0.02))


def test_the_bounds_keep_another_client_waiting_for_3_s_at_most() -> None:
    """A pull is held for 1.5 s. So a place may go to one more silent client, and is looked at four times a second."""
    assert 1.5 + POLICY.most_patience + 0.25 <= 3.0


def test_a_late_client_takes_its_place_again(stage: Stage) -> None:
    stage.joins("late", "next")
    choices = stage.asks("late")
    stage.after(2.0)
    stage.begins("late", *choices)
    assert (4, []) == (stage.booked(), stage.asks("next"))
    stage.ends("late", *choices)
    stage.reports("late", *choices)
    assert (0, 4) == (stage.booked(), stage.swarm.supernode_bytes)


def test_a_late_client_may_exceed_the_supernode_s_places(stage: Stage) -> None:
    stage.joins("late", "next")
    choices = stage.asks("late")
    stage.after(2.0)
    stage.begins("next", *stage.asks("next"))
    stage.begins("late", choices[0])
    assert 5 == stage.booked()


def test_a_late_report_without_a_fetch_counts(stage: Stage) -> None:
    stage.joins("late")
    choices = stage.asks("late")
    stage.after(2.0)
    stage.reports("late", *choices)
    assert (0, 4, 0) == (stage.booked(), stage.swarm.peers["late"].have.bit_count(), stage.progress.outstanding("late"))


def test_a_piece_that_was_taken_back_is_given_again_to_who_fetches_it(stage: Stage) -> None:
    stage.joins("late")
    choices = stage.asks("late")
    stage.progress.release("late")
    stage.begins("late", *choices)
    assert (4, 4) == (stage.booked(), stage.progress.outstanding("late"))


def test_what_a_peer_has_or_the_supernode_lacks_takes_no_place(stage: Stage) -> None:
    stage.joins("has", have=0b1)
    stage.swarm.copy = Copy(ID, CDNStatus.RUNNING, cached=0b1)
    stage.begins("has", PieceChoice(0, SUPERNODE), PieceChoice(1, SUPERNODE))
    stage.begins("stranger", PieceChoice(0, SUPERNODE))
    assert 0 == stage.booked()


def test_a_fetch_that_breaks_keeps_its_place_for_a_moment(stage: Stage) -> None:
    stage.joins("dies")
    choices = stage.asks("dies")
    stage.begins("dies", *choices)
    stage.after(10.0)
    stage.ends("dies", *choices, whole=False)
    assert (set(), {"t"}, 0) == (stage.after(0.9), stage.after(0.2), stage.booked())


def test_a_piece_that_was_sent_keeps_its_place_longer(stage: Stage) -> None:
    """The last bytes may still be on their way: the network holds them, and a slow client needs time for them."""
    stage.knows(1.0)
    stage.joins("dies")
    choices = stage.asks("dies")
    stage.begins("dies", *choices)
    stage.ends("dies", *choices)
    assert (set(), {"t"}, 0) == (stage.after(3.9), stage.after(0.2), stage.booked())


def test_two_fetches_of_a_piece_count_as_one_place(stage: Stage) -> None:
    stage.joins("twice")
    choice = stage.asks("twice", room=1)[0]
    stage.begins("twice", choice, choice)
    stage.ends("twice", choice, whole=False)
    assert (set(), 1) == (stage.after(80.0), stage.booked())


def test_a_silent_peer_loses_its_places_at_peers_too(stage: Stage) -> None:
    stage.joins("seed", have=0b1111)
    stage.joins("silent")
    given = stage.asks("silent")
    assert {"seed", SUPERNODE} == {choice.provider for choice in given}
    stage.after(2.0)
    assert (0, 0) == (stage.booked(), stage.booked("seed"))


def test_a_peer_that_fetches_keeps_its_places_at_peers(stage: Stage) -> None:
    stage.joins("seed", have=0b1111)
    stage.joins("busy")
    given = stage.asks("busy")
    mine = [choice for choice in given if choice.provider == SUPERNODE]
    stage.begins("busy", mine[0])
    stage.after(2.0)
    assert (1, len(given) - len(mine)) == (stage.booked(), stage.booked("seed"))


def test_a_place_at_a_peer_lapses_later(stage: Stage) -> None:
    stage.knows(2.0)
    stage.joins("seed", have=0b1111_1111)
    stage.joins("silent")
    assert {"seed"} == {choice.provider for choice in stage.asks("silent")}
    assert (set(), {"t"}, 0) == (stage.after(7.9), stage.after(0.2), stage.booked("seed"))


def test_silent_peers_do_not_lower_the_share_of_others(stage: Stage) -> None:
    """The share is the mean of the busy peers."""
    stage.joins("a", "b", "c", "next")
    for name in "abc":
        stage.asks(name, room=1)
    stage.after(2.0)
    for _ in range(8):
        choices = stage.asks("next", room=1)
        stage.begins("next", *choices)
        stage.ends("next", *choices)
        stage.reports("next", *choices)
    assert 8 == stage.swarm.peers["next"].have.bit_count()


def test_what_a_silent_peer_was_given_is_new_for_others_while_the_file_arrives(stage: Stage) -> None:
    stage.swarm.copy = Copy(ID, CDNStatus.RUNNING, cached=0b11)
    stage.joins("silent", "next")
    stage.asks("silent")
    assert [] == stage.asks("next")
    stage.after(2.0)
    assert 2 == len(stage.asks("next"))


def test_a_silent_local_peer_holds_nothing_back(stage: Stage) -> None:
    stage.joins(LOCAL, "next")
    stage.asks(LOCAL, room=8)
    stage.after(2.0)
    assert (0, 4) == (stage.swarm.peers[LOCAL].expected, len(stage.asks("next")))


def test_a_peer_that_returns_under_its_name_starts_afresh(stage: Stage) -> None:
    """A place of the former peer must not end fetches that the new one never began."""
    stage.joins("back")
    former = stage.asks("back")
    stage.begins("back", *former)
    stage.progress.forget_peer("back")
    stage.scheduler.forget("back")
    stage.ends("back", *former)
    stage.joins("back")
    assert 4 == len(stage.asks("back"))
    assert {"t"} == stage.after(UNKNOWN + 0.1), "no fetch was begun, so all places lapse"
    assert 0 == stage.booked()
