"""How fast a copy arrives, and when its origin is to blame."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import cast

import pytest

from pantala_protocol.redaction import RedactedURL
from pantala_protocol.task_id import TaskID
from pantala_supernode.origin.arrivals import SLOW_RATE, Arrival, Arrivals
from pantala_supernode.origin.body import Body, Layout
from pantala_supernode.origin.stream import StreamedBody
from tests.support.eventually import eventually

ID = TaskID("t")
LARGE = 1 << 40
FAST, SLOW = 2 * SLOW_RATE, SLOW_RATE // 4


@dataclass
class HeldBody:
    """Only what an arrival looks at."""

    held: bool = False


@dataclass
class Following:
    """One try, whose bytes arrive as the test says."""

    table: Arrivals = field(default_factory=Arrivals)
    body: HeldBody = field(default_factory=HeldBody)
    received: int = 0
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.arrival = self.table.begin(ID, RedactedURL("http://origin/f?secret=1"))
        self.stack = ExitStack()
        self.stack.enter_context(self.arrival.following(lambda: self.received))
        self.request = self.stack.enter_context(self.arrival.asking())

    def answer(self) -> None:
        self.request.body = cast("Body", self.body)

    def run(self, seconds: int, rate: int, missing: int | None = LARGE) -> list[bool]:
        """Let bytes arrive for some seconds. Returns in which of them the origin is slow."""
        slow = []
        for _ in range(seconds):
            self.now, self.received = self.now + 1.0, self.received + rate
            self.table.tick(lambda _: missing, self.now)
            slow.append(self.arrival.slow_since is not None)
        return slow


@pytest.fixture
def following() -> Iterator[Following]:
    following = Following()
    with following.stack:
        yield following


def test_an_origin_that_does_not_answer_is_slow_after_eight_seconds(following: Following) -> None:
    assert [False] * 8 + [True] * 2 == following.run(10, 0)
    assert "http://origin/… sends nothing." == following.arrival.problem
    assert 1001.0 == following.arrival.slow_since


def test_a_slow_body_is_reported_until_it_is_fast_again(following: Following) -> None:
    following.answer()
    assert not any(following.run(20, FAST))
    assert following.run(8, SLOW)[-1]
    assert following.arrival.problem.endswith(" sends less than 1 MiB/s.")
    assert not following.run(9, FAST)[-1]
    assert not any(following.run(20, FAST))


@pytest.mark.parametrize("held", [False, True])
def test_a_slow_body_that_waits_for_the_supernode_is_not_the_origins_fault(following: Following, held: bool) -> None:
    following.answer()
    following.body.held = held
    assert held != any(following.run(20, SLOW))


def test_a_slow_origin_that_is_nearly_done_is_not_reported(following: Following) -> None:
    following.answer()
    assert not any(following.run(20, SLOW, missing=29 * SLOW))
    assert any(following.run(20, SLOW, missing=31 * SLOW))
    assert any(following.run(20, SLOW, missing=None))


def test_the_end_of_a_try_ends_the_report_and_keeps_its_bytes(following: Following) -> None:
    following.answer()
    assert following.run(12, SLOW)[-1]
    following.received += 5 * SLOW_RATE
    following.stack.close()
    assert following.arrival.slow_since is None
    read = [following.arrival.rate(following.now)]
    while following.table.get(ID) is not None:
        following.now += 1.0
        following.table.tick(lambda _: LARGE, following.now)
        read.append(following.arrival.rate(following.now))
    assert 5 * SLOW_RATE / 5 <= max(read)
    assert [] == list(following.table)


def test_a_queued_copy_is_not_slow() -> None:
    arrival, now = Arrival(RedactedURL("http://origin/f")), 0.0
    with arrival.following(lambda: 0):
        for _ in range(30):
            now += 1.0
            arrival.sample(LARGE, now)
    assert arrival.slow_since is None


async def test_a_body_is_held_while_it_waits_for_its_reader_or_its_turn() -> None:
    turns: list[Callable[[], None]] = []
    body = StreamedBody(lambda amount, go: turns.append(go), lambda error: error)
    taking = asyncio.create_task(asyncio.to_thread(body.take, b"bytes"))
    await eventually(lambda: body.held, what="the reader has not chosen the blocks")
    reading = asyncio.create_task(anext(body.blocks(Layout(size=5))))
    await eventually(lambda: turns)
    assert (True, 0) == (body.held, body.received)
    turns.pop()()
    await taking
    assert (False, b"bytes") == (body.held, await reading)
