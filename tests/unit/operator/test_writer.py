"""The queue of writes: which failed writes count as late."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pantala_operator.control.write_queue import WriteQueue
from pantala_operator.control.writer import Writer
from pantala_operator.events import OperatorEvents
from pantala_operator.resources.api import TaskResource
from pantala_operator.term import Term
from pantala_operator.watch.observation import Observation
from tests.support.cluster import MemoryClock, MemoryCluster
from tests.support.eventually import eventually


class Stage:
    """A writer whose requests to delete a Task fail."""

    def __init__(self) -> None:
        self.clock, self.cluster = MemoryClock(), MemoryCluster()
        self.cluster.put(
            "tasks", {"metadata": {"namespace": "ns", "name": "t"}, "spec": {"source": {"url": "http://x/f"}}}
        )
        self.cluster.forbidden.add("delete tasks")
        events = OperatorEvents()
        self.queue = WriteQueue(events, self.clock, Term(self.clock, alone=True))
        self.writer = Writer(self.queue, self.cluster, Observation(), events, self.clock, 10.0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.queue.run())
        yield
        running.cancel()

    async def fail(self) -> None:
        """Let one write fail. Nothing repeats it."""
        failed = self.queue.failed
        (task,) = await self.cluster.list_all(TaskResource)
        self.writer.delete(task)
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
