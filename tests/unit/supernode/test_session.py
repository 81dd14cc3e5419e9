"""Held exchanges: which peers wait for which tasks, and how they are answered."""

import pytest

from pantala_supernode.sync.session import HeldExchanges, Hold, PeerSession, SupersededError


class Room(HeldExchanges):
    def holds(self, name: str, *tasks: str) -> Hold:
        session = PeerSession(name, "boot")
        session.open_tasks = dict.fromkeys(tasks)
        return self.enter(session)


@pytest.fixture
def room() -> Room:
    return Room()


async def test_peers_are_found_by_the_tasks_that_they_wait_for(room: Room) -> None:
    room.holds("a", "t1", "t2")
    room.holds("b", "t2")
    room.holds("c")
    assert [["a"], ["a", "b"], []] == [list(room.waiting(task)) for task in ("t1", "t2", "x")]
    assert (["t1", "t2"], 3) == (room.tasks(), len(room))


async def test_a_released_peer_is_answered_and_waits_no_more(room: Room) -> None:
    held = room.holds("a", "t")
    for _ in range(2):
        room.release("a")
    assert () == await held
    assert ([], [], 0) == (list(room.waiting("t")), room.tasks(), len(room))


async def test_a_superseded_exchange_ends_with_an_error(room: Room) -> None:
    held = room.holds("a", "t")
    for _ in range(2):
        room.supersede("a")
    with pytest.raises(SupersededError):
        await held


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


async def test_all_exchanges_can_be_answered_at_once(room: Room) -> None:
    held = [room.holds(name, "t") for name in "abc"]
    room.release_all()
    assert [(), (), ()] == [await one for one in held]
