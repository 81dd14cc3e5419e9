"""Measures the supernode's control plane: simulated clients send requests over loopback, but transfer no pieces."""

from __future__ import annotations

import asyncio
import functools
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench.connection import BenchConnection
from bench.control.clients import Dfget, File, Native, Tally
from bench.errors import BenchError
from bench.memory import make_file
from bench.network import Loopback
from bench.supernode import SupernodeProcess
from bench.usage import Meter
from pantala_protocol import task_id
from pantala_protocol.statement import WantedTask
from testbed.process import Process, free_ports

PIECES = 256
_PIECE_SIZE = 128 * 1024
HOST = "127.0.0.1"
_WARM = 1.0
"""Seconds of warm-up, after all clients have begun and before the measurement."""
_REGISTRATIONS = 8
"""The number of registrations on each connection, one after the other."""


def measure(folder: Path, kind: str, clients: int, seconds: float) -> dict[str, float]:
    """Measure ``clients`` clients against a new supernode, for ``seconds``. Raises :class:`BenchError`."""
    with ControlLab(folder) as lab:
        return asyncio.run(_measure(lab, kind, clients, seconds))


class ControlLab:
    """A supernode and an origin with one file. Both run while the context is entered."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self.url = ""
        self.supernode = SupernodeProcess(Loopback(), folder, "--dragonfly")

    def __enter__(self) -> ControlLab:
        port = free_ports(1)[0]
        self.url = f"http://{HOST}:{port}/file"
        files = self._folder / "origin"
        files.mkdir()
        make_file(files / "file", PIECES * _PIECE_SIZE)
        command = [sys.executable, "-m", "testbed.origin", "--listen", f"{HOST}:{port}", "--dir", str(files)]
        self._stack.callback(Process(command, self._folder / "origin.log").kill)
        try:
            self._stack.enter_context(self.supernode)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def download(self) -> File:
        """The file for the clients."""
        return File(self.url, task_id.compute(self.url), PIECES, _PIECE_SIZE)

    def cache(self, peers: tuple[str, ...]) -> None:
        """Send a statement with the file for ``peers``, and wait until the supernode has the file."""
        self.supernode.state(
            WantedTask("bench", "bench/file", self.download.task_id, self.url, path="file", peers=peers)
        )
        self.supernode.wait_cached("bench")


async def _measure(lab: ControlLab, kind: str, clients: int, seconds: float) -> dict[str, float]:
    names = tuple(f"node-{number}" for number in range(clients))
    await asyncio.to_thread(lab.cache, names if kind == "native" else ())
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: _fail(failed, context))
    tally = Tally()
    connections = [await BenchConnection.open(HOST, lab.supernode.port) for _ in range(clients)]
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
    meter = Meter({"supernode": [lab.supernode.process.pid]})
    await _sleep(seconds, failed)
    meter.stop()
    for connection in connections:
        connection.close()
    if len(tally.latencies) < 100:
        raise BenchError(f"{clients} clients ({kind}) received no work:\n{lab.supernode.process.tail()}")
    values = {
        "cycles": tally.cycles / meter.seconds,
        "p50_ms": 1000 * statistics.median(tally.latencies),
        "p99_ms": 1000 * statistics.quantiles(tally.latencies, n=100)[-1],
        "waits": tally.waits / (len(tally.latencies) + tally.waits),
        "cpu_ms": 1000 * meter.cpu["supernode"] / tally.cycles,
        "foreign": meter.foreign,
    }
    if kind == "dfget":
        values["registrations"] = await _registrations(lab, clients, failed)
    return values


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

    connections = [await BenchConnection.open(HOST, lab.supernode.port) for _ in range(clients)]
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
