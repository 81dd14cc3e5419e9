"""The peer on the supernode's own machine."""

import pytest

from pantala_supernode.swarm.task_progress import SUPERNODE
from tests.support.scheduler_stage import ALL, LOCAL, POLICY, SchedulerStage


@pytest.fixture
def stage() -> SchedulerStage:
    return SchedulerStage()


# The peer on the supernode's machine


def test_the_local_peer_takes_all_pieces_from_a_busy_supernode(stage: SchedulerStage) -> None:
    stage.joins("far", have=ALL)
    stage.joins(LOCAL)
    assert [SUPERNODE] * 4 == stage.providers(LOCAL, provider="far")
    assert POLICY.supernode_uploads < 4


def test_the_local_peer_takes_no_room_from_the_others() -> None:
    stage = SchedulerStage(pieces=16)
    stage.joins(LOCAL, "far")
    taken, given = stage.asks(LOCAL), stage.asks("far")
    assert [SUPERNODE] * POLICY.supernode_uploads == [choice.provider for choice in given]
    assert not {choice.piece for choice in taken} & {choice.piece for choice in given}


def test_a_piece_that_the_local_peer_gets_in_a_moment_comes_from_there(stage: SchedulerStage) -> None:
    stage.joins(LOCAL, "far")
    taken = stage.asks(LOCAL)
    assert [] == stage.asks("far"), "the local peer keeps up"
    stage.takes(LOCAL, *taken)
    stage.asks(LOCAL)
    assert {LOCAL} == {*stage.providers("far")}


def test_a_piece_of_the_local_peer_leaves_the_machine_once() -> None:
    stage = SchedulerStage(pieces=2)
    stage.joins(LOCAL, "a", "b", zone="z")
    stage.takes(LOCAL, *stage.asks(LOCAL))
    given = {name: stage.asks(name, room=1) for name in ("a", "b")}
    assert {LOCAL} == {choice.provider for choice in given["a"] + given["b"]}, "the supernode need not give it again"
    assert {0, 1} == {given["a"][0].piece, given["b"][0].piece}
    for name, choices in given.items():
        stage.takes(name, *choices)


def test_the_supernode_helps_the_full_local_peer_for_idle_peers(stage: SchedulerStage) -> None:
    stage.joins(LOCAL, have=ALL)
    stage.joins("a", "b")
    assert {LOCAL} == {*stage.providers("a")}, "it is full then"
    assert [SUPERNODE] == stage.providers("b")
    stage.there[LOCAL].leaving = True
    assert {SUPERNODE} == {*stage.providers("b")}, "no other provider is left"


def test_the_local_peer_is_first_in_line(stage: SchedulerStage) -> None:
    stage.joins(LOCAL, have=0b1111)
    stage.joins("far")
    assert [LOCAL, "far"] == stage.line(LOCAL, "far")
