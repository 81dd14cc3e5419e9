"""A peer that reports and serves what a test wants."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self

import aiohttp
import msgspec

from pantala_protocol.sync import Assignment, HeldPieces, PieceWork, SyncAnswer

Request = tuple[bytes, int, int]


Serve = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class HostilePeer:
    """A peer that sends any report that a test writes, and answers requests for pieces with ``serve``."""

    url: str
    serve: Serve
    name: str = "hostile"
    seq: int = 0
    supernode: str = ""
    revision: int = 0
    port: int = 0
    asked: list[Request] = field(default_factory=list)
    assignments: tuple[Assignment, ...] = ()
    work: list[PieceWork] = field(default_factory=list)
    _connections: list[asyncio.Task[None]] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def living(self) -> AsyncIterator[Self]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as self._http:
                yield self
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def say(self, **said: object) -> tuple[int, SyncAnswer | None]:
        """Send one exchange with these fields. Returns the status and, for 200, the answer."""
        self.seq += 1
        said = {"peer": self.name, "boot": "b", "seq": self.seq, "port": self.port, "inventory": {}} | said
        said |= {"supernode": self.supernode, "revision": self.revision}
        if self.seq > 1 and said["inventory"] == {}:
            del said["inventory"]
        async with self._http.post(f"{self.url}/api/v1/sync", data=msgspec.json.encode(said)) as reply:
            body = await reply.read()
        if reply.status != 200:
            return reply.status, None
        answer = msgspec.json.decode(body, type=SyncAnswer)
        self.supernode, self.revision = answer.supernode, answer.revision
        self.assignments = answer.assignments or self.assignments
        self.work += answer.work
        return 200, answer

    async def claim_all(self, pieces: int) -> None:
        """Report all pieces of each assigned task."""
        while not any(assignment.generation for assignment in self.assignments):
            await self.say()
        await self.say(done={a.task_id: HeldPieces(a.generation, f"0-{pieces - 1}") for a in self.assignments})

    async def go_on(self) -> None:
        """Keep sending exchanges until cancelled, but carry out no work."""
        while True:
            await self.say()
            await asyncio.sleep(0.05)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.append(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"Range: bytes=(\d+)-(\d+)", head)
                assert found is not None
                request = (head, int(found[1]), int(found[2]) + 1)
                self.asked.append(request)
                await self.serve(request, writer)
        writer.transport.abort()


def head(first: int, end: int, size: int) -> bytes:
    """The HTTP head of a correct answer with the bytes ``[first, end)`` of ``size``."""
    lines = ["HTTP/1.1 206 Partial Content", f"Content-Length: {end - first}"]
    return "\r\n".join([*lines, f"Content-Range: bytes {first}-{end - 1}/{size}", "\r\n"]).encode()


async def silence(_request: Request, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)
