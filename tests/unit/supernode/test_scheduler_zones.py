"""A piece enters a zone once."""

import pytest

from pantala_supernode.swarm.scheduler import PieceChoice
from pantala_supernode.swarm.task_progress import SUPERNODE
from tests.support.scheduler_stage import ALL, POLICY, SchedulerStage


@pytest.fixture
def stage() -> SchedulerStage:
    return SchedulerStage()


# Zones


def test_a_piece_enters_a_zone_once(stage: SchedulerStage) -> None:
    stage.joins("here", have=ALL, zone="here")
    stage.joins("there", "near", zone="there")
    (choice,) = stage.asks("there", room=1)
    assert "here" == choice.provider
    assert choice.piece not in {other.piece for other in stage.asks("near", room=8)}
    stage.takes("there", choice)
    stage.progress.release("near")
    assert [PieceChoice(choice.piece, "there")] == stage.asks("near", room=1)


@pytest.fixture
def zones(stage: SchedulerStage) -> SchedulerStage:
    """The one piece is in both zones, but not with the peer ``near`` in the zone ``there``."""
    stage.shows(0b1)
    for zone in ("here", "there"):
        stage.joins(zone, have=0b1, zone=zone)
    stage.joins("near", zone="there")
    return stage


def test_a_piece_without_a_provider_in_the_zone_is_brought_in_again(zones: SchedulerStage) -> None:
    zones.there["there"].leaving = True
    assert [PieceChoice(0, "here")] == zones.asks("near")


def test_a_zone_waits_a_while_for_a_piece_on_its_way_into_it(zones: SchedulerStage) -> None:
    zones.joins("there", zone="there")
    zones.asks("there")
    assert [] == zones.asks("near")
    for now in (POLICY.zone_patience, 2 * POLICY.zone_patience):
        zones.scheduler.expire(now)
    assert [PieceChoice(0, "here")] == zones.asks("near", now=2 * POLICY.zone_patience)


def test_a_busy_peer_waits_for_its_zone(zones: SchedulerStage) -> None:
    zones.there["there"].leaving = True
    zones.shows(ALL)
    zones.progress.give("t", "near", 7, SUPERNODE)
    zones.shows(0b1)
    assert [] == zones.asks("near")


def test_a_peer_without_a_zone_takes_from_any(zones: SchedulerStage) -> None:
    zones.joins("a")
    assert {"here", "there"} > {*zones.providers("a")} != set()
