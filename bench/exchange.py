"""Exchanges of scripted peers with a supernode."""

import asyncio
from typing import Any

import msgspec

from bench.connection import BenchConnection, post
from pantala_protocol.sync import SyncAnswer, SyncRequest

_decode = msgspec.json.Decoder(SyncAnswer).decode


class PeerMessages:
    """The messages of one process of a peer, one after another."""

    def __init__(self, name: str, boot: str) -> None:
        self._last = SyncRequest(name, boot, 0, port=65002, inventory={}, blake3=True)

    def request(self, **news: Any) -> bytes:
        """The next request, with these fields."""
        self._last = msgspec.structs.replace(self._last, seq=self._last.seq + 1, **news)
        return post("/api/v1/sync", msgspec.json.encode(self._last))

    def take(self, body: bytes) -> SyncAnswer:
        """Decode the answer, which the next request confirms."""
        answer = _decode(body)
        inventory: dict[str, Any] | None = {} if answer.inventory_wanted else None
        self._last = msgspec.structs.replace(
            self._last, supernode=answer.supernode, revision=answer.revision, inventory=inventory
        )
        return answer


class PeerExchange:
    """The exchanges of one peer on one connection."""

    def __init__(self, connection: BenchConnection, name: str) -> None:
        self._connection = connection
        self._messages = PeerMessages(name, f"{name}-boot")

    async def run(self, **news: Any) -> SyncAnswer:
        """Send the next request with these fields, and return the answer."""
        return self._messages.take(await ask(self._connection, self._messages.request(**news)))


async def ask(connection: BenchConnection, request: bytes) -> bytes:
    """The body of the answer. A status other than 200 goes to the loop's exception handler."""
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def take(body: bytes) -> None:
        if not answered.done():  # the caller may be cancelled
            answered.set_result(body)

    connection.ask(request, take)
    return await answered
