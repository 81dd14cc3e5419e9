"""Who waits, for what, and how they are answered."""

import pytest

from pantala_supernode.sync.session import HeldExchanges, PeerSession, SupersededError


def session(name: str, *tasks: str) -> PeerSession:
    made = PeerSession(name, "boot")
    made.open_tasks = dict.fromkeys(tasks)
    return made


async def test_who_waits_is_known_by_the_tasks_it_waits_for() -> None:
    room = HeldExchanges()
    room.enter(session("a", "t1", "t2"))
    room.enter(session("b", "t2"))
    room.enter(session("c"))
    assert [["a"], ["a", "b"], []] == [list(room.waiting(task)) for task in ("t1", "t2", "x")]
    assert (["t1", "t2"], 3) == (room.tasks(), len(room))


async def test_who_is_released_is_answered_and_waits_no_more() -> None:
    room = HeldExchanges()
    held = room.enter(session("a", "t"))
    room.release("a")
    room.release("a")
    assert () == await held
    assert ([], [], 0) == (list(room.waiting("t")), room.tasks(), len(room))


async def test_who_is_superseded_is_told_so() -> None:
    room = HeldExchanges()
    held = room.enter(session("a", "t"))
    room.supersede("a")
    room.supersede("a")
    with pytest.raises(SupersededError):
        await held


async def test_a_former_wait_does_not_end_a_newer_one() -> None:
    room = HeldExchanges()
    former = room.enter(session("a", "t"))
    assert former is room.leave("a")
    newer = room.enter(session("a", "t"))
    assert room.leave("a", former) is None
    assert ["a"] == list(room.waiting("t"))
    assert newer is room.leave("a", newer)
    assert room.leave("a") is None


async def test_who_was_cancelled_is_not_given_work() -> None:
    room = HeldExchanges()
    held = room.enter(session("a", "t"))
    assert room.listens("a")
    held.cancel()
    assert not room.listens("a")
    assert not room.listens("stranger")
    room.release("a")
    other = room.enter(session("b", "t"))
    other.cancel()
    room.supersede("b")
    assert 0 == len(room)


async def test_all_can_be_answered_at_once() -> None:
    room = HeldExchanges()
    held = [room.enter(session(name, "t")) for name in "abc"]
    room.release_all()
    assert [(), (), ()] == [await one for one in held]
