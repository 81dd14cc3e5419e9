"""Real supernodes on this machine, with the requests of an operator to them. Clients need no tokens."""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec

from pantala_peer.app import PeerApp
from pantala_process.settings import ListenAddress
from pantala_protocol.statement import Changes, Statement, TaskReport, WantedTask
from pantala_supernode.app import App, serving
from pantala_supernode.settings import Settings
from testbed.origin import Behaviour, Generated, Origin
from testbed.process import Process, free_ports
from tests.support.eventually import eventually
from tests.support.outbound import LOOPBACK
from tests.support.peer_lab import mirror, peer, python_path


def loopback(data: Path, *, no_auth: bool = True, **changes: Any) -> Settings:
    """Settings of a supernode on free loopback ports, with ``changes``."""
    port, piece_port = free_ports(2)
    addresses: dict[str, Any] = {
        "listen": ListenAddress("127.0.0.1", port),
        "piece_listen": ListenAddress("127.0.0.1", piece_port),
        "advertise": "127.0.0.1",
        "allow_source": (LOOPBACK,),
    }
    return Settings(**addresses | {"data": data, "no_auth": no_auth} | changes)


class StatedSupernode:
    """Sends an operator's requests to a running supernode."""

    def __init__(self, url: str, data: Path) -> None:
        self.url = url
        self.data = data
        self.revision = 0
        self.standing: tuple[WantedTask, ...] = ()
        """Tasks that a test may add to each statement."""
        self.session: aiohttp.ClientSession
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=30)
        self.session = await self._stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def is_ready(self) -> bool:
        async with self.session.get(f"{self.url}/readyz") as answer:
            return answer.status == 200

    async def state(self, *tasks: WantedTask, **more: Any) -> None:
        """Send a statement with exactly these tasks. ``more`` has its other fields."""
        self.revision += 1
        body = msgspec.json.encode(Statement(self.revision, tasks, **more))
        async with self.session.put(f"{self.url}/api/v1/statement", data=body) as answer:
            assert 200 == answer.status, await answer.text()

    async def changes(self) -> Changes:
        async with self.session.get(f"{self.url}/api/v1/changes") as answer:
            return msgspec.json.decode(await answer.read(), type=Changes)

    async def until(self, wanted: Callable[[Changes], object]) -> Changes:
        """Wait until ``wanted`` returns true for the supernode's report. Returns the whole report."""

        async def accepted() -> Changes | None:
            changes = await self.changes()
            return changes if wanted(changes) else None

        return await eventually(accepted, within=30)

    async def cached(self) -> TaskReport:
        """Wait until the supernode has the files of all stated tasks. Returns the report on the first task."""
        changes = await self.until(_is_cached)
        return changes.tasks[0]


class SupernodeLab(StatedSupernode):
    """A supernode in this process, which can be restarted, an origin, and peers below ``folder``."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.settings = loopback(folder / "supernode", **changes)
        self.app: App
        self.origin = Origin()
        self._running = AsyncExitStack()
        self._peers = AsyncExitStack()
        super().__init__(f"http://127.0.0.1:{self.settings.listen.port}", self.settings.data)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self._stack.enter_async_context(self.origin)
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        for stack in (self._peers, self._running):
            await stack.aclose()
        await super().__aexit__(*error)

    async def start(self) -> None:
        self.app = await self._running.enter_async_context(serving(self.settings))

    async def stop(self) -> None:
        await self._running.aclose()

    def serve(self, size: int, path: str = "/f", **behaviour: Any) -> bytes:
        """Let the origin serve a file of ``size`` bytes. Returns its content."""
        body = Generated(size, seed=size)
        self.origin.serve(path, body, always=Behaviour(**behaviour))
        return body.read(0, size)

    async def peer(self, name: str, **changes: Any) -> PeerApp:
        return await self._peers.enter_async_context(peer(self.url, self.folder / name, name, **changes))

    async def mirror(self, name: str, **changes: Any) -> PeerApp:
        return await self._peers.enter_async_context(mirror(self.url, self.folder / name, name, **changes))


class SupernodeProcess(StatedSupernode):
    """A supernode as a process, which tests can kill and start again on the same volume."""

    def __init__(self, folder: Path, *flags: str) -> None:
        port, piece_port = free_ports(2)
        super().__init__(f"http://127.0.0.1:{port}", folder / "data")
        self.port = port
        self.piece_port = piece_port
        self.log = folder / "log"
        self._command = [
            *("pantala_supernode", "--no-auth", "--data", str(self.data)),
            *("--allow-source", "127.0.0.0/8,::1"),
            *("--listen", f"127.0.0.1:{port}", "--piece-listen", f"127.0.0.1:{piece_port}", *flags),
        ]
        self.process: Process | None = None

    async def __aexit__(self, *error: object) -> None:
        self.kill()
        await super().__aexit__(*error)

    async def start(self) -> None:
        """Start the process, and return when it listens. It may still verify its volume."""
        self.spawn()
        _, writer = await eventually(
            lambda: asyncio.open_connection("127.0.0.1", self.port), within=30, ignoring=OSError
        )
        writer.close()

    def spawn(self, *wrapper: str) -> None:
        """Start the process. ``wrapper``: the module and the arguments with which another program runs it."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PANTALA_")}
        environment["PYTHONPATH"] = python_path()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.process = Process([sys.executable, "-m", *wrapper, *self._command], self.log, environment)

    @property
    def running(self) -> Process:
        assert self.process is not None
        return self.process

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process = None


def _is_cached(changes: Changes) -> bool:
    return bool(changes.tasks) and all(report.cdn_status == "SUCCESS" for report in changes.tasks)
