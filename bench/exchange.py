"""Exchanges of scripted peers with a supernode."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from bench.connection import BenchConnection, post
from pantala_protocol.sync import SyncAnswer, SyncRequest


class PeerExchange:
    """The exchanges of one peer, one after another."""

    def __init__(self, connection: BenchConnection, name: str) -> None:
        self._connection = connection
        self._said = SyncRequest(name, f"{name}-boot", 0, port=65002, inventory={}, blake3=True)

    async def run(self, **news: Any) -> SyncAnswer:
        """Send the next request with these fields, and return the answer."""
        said = msgspec.structs.replace(self._said, seq=self._said.seq + 1, **news)
        body = await ask(self._connection, post("/api/v1/sync", msgspec.json.encode(said)))
        answer = msgspec.json.decode(body, type=SyncAnswer)
        inventory: dict[str, Any] | None = {} if answer.inventory_wanted else None
        self._said = msgspec.structs.replace(
            said, supernode=answer.supernode, revision=answer.revision, inventory=inventory
        )
        return answer


async def ask(connection: BenchConnection, request: bytes) -> bytes:
    """The body of the answer. A status other than 200 goes to the loop's exception handler."""
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def take(body: bytes) -> None:
        if not answered.done():  # the caller may be cancelled
            answered.set_result(body)

    connection.ask(request, take)
    return await answered
