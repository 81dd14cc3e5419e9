"""A supernode ends at once, or after its tasks have moved."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from pantala_protocol import task_id
from pantala_protocol.statement import Member, Membership, WantedTask
from pantala_supernode.replicas.decision import CopyReport
from testbed.origin import Behaviour, Generated, Origin
from tests.support.eventually import eventually
from tests.support.supernode_lab import SupernodeProcess

BODY = Generated(1024 * 1024)
STAYS = Member("s-0", "http://127.0.0.1:9")
QUICK = 3.0
"""Seconds for an end without a wait, at most."""


class LeavingSupernode(SupernodeProcess):
    async def say(self, *wanted: WantedTask, leaving: bool, alone: bool = False) -> None:
        own = Member("s-1", self.url, leaving)
        membership = Membership(self.revision + 1, (own,) if alone else (STAYS, own))
        await self.state(*wanted, membership=membership, member="s-1")

    async def lives(self) -> bool:
        try:
            async with self.session.get(f"{self.url}/healthz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        os.kill(self.running.pid, number)

    async def ended(self, seconds: float) -> float:
        """Wait for its end, and return the seconds until then."""
        begun = time.monotonic()
        await eventually(lambda: self.running.returncode is not None, within=seconds)
        assert 0 == self.running.returncode
        return time.monotonic() - begun


@pytest.fixture
def patience() -> float:
    """Seconds that leaving may take, at most."""
    return 8


@pytest.fixture
async def supernode(tmp_path: Path, patience: float) -> AsyncIterator[LeavingSupernode]:
    async with LeavingSupernode(tmp_path, "--leave-seconds", str(patience)) as made:
        await made.start()
        await eventually(made.lives)
        yield made


@pytest.fixture
def wanted() -> WantedTask:
    return WantedTask("u", "ns/u", task_id.compute("x"), "http://127.0.0.1:9/nothing")


async def test_a_leaving_supernode_serves_until_it_has_no_task(supernode: LeavingSupernode, wanted: WantedTask) -> None:
    await supernode.say(wanted, leaving=True)
    supernode.signal()
    await asyncio.sleep(1)
    assert await supernode.lives()
    await supernode.say(leaving=True)
    assert await supernode.ended(QUICK) < QUICK


async def test_the_same_holds_if_the_signal_comes_before_the_order(
    supernode: LeavingSupernode, wanted: WantedTask
) -> None:
    await supernode.say(wanted, leaving=False)
    supernode.signal()
    await asyncio.sleep(1)
    await supernode.say(wanted, leaving=True)
    await asyncio.sleep(5)
    assert await supernode.lives()
    await supernode.say(leaving=True)
    assert await supernode.ended(QUICK) < QUICK


@pytest.mark.parametrize("patience", [30])
async def test_a_restart_takes_only_seconds_after_the_operator_has_asked(
    supernode: LeavingSupernode, wanted: WantedTask
) -> None:
    """An operator that leads asks every 2 s. A new leader may begin 15 s after a crash of the former one."""
    await supernode.say(wanted, leaving=False)
    supernode.signal()
    await asyncio.sleep(8)
    assert await supernode.lives()
    async with supernode.session.get(f"{supernode.url}/api/v1/progress") as answer:
        assert 200 == answer.status
    assert 4 < await supernode.ended(5 + QUICK)


@pytest.mark.parametrize("alone", [True, None])
async def test_a_lone_supernode_just_ends(supernode: LeavingSupernode, wanted: WantedTask, alone: bool | None) -> None:
    if alone is not None:
        await supernode.say(wanted, leaving=False, alone=True)
    supernode.signal()
    await supernode.ended(QUICK)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends(supernode: LeavingSupernode, wanted: WantedTask, second: signal.Signals) -> None:
    await supernode.say(wanted, leaving=True)
    supernode.signal()
    await asyncio.sleep(0.5)
    supernode.signal(second)
    await supernode.ended(QUICK)


@pytest.mark.parametrize("patience", [3])
async def test_leaving_has_a_time_limit(supernode: LeavingSupernode, wanted: WantedTask, patience: float) -> None:
    await supernode.say(wanted, leaving=True)
    supernode.signal()
    assert patience - 1 < await supernode.ended(patience + QUICK)


async def test_it_waits_for_running_copies(supernode: LeavingSupernode) -> None:
    task = task_id.compute("slow")
    async with Origin() as origin:
        origin.serve("/file", BODY, always=Behaviour(rate=BODY.size / 1.5))
        await supernode.say(WantedTask("u", "ns/u", task, origin.url("/file")), leaving=True)
        url, report = f"{supernode.url}/api/v1/copies/{task}", CopyReport(task, stage="idle")  # type: ignore[arg-type]
        while not report.generation:
            async with supernode.session.get(url) as answer:
                report = msgspec.json.decode(await answer.read(), type=CopyReport)
        query = {"generation": report.generation}
        async with supernode.session.get(f"{url}/content", params=query) as answer:
            supernode.signal()
            await supernode.say(leaving=True)
            assert BODY.read(0, BODY.size) == await answer.read()
    await supernode.ended(QUICK)
