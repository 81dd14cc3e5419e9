"""Concurrent callers share one call."""

import asyncio

import pytest

from pantala_process import flight
from pantala_process.flight import SingleFlight, Turns


class Work:
    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.go_on = asyncio.Event()

    async def __call__(self) -> int:
        self.calls += 1
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.calls


async def test_concurrent_callers_share_one_call() -> None:
    work, flight = Work(), SingleFlight[str, int]()
    callers = [asyncio.create_task(flight.share("key", work)) for _ in range(3)]
    await asyncio.sleep(0)
    work.go_on.set()
    assert [1, 1, 1] == await asyncio.gather(*callers)
    assert 2 == await flight.share("key", work)


async def test_all_callers_get_the_error_and_the_next_caller_tries_again() -> None:
    async def fail() -> int:
        await asyncio.sleep(0)
        raise ValueError("no")

    flight = SingleFlight[str, int]()
    results = await asyncio.gather(*(flight.share("key", fail) for _ in range(2)), return_exceptions=True)
    assert ["no", "no"] == [str(result) for result in results]
    work = Work()
    work.go_on.set()
    assert 1 == await flight.share("key", work)


@pytest.mark.parametrize("stop_unattended", [False, True])
async def test_a_cancelled_caller_leaves_alone(stop_unattended: bool) -> None:
    work, flight = Work(), SingleFlight[str, int](stop_unattended=stop_unattended)
    first, second = (asyncio.create_task(flight.share("key", work)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0.01)
    assert 0 == work.cancelled
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    third = asyncio.create_task(flight.share("key", work))
    await asyncio.sleep(0.01)
    work.go_on.set()
    assert (2 if stop_unattended else 1) == await third
    assert int(stop_unattended) == work.cancelled


async def test_close_cancels_all_calls() -> None:
    work, flight = Work(), SingleFlight[str, int]()
    caller = asyncio.create_task(flight.share("key", work))
    await asyncio.sleep(0.01)
    await flight.close()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert 1 == work.cancelled


async def test_calls_let_other_work_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "_TURN", 0.0)
    done: list[int] = []
    turns = Turns(done.append)
    turns.add(range(5))
    assert [0] == done
    turns.add([3, 9])
    assert [0, 3] == done
    await asyncio.sleep(0)
    assert [0, 3, 1] == done
    for _ in range(5):
        await asyncio.sleep(0)
    assert [0, 3, 1, 2, 4, 9] == done


async def test_an_error_of_one_call_loses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    turns: Turns[int] = Turns(lambda number: done.append(1 // number))
    with pytest.raises(ZeroDivisionError):
        turns.add([0, 1, -1])
    await asyncio.sleep(0)
    assert [1, -1] == done
