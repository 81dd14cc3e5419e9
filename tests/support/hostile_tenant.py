"""A tenant that takes all it can get of a real supernode, and an honest one beside it."""

import asyncio
import contextlib
import os
import socket
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import aiohttp

from pantala_process.listening import allow_files
from pantala_protocol import task_id, ticket
from pantala_protocol.statement import WantedTask
from testbed.origin import Behaviour, Generated, Origin
from testbed.process import Process, free_ports
from tests.support.eventually import eventually
from tests.support.manual_peer import ManualPeer
from tests.support.peer_lab import python_path
from tests.support.supernode_lab import SupernodeProcess

MIB = 1024 * 1024
LARGE = 64 * MIB
"""The size of the file that hostile readers request and do not read."""


class TwoTenants:
    """A supernode and a peer as processes, with an origin. ``rate``: bytes per second of each honest answer."""

    def __init__(self, folder: Path, *flags: str, rate: float | None = None, peer_files: int = 0) -> None:
        (self.health_port,) = free_ports(1)
        self.supernode = SupernodeProcess(
            folder / "supernode", "--health-listen", f"127.0.0.1:{self.health_port}", *flags
        )
        self.origin = Origin()
        self.folder = folder
        self._rate = rate
        self._peer_files = peer_files
        self._peer_ports = free_ports(3)
        self._peer: Process | None = None
        self._tasks: dict[str, WantedTask] = {}
        self._sockets: list[socket.socket] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        allow_files()
        await self._stack.enter_async_context(self.origin)
        await self._stack.enter_async_context(self.supernode)
        self.supernode.spawn("tests.support.dead_names")
        await eventually(self.supernode.is_ready, within=30, ignoring=aiohttp.ClientError)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PANTALA_")}
        environment["PYTHONPATH"] = python_path()
        pieces, mirror, health = (f"127.0.0.1:{port}" for port in self._peer_ports)
        flags = ["--supernode", self.supernode.url, "--name", "honest-node", "--root", str(self.folder / "peer")]
        flags += ["--listen", pieces, "--mirror-listen", mirror, "--health-listen", health]
        limit = ["prlimit", f"--nofile={self._peer_files}"] if self._peer_files else []
        command = [*limit, sys.executable, "-m", "pantala_peer", *flags]
        self._peer = Process(command, self.folder / "peer.log", environment)
        await self.supernode.until(lambda changes: any(peer.name == "honest-node" for peer in changes.peers))
        return self

    async def __aexit__(self, *error: object) -> None:
        for each in self._sockets:
            each.close()
        if self._peer is not None:
            self._peer.kill()
        await self._stack.aclose()

    async def deliver(self, name: str, size: int) -> float:
        """Seconds from the statement of an honest file to its publication."""
        content = Generated(size, seed=sum(name.encode()))
        self.origin.serve(f"/{name}", content, always=Behaviour(rate=self._rate))
        begun = time.monotonic()
        await self._want("honest", name, self.origin.url(f"/{name}"), peers=("honest-node",), path=f"honest/{name}")
        file = self.folder / "peer" / "files" / "honest" / name
        await eventually(file.exists, within=300, every=0.02)
        took = time.monotonic() - begun
        assert content.read(0, size) == file.read_bytes()
        return took

    async def slow_origins(self, count: int) -> None:
        """Tasks whose origins send 1.5 KB per second."""
        for number in range(count):
            self.origin.serve(f"/slow-{number}", Generated(10 * MIB), always=Behaviour(rate=1500.0))
            await self._want("hostile", f"slow-{number}", self.origin.url(f"/slow-{number}"), priority=100)

    async def dead_names(self, count: int) -> None:
        """Tasks at hosts whose name server does not answer."""
        for number in range(count):
            await self._want("hostile", f"dead-{number}", f"http://dead-{number}.example/file", priority=100)

    async def readers(self, count: int) -> None:
        """Clients with one ticket that request a large file and do not read it."""
        self.origin.serve("/large", Generated(LARGE))
        await self._want("hostile", "large", self.origin.url("/large"), peers=("hostile-node",))
        work = (await ManualPeer(self.supernode, "hostile-node").work())[0]
        await self.supernode.until(
            lambda changes: any(
                each.uid == "uid-large" and each.pieces_cached == each.pieces_total for each in changes.tasks
            )
        )
        request = (
            f"GET /pieces/{work.task_id}/{work.generation} HTTP/1.1\r\nHost: x\r\nRange: bytes=0-{LARGE - 1}\r\n"
            f"{ticket.HEADER}: {work.ticket}\r\n\r\n"
        ).encode()
        for each in self._connect(count, work.port):
            each.send(request)

    def idle(self, count: int, sent: bytes = b"") -> None:
        """Connections to the API's port that send only ``sent``."""
        for each in self._connect(count, self.supernode.port):
            if sent:
                each.send(sent)

    async def fill_peer(self, count: int) -> None:
        """Connections to each port of the peer that send nothing."""
        for port in self._peer_ports:
            for _ in range(count // 50):
                self._connect(50, port)
                await asyncio.sleep(0)

    async def peer_health(self) -> float:
        """Seconds until the peer's probe is answered."""
        return await self._probe(self._peer_ports[2])

    @property
    def peer_log(self) -> int:
        """The size of the peer's log in bytes."""
        return (self.folder / "peer.log").stat().st_size

    async def health(self) -> float:
        """Seconds until the supernode's probe is answered."""
        return await self._probe(self.health_port)

    async def _probe(self, port: int) -> float:
        begun = time.monotonic()
        async with self.supernode.session.get(f"http://127.0.0.1:{port}/healthz") as answer:
            assert 200 == answer.status
        return time.monotonic() - begun

    async def _want(
        self, namespace: str, name: str, url: str, *, peers: tuple[str, ...] = (), path: str = "", priority: int = 0
    ) -> None:
        key = f"{namespace}/{name}"
        self._tasks[key] = WantedTask(
            f"uid-{name}", key, task_id.compute(url), url, path=path, peers=peers, priority=priority
        )
        await self.supernode.state(*self._tasks.values())

    def _connect(self, count: int, port: int) -> list[socket.socket]:
        made = []
        for _ in range(count):
            opened = socket.socket()
            self._sockets.append(opened)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            opened.settimeout(10)
            with contextlib.suppress(TimeoutError, ConnectionError):
                opened.connect(("127.0.0.1", port))
            made.append(opened)
        return made
