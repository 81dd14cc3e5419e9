"""The memory of the processes stays small with many tasks and connections."""

import asyncio
import contextlib
import sys
from pathlib import Path

import pytest

from pantala_protocol import task_id
from pantala_protocol.statement import WantedTask
from testbed.process import Process, free_ports
from tests.support.eventually import eventually
from tests.support.supernode_lab import SupernodeLab, SupernodeProcess

pytestmark = pytest.mark.alone

MIB = 1024 * 1024
TASKS = 200
CONNECTIONS = 64


def peak(pid: int) -> int:
    """The most memory in bytes that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


async def test_two_hundred_tasks_and_many_connections_take_little_memory(tmp_path: Path) -> None:
    """Each task has one piece of 4 MiB, so that a leak of one piece for each task is seen."""
    (port,) = free_ports(1)
    root = tmp_path / "n1"
    async with (
        SupernodeLab(tmp_path / "origin") as lab,
        SupernodeProcess(tmp_path, "--piece-size-rule", "dragonfly") as supernode,
        contextlib.AsyncExitStack() as stack,
    ):
        await supernode.start()
        await eventually(supernode.is_ready, within=30)
        flags = ("--supernode", supernode.url, "--listen", f"127.0.0.1:{port}", "--root", str(root), "--name", "n1")
        peer = Process([sys.executable, "-m", "pantala_peer", *flags], tmp_path / "peer.log")
        stack.callback(peer.kill)
        for _ in range(CONNECTIONS):
            _, writer = await eventually(
                lambda: asyncio.open_connection("127.0.0.1", port), within=30, ignoring=OSError
            )
            stack.callback(writer.close)
        wanted = []
        for number in range(TASKS):
            lab.serve(4 * MIB, f"/{number}")
            url = lab.origin.url(f"/{number}")
            wanted.append(WantedTask(url, url, task_id.compute(url), url, path=str(number), peers=("n1",)))
        await supernode.state(*wanted)
        await eventually(lambda: len(list((root / "files").glob("*"))) == TASKS, within=100)
        used = peak(peer.pid), peak(supernode.running.pid)
    assert used[0] < 150 * MIB, used
    assert used[1] < 300 * MIB, used
