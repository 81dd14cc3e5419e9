"""The queue of writes: which writes count as failed or late."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from pantala_operator.control.write_queue import WriteQueue
from pantala_operator.errors import ClusterForbiddenError, NotLeadingError
from pantala_operator.events import OperatorEvents
from pantala_operator.term import Term
from tests.support.cluster import MemoryClock
from tests.support.eventually import eventually
from tests.support.operator_stage import OperatorStage


class Stage:
    """A queue whose jobs fail."""

    def __init__(self) -> None:
        self.clock = MemoryClock()
        self.queue = WriteQueue(OperatorEvents(), self.clock, Term(self.clock, alone=True))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.queue.run())
        yield
        running.cancel()

    async def fail(self) -> None:
        """Let one write fail. Nothing repeats it."""

        async def job() -> None:
            raise ClusterForbiddenError("no")

        failed = self.queue.failed
        self.queue.submit("ns/t", job)
        await eventually(lambda: self.queue.failed > failed)


async def test_a_write_is_late_while_it_fails_again_and_again() -> None:
    stage = Stage()
    async with stage.running():
        for waited in (0.0, 8.0, 16.0, 24.0):
            await stage.fail()
            assert waited == stage.queue.lag()
            stage.clock.advance(8.0)


async def test_a_failed_write_that_nothing_repeats_is_not_late_for_ever() -> None:
    """The object was edited back meanwhile, or another operator has led and written it."""
    stage = Stage()
    async with stage.running():
        await stage.fail()
        stage.clock.advance(16.0)
        assert 16.0 == stage.queue.lag()
        stage.clock.advance(1.0)
        assert 0.0 == stage.queue.lag()
        await stage.fail()
        stage.clock.advance(2.0)
        assert 2.0 == stage.queue.lag(), "the new failure is the first one"


async def test_a_write_that_the_end_of_the_term_prevents_does_not_count_as_failed() -> None:
    """The new leader plans the object again, and writes it."""
    stage, refused = Stage(), asyncio.Event()

    async def job() -> None:
        refused.set()
        raise NotLeadingError("this replica does not lead")

    with capture_logs() as logged:
        async with stage.running():
            stage.queue.submit("ns/t", job)
            await refused.wait()
            await asyncio.sleep(0.01)
    assert (0, []) == (stage.queue.failed, logged)


@pytest.mark.virtual_time
async def test_a_deletion_needs_no_further_request(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, calls = OperatorStage(), list[str]()
    await stage.connect("n1")
    monkeypatch.setattr(stage.cluster, "_check", calls.append)
    async with stage.operator():
        stage.task(ttlSecondsAfterFinished=0)
        await stage.deliver()
        await eventually(lambda: "delete tasks" in calls)
        await asyncio.sleep(10)
    assert (1, 0) == (calls.count("delete tasks"), calls.count("get tasks"))
