"""Exchanges that wait for work."""

import pytest

from pantala_supernode.sync.session import HeldExchanges, Hold, PeerSession


class Room(HeldExchanges):
    def holds(self, name: str, *tasks: str) -> Hold:
        session = PeerSession(name, "boot")
        session.open_tasks = dict.fromkeys(tasks, 0)
        return self.enter(session)


@pytest.fixture
def room() -> Room:
    return Room()


async def test_a_released_peer_is_answered_and_waits_no_more(room: Room) -> None:
    held = room.holds("a", "t")
    for _ in range(2):
        room.release("a")
    assert () == await held
    assert ([], [], 0) == (list(room.waiting("t")), room.tasks(), len(room))


async def test_a_former_exchange_does_not_end_a_newer_one(room: Room) -> None:
    former = room.holds("a", "t")
    assert former is room.leave("a")
    newer = room.holds("a", "t")
    assert room.leave("a", former) is None
    assert ["a"] == list(room.waiting("t"))
    assert newer is room.leave("a", newer)
    assert room.leave("a") is None


async def test_a_cancelled_exchange_gets_no_work(room: Room) -> None:
    held = room.holds("a", "t")
    assert room.listens("a")
    held.cancel()
    assert not room.listens("a")
    assert not room.listens("stranger")
    room.release("a")
    room.holds("b", "t").cancel()
    room.supersede("b")
    assert 0 == len(room)
