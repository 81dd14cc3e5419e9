"""Measures the supernode's control plane: simulated clients send requests over loopback, but transfer no pieces."""

from __future__ import annotations

import asyncio
import functools
import http.client
import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench import usage
from bench.clients import BenchConnection, Dfget, File, Native, Tally
from bench.errors import BenchError
from pantala_protocol import task_id
from pantala_protocol.statement import CDNStatus, Changes, Statement, WantedTask
from testbed.process import Process, free_ports

PIECES = 256
_PIECE_SIZE = 128 * 1024
_HOST = "127.0.0.1"
_WARM = 1.0
"""Seconds of warm-up, after all clients have begun and before the measurement."""
_REGISTRATIONS = 8
"""The number of registrations on each connection, one after the other."""


@dataclass(frozen=True)
class ControlSample:
    """The result of one run with one kind and one number of clients."""

    kind: str
    """``dfget`` or ``native``."""
    clients: int
    registrations: float
    """Registrations per second. Only Dragonfly's clients register."""
    cycles: float
    """Cycles per second. A cycle is a report and a pull for ``dfget``, and one exchange for ``native``."""
    median: float
    worst: float
    """The 99th percentile of the seconds until an answer, for clients that still had work, as for ``median``."""
    waits: float
    """The share of answers to clients without work, which the supernode may delay."""
    cpu: float
    """The supernode's CPU milliseconds per cycle."""


def measure(folder: Path, kind: str, clients: int, seconds: float) -> ControlSample:
    """Measure ``clients`` clients against a new supernode, for ``seconds``. Raises :class:`BenchError`."""
    with ControlLab(folder) as lab:
        return asyncio.run(_measure(lab, kind, clients, seconds))


class ControlLab:
    """A supernode and an origin with one file. Both run while the context is entered."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.supernode: Process
        self.port = 0
        self.url = ""

    def __enter__(self) -> ControlLab:
        origin, self.port, pieces = free_ports(3)
        self.url = f"http://{_HOST}:{origin}/file"
        files = self._folder / "origin"
        files.mkdir()
        with (files / "file").open("wb") as file:
            file.write(os.urandom(PIECES * _PIECE_SIZE))
        self._start("origin", "testbed.origin", "--listen", f"{_HOST}:{origin}", "--dir", str(files))
        self.supernode = self._start(
            "supernode", "pantala_supernode", "--listen", f"{_HOST}:{self.port}",
            "--piece-listen", f"{_HOST}:{pieces}", "--data", str(self._folder / "data"), "--dragonfly", "--no-auth",
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def download(self) -> File:
        """The file for the clients."""
        return File(self.url, task_id.compute(self.url), PIECES, _PIECE_SIZE)

    def cache(self, peers: tuple[str, ...]) -> None:
        """Send a statement with the file for ``peers``, and wait until the supernode has the file."""
        wanted = WantedTask("bench", "bench/file", self.download.task_id, self.url, path="file", peers=peers)
        body = msgspec.json.encode(Statement(revision=1, tasks=(wanted,)))
        self._wait(lambda: self._ask("GET", "/readyz") is not None)
        self._ask("PUT", "/api/v1/statement", body)
        self._wait(self._is_cached)

    def _is_cached(self) -> bool:
        changes = msgspec.json.decode(self._ask("GET", "/api/v1/changes?boot=&since=0&wait=0") or b"{}", type=Changes)
        return [CDNStatus.SUCCESS] == [report.cdn_status for report in changes.tasks]

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes | None:
        connection = http.client.HTTPConnection(_HOST, self.port, timeout=10)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.read() if answer.status == 200 else None
        except OSError:
            return None
        finally:
            connection.close()

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            if self.supernode.returncode is not None or time.monotonic() > deadline:
                raise BenchError(f"The supernode does not become ready:\n{self.supernode.tail()}")
            time.sleep(0.05)

    def _start(self, name: str, module: str, *arguments: str) -> Process:
        process = Process([sys.executable, "-m", module, *arguments], self._folder / f"{name}.log")
        self._stack.callback(process.kill)
        return process


async def _measure(lab: ControlLab, kind: str, clients: int, seconds: float) -> ControlSample:
    names = tuple(f"node-{number}" for number in range(clients))
    await asyncio.to_thread(lab.cache, names if kind == "native" else ())
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: _fail(failed, context))
    tally = Tally()
    connections = [await BenchConnection.open(_HOST, lab.port) for _ in range(clients)]
    for connection, name in zip(connections, names, strict=True):
        if kind == "dfget":
            Dfget(connection, lab.download, tally).start()
        else:
            Native(connection, lab.download, name, tally).start()
    while tally.begun < clients:
        await _sleep(0.1, failed)
    await _sleep(_WARM, failed)
    tally.cycles = tally.waits = 0
    tally.latencies.clear()
    cpu, began = usage.cpu_seconds(lab.supernode.pid), time.monotonic()
    await _sleep(seconds, failed)
    cpu, took = usage.cpu_seconds(lab.supernode.pid) - cpu, time.monotonic() - began
    for connection in connections:
        connection.close()
    if len(tally.latencies) < 100:
        raise BenchError(f"{clients} clients ({kind}) received no work:\n{lab.supernode.tail()}")
    return ControlSample(
        kind=kind,
        clients=clients,
        registrations=await _registrations(lab, clients, failed) if kind == "dfget" else 0.0,
        cycles=tally.cycles / took,
        median=statistics.median(tally.latencies),
        worst=statistics.quantiles(tally.latencies, n=100)[-1],
        waits=tally.waits / (len(tally.latencies) + tally.waits),
        cpu=1000 * cpu / tally.cycles,
    )


async def _registrations(lab: ControlLab, clients: int, failed: asyncio.Future[None]) -> float:
    """Register further clients, and measure how many the supernode registers per second."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left = clients * _REGISTRATIONS

    def next_one(client: Dfget) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set_result(None)
        elif left >= clients:
            client.register(functools.partial(next_one, client))

    connections = [await BenchConnection.open(_HOST, lab.port) for _ in range(clients)]
    began = time.monotonic()
    for connection in connections:
        client = Dfget(connection, lab.download, Tally())
        client.register(functools.partial(next_one, client))
    await asyncio.wait([failed, done], timeout=60, return_when=asyncio.FIRST_COMPLETED)
    took = time.monotonic() - began
    for connection in connections:
        connection.close()
    if not done.done():
        await _sleep(0, failed)
        raise BenchError("The supernode does not answer registrations.")
    return clients * _REGISTRATIONS / took


async def _sleep(seconds: float, failed: asyncio.Future[None]) -> None:
    await asyncio.wait([failed], timeout=seconds)
    if failed.done():
        failed.result()


def _fail(failed: asyncio.Future[None], context: dict[str, object]) -> None:
    if not failed.done():
        error = context.get("exception")
        failed.set_exception(error if isinstance(error, BenchError) else BenchError(str(context)))
