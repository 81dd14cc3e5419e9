"""Measures the supernode's control plane: simulated clients send requests over loopback, but transfer no pieces."""

import asyncio
import functools
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from bench.connection import BenchConnection
from bench.control.clients import Dfget, File, Native, Tally
from bench.errors import BenchError
from bench.loopback import NAME, testbed_origin
from bench.network import Loopback
from bench.supernode import SupernodeProcess
from bench.usage import Meter
from pantala_protocol import task_id
from pantala_protocol.statement import WantedTask

PIECES = 256
_PIECE_SIZE = 128 * 1024
HOST = "127.0.0.1"
_WARM = 1.0
"""Seconds of warm-up, after all clients have begun and before the measurement."""
_REGISTRATIONS = 8
"""The number of registrations on each connection, one after the other."""


def measure(folder: Path, kind: str, clients: int, seconds: float) -> dict[str, float]:
    """Measure ``clients`` clients against a new supernode, for ``seconds``. Raises :class:`BenchError`."""
    names = tuple(f"node-{number}" for number in range(clients))
    with (
        testbed_origin(folder, "--generate", f"/{NAME}={PIECES * _PIECE_SIZE}") as origin,
        SupernodeProcess(Loopback(), folder, "--dragonfly") as supernode,
    ):
        file = File(origin.url, task_id.compute(origin.url), PIECES, _PIECE_SIZE)
        peers = names if kind == "native" else ()
        supernode.state(WantedTask("bench", "bench/file", file.task_id, file.url, path="file", peers=peers))
        supernode.wait_cached("bench")
        return asyncio.run(_measure(supernode, file, kind, names, seconds))


async def _measure(
    supernode: SupernodeProcess, file: File, kind: str, names: Sequence[str], seconds: float
) -> dict[str, float]:
    clients = len(names)
    failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: _fail(failed, context))
    tally = Tally()
    connections = [await BenchConnection.open(HOST, supernode.port) for _ in names]
    for connection, name in zip(connections, names, strict=True):
        if kind == "dfget":
            Dfget(connection, file, tally).start()
        else:
            Native(connection, file, name, tally).start()
    while tally.begun < clients:
        await _sleep(0.1, failed)
    await _sleep(_WARM, failed)
    tally.cycles = tally.waits = 0
    tally.latencies.clear()
    meter = Meter({"supernode": [supernode.process.pid]})
    await _sleep(seconds, failed)
    meter.stop()
    for connection in connections:
        connection.close()
    if len(tally.latencies) < 100:
        raise BenchError(f"{clients} clients ({kind}) received no work:\n{supernode.process.tail()}")
    values = {
        "cycles": tally.cycles / meter.seconds,
        "p50_ms": 1000 * statistics.median(tally.latencies),
        "p99_ms": 1000 * statistics.quantiles(tally.latencies, n=100)[-1],
        "waits": tally.waits / (len(tally.latencies) + tally.waits),
        "cpu_ms": 1000 * meter.cpu["supernode"] / tally.cycles,
        "foreign": meter.foreign,
    }
    if kind == "dfget":
        values["registrations"] = await _registrations(supernode.port, file, clients, failed)
    return values


async def _registrations(port: int, file: File, clients: int, failed: asyncio.Future[None]) -> float:
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

    connections = [await BenchConnection.open(HOST, port) for _ in range(clients)]
    began = time.monotonic()
    for connection in connections:
        client = Dfget(connection, file, Tally())
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
