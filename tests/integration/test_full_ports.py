"""Idle sockets fill the ports of a node with few open files. faults/rows/floods.py floods supernodes and tenants."""

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path

import pytest

from pantala_process.listening import allow_files
from pantala_protocol import task_id
from pantala_protocol.statement import WantedTask
from testbed.process import Process, free_ports
from tests.support.eventually import eventually
from tests.support.peer_lab import python_path
from tests.support.supernode_lab import SupernodeLab

MIB = 1024 * 1024


async def connected(port: int) -> socket.socket:
    opened = socket.socket()
    opened.setblocking(False)
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(10):
            await asyncio.get_running_loop().sock_connect(opened, ("127.0.0.1", port))
    return opened


@pytest.mark.alone
async def test_f20_a_node_with_few_files_publishes_while_sockets_fill_its_ports(tmp_path: Path) -> None:
    """1,000 idle sockets at each port of a peer that may open 256 files."""
    allow_files()
    ports, log, tasks = free_ports(3), tmp_path / "peer.log", list[WantedTask]()
    async with SupernodeLab(tmp_path) as lab, contextlib.AsyncExitStack() as stack:

        async def deliver() -> None:
            name = f"ns/{len(tasks)}"
            content, url = lab.serve(MIB, f"/{name}"), lab.origin.url(f"/{name}")
            tasks.append(WantedTask(name, name, task_id.compute(url), url, path=name, peers=("node",)))
            await lab.state(*tasks)
            await eventually((tmp_path / "peer/files" / name).exists, within=300)
            assert content == (tmp_path / "peer/files" / name).read_bytes()

        pieces, mirror, health = (f"127.0.0.1:{port}" for port in ports)
        command = [
            *("prlimit", "--nofile=256", sys.executable, "-m", "pantala_peer", "--supernode", lab.url),
            *("--name", "node", "--root", str(tmp_path / "peer")),
            *("--listen", pieces, "--mirror-listen", mirror, "--health-listen", health),
        ]
        stack.enter_context(Process(command, log, {**os.environ, "PYTHONPATH": python_path()}))
        await deliver()
        for _ in range(2):
            for number in range(3000):
                stack.enter_context(await connected(ports[number % 3]))
            async with asyncio.timeout(5), lab.session.get(f"http://{health}/healthz") as answer:
                assert 200 == answer.status
            await deliver()
    assert log.stat().st_size < 100_000
