"""A supernode with honest peers, and ways in which a hostile peer answers requests for pieces."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

from pantala_peer.app import PeerApp
from pantala_protocol import task_id
from pantala_protocol.geometry import piece_size
from pantala_protocol.statement import TaskReport, WantedTask
from testbed.origin import Generated, sha256
from tests.support.eventually import eventually
from tests.support.hostile_peer import Request, head, silence
from tests.support.peer_lab import peer
from tests.support.supernode_lab import SupernodeLab

SIZE = 3 * 1024 * 1024 + 17
PIECES = -(-SIZE // piece_size(SIZE))
BODY = Generated(SIZE)
ALL = f"0-{PIECES - 1}"
SOON = 12.0
"""Seconds until all honest peers have the file. Silent peers and slow providers are given up later than this."""
PATIENCE: dict[str, Any] = {"head_timeout": 1.5, "stall_timeout": 1.0, "slow_timeout": 2.0}
"""The timeouts of the honest peers."""


async def wrong_bytes(request: Request, writer: asyncio.StreamWriter) -> None:
    _, first, end = request
    writer.write(head(first, end, SIZE) + bytes(end - first))
    await writer.drain()


async def bytes_of_another_piece(request: Request, writer: asyncio.StreamWriter) -> None:
    _, first, end = request
    other = BODY.read(end if end < SIZE else 0, end - first)
    writer.write(head(first, end, SIZE) + other.ljust(end - first, b"x"))
    await writer.drain()


async def garbage(_request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(random.Random(1).randbytes(1 << 16))
    await writer.drain()


async def not_here(_request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()


async def half(request: Request, writer: asyncio.StreamWriter) -> None:
    _, first, end = request
    writer.write(head(first, end, SIZE) + BODY.read(first, (end - first) // 2))
    await writer.drain()
    writer.transport.abort()


async def half_and_silence(request: Request, writer: asyncio.StreamWriter) -> None:
    _, first, end = request
    writer.write(head(first, end, SIZE) + BODY.read(first, (end - first) // 2))
    await asyncio.sleep(60)


async def drops(request: Request, writer: asyncio.StreamWriter) -> None:
    """Send one more byte before each stall timeout."""
    _, first, end = request
    writer.write(head(first, end, SIZE))
    for byte in BODY.read(first, end - first):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.2)


async def endless_head(_request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 206 Partial Content\r\n")
    while True:
        writer.write(b"X-More: and more\r\n")
        await writer.drain()
        await asyncio.sleep(0.001)


async def more_than_asked(request: Request, writer: asyncio.StreamWriter) -> None:
    _, first, end = request
    writer.write(head(first, end, SIZE) + BODY.read(first, end - first) + bytes(1 << 20))
    await writer.drain()


class HostileLab(SupernodeLab):
    """The supernode, the origin and the honest peers."""

    async def want(self, *names: str) -> None:
        url = self.origin.url("/file")
        await self.state(WantedTask("u", "ns/t", task_id.compute(url), url, path="file", peers=names, attempt="1/"))

    async def report(self) -> TaskReport:
        return (await self.changes()).tasks[0]

    @contextlib.asynccontextmanager
    async def honest(self, *names: str) -> AsyncIterator[list[PeerApp]]:
        async with contextlib.AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(peer(self.url, self.folder / name, name, **PATIENCE)) for name in names
            ]

    async def until_all_have_it(self, *names: str, within: float = SOON) -> None:
        """Wait until the honest peers have published the file, and check its bytes and the origin's."""

        async def have_it() -> bool:
            return set(names) <= set((await self.report()).ready_peers)

        await eventually(have_it, within=within)
        for name in names:
            assert BODY.read(0, SIZE) == (self.folder / name / "files/file").read_bytes()
        assert SIZE == self.origin.body_bytes("/file")
        assert sha256(BODY) == (await self.report()).digest.removeprefix("sha256:")


BAD_BYTES = [wrong_bytes, bytes_of_another_piece, garbage, more_than_asked]
BAD_ANSWERS = [not_here, silence, half, half_and_silence, drops, endless_head]
