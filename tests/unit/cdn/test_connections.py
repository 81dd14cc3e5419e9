"""The connections that read one copy."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from pantala_supernode import errors
from pantala_supernode.cdn.connections import Connections
from pantala_supernode.cdn.segments import ConnectionScale, Division, Segment, SegmentPlan
from tests.support.eventually import eventually

pytestmark = pytest.mark.virtual_time
PIECES = 160
DIVISION = Division(segment=4, window=0.002, gain=0.0, patience=0.0, least=0, fast=1e9)
Fault = Callable[[int, Segment], Exception | None]
"""The error of the n-th connection before its next piece."""


@dataclass
class Lab:
    """Connections whose pieces arrive one per millisecond."""

    fault: Fault = lambda _number, _segment: None
    most: int = 8
    spare: bool = True
    arrived: list[int] = field(default_factory=list)
    open: int = 0
    peak: int = 0
    begun: int = 0

    async def read(self, segment: Segment) -> None:
        number, self.begun = self.begun, self.begun + 1
        self.open += 1
        self.peak = max(self.peak, self.open)
        try:
            while segment.rest:
                await asyncio.sleep(0.001)
                error = self.fault(number, segment)
                if error is not None:
                    raise error
                self.arrived.append(segment.next)
                segment.advance()
        finally:
            self.open -= 1

    async def run(self) -> None:
        lead, self.scale = Segment(range(PIECES)), ConnectionScale(self.most, DIVISION)
        connections = Connections(
            SegmentPlan(0, 0, DIVISION.pieces(1)),
            self.scale,
            self.read,
            size=PIECES,
            received=lambda: len(self.arrived),
            spare=lambda: self.spare,
            window=DIVISION.window,
            clock=asyncio.get_running_loop().time,
        )
        await connections.run(lead, self.read(lead))


def fails(numbers: set[int], error: errors.SourceError, after: int = 1) -> Fault:
    """These connections fail in the piece ``after`` of a segment."""
    return lambda number, segment: error if number in numbers and segment.next % 4 == after else None


async def test_further_connections_share_the_lead_and_each_piece_arrives_once() -> None:
    lab = Lab()
    await lab.run()
    assert list(range(PIECES)) == sorted(lab.arrived)
    assert lab.peak == 8


@pytest.mark.parametrize(("most", "spare", "peak"), [(1, True, 1), (3, True, 3), (8, False, 1)])
async def test_the_number_of_connections_is_limited(most: int, spare: bool, peak: int) -> None:
    lab = Lab(most=most, spare=spare)
    await lab.run()
    assert (list(range(PIECES)), peak) == (sorted(lab.arrived), lab.peak)


@pytest.mark.parametrize(
    "error",
    [
        errors.SourceInterruptedError("cut"),
        errors.SourceAnswerError("429", retry_after=1.0),
        errors.SourceProtocolError("another range"),
        errors.SourceNotFoundError("404"),
    ],
)
async def test_others_read_the_pieces_of_a_connection_that_fails(error: errors.SourceError) -> None:
    lab = Lab(fault=fails({2}, error))
    await lab.run()
    assert list(range(PIECES)) == sorted(lab.arrived)
    assert 1 <= lab.scale.target < 8, "the failure limits the number"


async def test_the_pieces_of_a_lead_that_fails_are_read_too() -> None:
    lab = Lab(fault=lambda number, _: errors.SourceInterruptedError("cut") if number == 0 and lab.begun > 2 else None)
    await lab.run()
    assert list(range(PIECES)) == sorted(lab.arrived)


async def test_the_error_of_the_last_connection_ends_the_try() -> None:
    lab = Lab(fault=lambda *_: errors.SourceTimeoutError("late") if len(lab.arrived) > 80 else None)
    with pytest.raises(errors.SourceTimeoutError):
        await lab.run()
    assert lab.open == 0


@pytest.mark.parametrize(
    "error",
    [
        errors.SourceChangedError("new content"),
        errors.LengthMismatchError("too long"),
        errors.VolumeFullError("no room"),
        RuntimeError("a bug"),
    ],
)
async def test_a_fatal_error_ends_all_connections_at_once(error: Exception) -> None:
    lab = Lab(fault=lambda number, _: error if number == 3 else None)
    with pytest.raises(type(error)):
        await lab.run()
    assert lab.open == 0
    assert len(lab.arrived) < PIECES


async def test_a_cancellation_leaves_nothing_running() -> None:
    lab = Lab()
    running = asyncio.create_task(lab.run())
    await eventually(lambda: lab.open == 8, every=0.001)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert lab.open == 0
    assert {running, asyncio.current_task()} >= asyncio.all_tasks()
