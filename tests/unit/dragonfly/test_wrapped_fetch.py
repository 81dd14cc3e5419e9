"""A peer reads wrapped pieces as Dragonfly's clients do, and accepts nothing else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from pantala_peer.download.connection import ReceiveTimeouts
from pantala_peer.download.providers import Providers
from pantala_peer.errors import CorruptError, FetchError, MissingError, ProviderRefusedError
from pantala_protocol.geometry import Wrapping
from pantala_protocol.sync import PieceWork

P = 1000
WRAPPING = Wrapping(P)
CONTENT = b"0123456789"


def work(port: int, path: str = "/peer/file/f") -> PieceWork:
    return PieceWork(
        task_id="a" * 64,
        generation="g",
        piece=2,
        offset=2 * P,
        size=len(CONTENT),
        sha256="",
        host="127.0.0.1",
        port=port,
        ticket="1.a",
        path=path,
        wire_size=WRAPPING.wire_size,
    )


@contextlib.asynccontextmanager
async def uploader(answer: bytes) -> AsyncIterator[tuple[int, list[bytes]]]:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


async def fetch(answer: bytes, path: str = "/peer/file/f") -> tuple[bytes, list[bytes]]:
    providers = Providers(connect_timeout=2.0, timeouts=ReceiveTimeouts(2.0, 2.0))
    into = bytearray(len(CONTENT))
    async with uploader(answer) as (port, heads):
        try:
            await providers.fetch(work(port, path), memoryview(into))
        finally:
            providers.close()
    return bytes(into), heads


async def test_head_and_tail_are_removed_and_the_range_is_the_wrapped_one() -> None:
    body = WRAPPING.wrap(CONTENT)
    content, heads = await fetch(b"HTTP/1.1 206 Partial Content\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert CONTENT == content
    lines = heads[0].decode().split("\r\n")
    assert "GET /peer/file/f HTTP/1.1" == lines[0]
    assert {"Range: bytes=2010-2024", "pieceNum: 2", "pieceSize: 1005"} <= set(lines)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 206 Partial Content\r\nContent-Length: 9\r\n\r\n012345678", CorruptError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n012345678901234", ProviderRefusedError),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", MissingError),
    ],
)
async def test_anything_else_is_a_failure(answer: bytes, expected: type[FetchError]) -> None:
    with pytest.raises(expected):
        await fetch(answer)


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "/ä"])
async def test_an_invalid_path_is_not_requested(path: str) -> None:
    with pytest.raises(ProviderRefusedError):
        await fetch(b"", path)
