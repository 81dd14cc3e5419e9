"""How a supernode ends: at once, or after its tasks have moved."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import msgspec
import pytest

from pantala_protocol import task_id
from pantala_protocol.membership import Member, Membership
from pantala_protocol.statement import Statement, WantedTask
from pantala_supernode.replicas.decision import CopyReport
from testbed.origin import Behaviour, Generated, Origin
from tests.support.eventually import eventually

BODY = Generated(1024 * 1024)
STAYS = Member("s-0", "http://127.0.0.1:9")
QUICK = 3.0
"""Seconds that an end without a wait takes at most."""


class Process:
    """The supernode s-1, and what is stated to it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, session: aiohttp.ClientSession) -> None:
        self.process = process
        self.url = url
        self.session = session
        self.revision = 0

    async def state(self, *wanted: WantedTask, leaving: bool, alone: bool = False) -> None:
        self.revision += 1
        own = Member("s-1", self.url, leaving)
        membership = Membership(self.revision, (own,) if alone else (STAYS, own))
        body = msgspec.json.encode(Statement(self.revision, wanted, membership, "s-1"))
        async with self.session.put(f"{self.url}/api/v1/statement", data=body) as answer:
            assert 200 == answer.status

    async def lives(self) -> bool:
        try:
            async with self.session.get(f"{self.url}/healthz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    async def ended(self, seconds: float) -> float:
        """Seconds until it ended."""
        begun = time.monotonic()
        async with asyncio.timeout(seconds):
            assert 0 == await self.process.wait()
        return time.monotonic() - begun


@pytest.fixture
def patience() -> float:
    """Seconds that leaving may take."""
    return 8


@pytest.fixture
async def supernode(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int], patience: float
) -> AsyncIterator[Process]:
    port = unused_tcp_port_factory()
    flags = ["--no-auth", "--data", str(tmp_path), "--listen", f"127.0.0.1:{port}", "--leave-seconds", str(patience)]
    flags += ["--piece-listen", f"127.0.0.1:{unused_tcp_port_factory()}"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pantala_supernode", *flags, stderr=asyncio.subprocess.DEVNULL
    )
    async with aiohttp.ClientSession() as session:
        made = Process(process, f"http://127.0.0.1:{port}", session)
        await eventually(made.lives)
        yield made
    if process.returncode is None:
        process.kill()
        await process.wait()


@pytest.fixture
def wanted() -> WantedTask:
    return WantedTask("u", "ns/u", task_id.compute("x"), "http://127.0.0.1:9/nothing")


async def test_one_that_leaves_serves_until_nothing_is_wanted_of_it(supernode: Process, wanted: WantedTask) -> None:
    await supernode.state(wanted, leaving=True)
    supernode.signal()
    await asyncio.sleep(1)
    assert await supernode.lives()
    await supernode.state(leaving=True)
    assert await supernode.ended(QUICK) < QUICK


async def test_one_that_is_said_to_leave_after_the_signal_does_the_same(supernode: Process, wanted: WantedTask) -> None:
    await supernode.state(wanted, leaving=False)
    supernode.signal()
    await asyncio.sleep(1)
    await supernode.state(wanted, leaving=True)
    await asyncio.sleep(5)
    assert await supernode.lives()
    await supernode.state(leaving=True)
    assert await supernode.ended(QUICK) < QUICK


async def test_a_restart_costs_but_seconds(supernode: Process, wanted: WantedTask) -> None:
    await supernode.state(wanted, leaving=False)
    supernode.signal()
    assert 4 < await supernode.ended(5 + QUICK)


@pytest.mark.parametrize("alone", [True, None])
async def test_who_is_alone_ends_at_once(supernode: Process, wanted: WantedTask, alone: bool | None) -> None:
    if alone is not None:
        await supernode.state(wanted, leaving=False, alone=True)
    supernode.signal()
    await supernode.ended(QUICK)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(supernode: Process, wanted: WantedTask, second: signal.Signals) -> None:
    await supernode.state(wanted, leaving=True)
    supernode.signal()
    await asyncio.sleep(0.5)
    supernode.signal(second)
    await supernode.ended(QUICK)


@pytest.mark.parametrize("patience", [3])
async def test_it_does_not_wait_for_ever(supernode: Process, wanted: WantedTask, patience: float) -> None:
    await supernode.state(wanted, leaving=True)
    supernode.signal()
    assert patience - 1 < await supernode.ended(patience + QUICK)


async def test_who_copies_from_it_is_waited_for(supernode: Process) -> None:
    task = task_id.compute("slow")
    async with Origin() as origin:
        origin.serve("/file", BODY, always=Behaviour(rate=BODY.size / 1.5))
        await supernode.state(WantedTask("u", "ns/u", task, origin.url("/file")), leaving=True)
        url, report = f"{supernode.url}/api/v1/copies/{task}", CopyReport(task, stage="idle")  # type: ignore[arg-type]
        while not report.generation:
            async with supernode.session.get(url) as answer:
                report = msgspec.json.decode(await answer.read(), type=CopyReport)
        query = {"generation": report.generation}
        async with supernode.session.get(f"{url}/content", params=query) as answer:
            supernode.signal()
            await supernode.state(leaving=True)
            assert BODY.read(0, BODY.size) == await answer.read()
    await supernode.ended(QUICK)
