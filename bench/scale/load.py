"""Measures a real operator and a real supernode with many Tasks. API server, peers and origin are scripted."""

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec

from bench.connection import BenchConnection
from bench.errors import BenchError
from bench.exchange import PeerExchange
from bench.loopback import NAME, testbed_origin
from bench.network import Loopback
from bench.scale.cluster import node_name
from bench.supernode import SupernodeProcess
from bench.usage import peak_mebibytes
from pantala_protocol.sync import DeliveryState, DeliveryStatus, HeldPieces

_PATIENCE = 1800.0


def measure(folder: Path, tasks: int, nodes: int, peers: int) -> dict[str, float]:
    """Run an operator with ``tasks`` Tasks for ``nodes`` nodes. ``peers`` connected peers get each file.

    Raises :class:`BenchError`.
    """
    with (
        testbed_origin(folder, "--generate", f"/{NAME}=100") as origin,
        SupernodeProcess(Loopback(), folder) as supernode,
    ):
        arguments = [supernode.url, *map(str, (tasks, nodes, peers)), origin.url]
        with (folder / "operator.log").open("wb") as log:
            operator = subprocess.Popen(
                [sys.executable, "-m", "bench.scale.operator", *arguments], stdout=subprocess.PIPE, stderr=log
            )
            try:
                asyncio.run(_until(operator, supernode.port, peers))
            finally:
                operator.kill()
                said, _ = operator.communicate()
        if operator.returncode:
            raise BenchError(f"The operator ended with {operator.returncode}: {(folder / 'operator.log').read_text()}")
        values: dict[str, float] = msgspec.json.decode(said)
        return values | {"supernode_mib": peak_mebibytes(supernode.process.pid)}


async def _until(operator: subprocess.Popen[bytes], port: int, peers: int) -> None:
    """Act as the peers until the operator has ended."""
    playing = [asyncio.create_task(ScriptedPeer(node_name(number)).run(port)) for number in range(peers)]
    try:
        async with asyncio.timeout(_PATIENCE):
            while operator.poll() is None:
                await asyncio.sleep(0.2)
                for each in playing:
                    if each.done():
                        each.result()
    except TimeoutError as error:
        raise BenchError(f"The statuses are not right after {_PATIENCE:.0f} s.") from error
    finally:
        for each in playing:
            each.cancel()
        await asyncio.gather(*playing, return_exceptions=True)


class ScriptedPeer:
    """A peer that reports each piece and each delivery, and receives no bytes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._paths: dict[str, dict[str, str]] = {}

    async def run(self, port: int) -> None:
        connection = await BenchConnection.open("127.0.0.1", port)
        try:
            await self._play(PeerExchange(connection, self._name))
        finally:
            connection.close()

    async def _play(self, exchange: PeerExchange) -> None:
        done: dict[str, HeldPieces] = {}
        deliveries: dict[str, DeliveryState | None] = {}
        while True:
            answer = await exchange.run(done=done, deliveries=deliveries)
            if answer.assignments is not None:
                self._paths = {
                    each.task_id: {delivery.uid: delivery.path for delivery in each.deliveries}
                    for each in answer.assignments
                }
            done = {work.task_id: HeldPieces(work.generation, "0") for work in answer.work}
            deliveries = {
                uid: DeliveryState(DeliveryStatus.PUBLISHED, path=path)
                for name in done
                for uid, path in self._paths.get(name, {}).items()
            }
