"""Clients and peers that report each piece without downloading it, so that a thousand of them fit into one process."""

import asyncio
from typing import Any

import msgspec

from bench.connection import BenchConnection, get, post
from bench.exchange import PeerExchange, ask
from pantala_protocol import ranges
from pantala_protocol.sync import HeldPieces


class ReportingDfget:
    """A client of Dragonfly that reports each piece without downloading it."""

    def __init__(self, connection: BenchConnection, url: str, number: int) -> None:
        self._connection = connection
        self._url = url
        self._cid = f"127.0.0.1-{number}-1600000000.000"
        self._number = number

    async def run(self) -> None:
        body = {"rawUrl": self._url, "cid": self._cid, "ip": "127.0.0.1", "path": f"/peer/file/{self._number}"}
        registration = post("/peer/registry", msgspec.json.encode(body | {"port": 15000 + self._number}))
        while (said := await self._ask(registration))["code"] == 609:  # noqa: ASYNC110
            await asyncio.sleep(0.5)  # as these clients do
        assert 200 == said["code"], said
        path = f"/peer/task?srcCid={self._cid}&taskId={said['data']['taskId']}&status="
        reported = "700&result=502&range=&dstCid="
        while (said := await self._ask(get(path + reported)))["code"] != 600:
            assert said["code"] in (601, 602), said
            for entry in said.get("data", ())[:1]:
                reported = f"701&result=501&range={entry['range']}&dstCid={entry['cid']}"

    async def _ask(self, request: bytes) -> dict[str, Any]:
        said: dict[str, Any] = msgspec.json.decode(await ask(self._connection, request))
        return said


class ReportingPeer:
    """A peer that reports each piece without downloading it."""

    def __init__(self, connection: BenchConnection, name: str, pieces: int) -> None:
        self._exchange = PeerExchange(connection, name)
        self._pieces = pieces

    async def run(self) -> None:
        have, done = 0, dict[str, HeldPieces]()
        while have.bit_count() < self._pieces:
            answer = await self._exchange.run(done=done)
            for work in answer.work:
                have |= 1 << work.piece
            done = {work.task_id: HeldPieces(work.generation, ranges.render(have)) for work in answer.work}
        await self._exchange.run(done=done, leaving=True)
