"""How the client of one supernode sends its statements."""

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest

from pantala_operator.events import OperatorEvents, StatementTaken
from pantala_operator.supernodes import statement_room
from pantala_operator.supernodes.client import SupernodeClient
from pantala_operator.supernodes.statement_room import FittedStatement
from pantala_operator.term import Term
from pantala_protocol.statement import Statement, StatementReceipt
from tests.support.eventually import eventually
from tests.support.operator_stage import LoopClock
from tests.support.supernode import MemorySupernode


class ClientStage(MemorySupernode):
    """A client and its supernode."""

    def __init__(self) -> None:
        super().__init__()
        events, clock = OperatorEvents(), LoopClock()
        self.taken: list[StatementTaken] = []
        events.subscribe(StatementTaken, self.taken.append)
        self.client = SupernodeClient("", "http://memory", self, events, clock, 1.0, Term(clock, alone=True))
        self.removes = False
        """True: the client's supernode is removed while it answers."""

    async def state(self, statement: Statement) -> StatementReceipt:
        receipt = await super().state(statement)
        if self.removes:
            self.client.mute()
        return receipt

    async def run(self) -> None:
        self.client.want(Statement(0))
        running = asyncio.create_task(self.client.run())
        await eventually(lambda: self.client.is_empty)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_other_work_continues_while_a_statement_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, moved = ClientStage(), threading.Event()

    def fit(statement: Statement, _: Any) -> FittedStatement:
        loop.call_soon_threadsafe(moved.set)
        assert moved.wait(5)
        return FittedStatement(statement)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(statement_room, "fit", fit)
    await stage.run()
    assert 1 == len(stage.taken)


@pytest.mark.parametrize("removes", [False, True])
async def test_a_removed_supernode_reports_no_missing_tasks(removes: bool) -> None:
    stage = ClientStage()
    stage.removes = removes
    await stage.run()
    assert (not removes) == bool(stage.taken)
