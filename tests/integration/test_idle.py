"""Processes without anything to do sleep. A node has other work than Pantala's."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.usage import cpu_seconds
from pantala_protocol import task_id
from pantala_protocol.statement import WantedTask
from testbed.process import Process
from tests.support.eventually import eventually
from tests.support.supernode_lab import StatedSupernode, SupernodeLab, SupernodeProcess

pytestmark = pytest.mark.alone

TASKS = 20


class Wakeups:
    """Counts how often the event loop wakes up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        selector: Any = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
        select = selector.select

        def counted(timeout: float | None) -> Any:
            self.count += timeout is None or timeout > 0
            return select(timeout)

        monkeypatch.setattr(selector, "select", counted)

    async def in_seconds(self, seconds: float) -> int:
        before = self.count
        await asyncio.sleep(seconds)
        return self.count - before


def wanted(url: str, *peers: str) -> tuple[WantedTask, ...]:
    urls = [f"{url}{number}" for number in range(TASKS)]
    return tuple(WantedTask(each, each, task_id.compute(each), each, path=each[-5:], peers=peers) for each in urls)


async def published(supernode: StatedSupernode, root: Path) -> None:
    await supernode.cached()
    await eventually(lambda: TASKS == len(list((root / "files").glob("*"))), within=30)


async def test_an_idle_supernode_and_its_peer_rarely_wake_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with SupernodeLab(tmp_path) as lab:
        for number in range(TASKS):
            lab.serve(200_000, f"/file{number}")
        await lab.peer("n1")
        await lab.state(*wanted(lab.origin.url("/file"), "n1"))
        await published(lab, tmp_path / "n1")
        await asyncio.sleep(2)
        assert await Wakeups(monkeypatch).in_seconds(4) < 8 * 4


async def test_idle_processes_take_little_of_a_core(tmp_path: Path) -> None:
    """The limit is generous, because the machine may be busy. Usually they take about a tenth of it."""
    async with SupernodeLab(tmp_path / "origin") as lab, SupernodeProcess(tmp_path) as supernode:
        for number in range(TASKS):
            lab.serve(200_000, f"/file{number}")
        await supernode.start()
        root = tmp_path / "n1"
        flags = ("--supernode", supernode.url, "--listen", "127.0.0.1:0", "--root", str(root), "--name", "n1")
        peer = Process([sys.executable, "-m", "pantala_peer", *flags], tmp_path / "peer.log")
        try:
            await eventually(supernode.is_ready, within=30)
            await supernode.state(*wanted(lab.origin.url("/file"), "n1"))
            await published(supernode, root)
            await asyncio.sleep(2)
            processes = (supernode.running.pid, peer.pid)
            before = [cpu_seconds(pid) for pid in processes]
            await asyncio.sleep(5)
            spent = [cpu_seconds(pid) - earlier for pid, earlier in zip(processes, before, strict=True)]
        finally:
            peer.kill()
    assert max(spent) < 0.03 * 5, spent
