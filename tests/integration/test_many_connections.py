"""There are more connections than file descriptors."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator

import aiohttp
import pytest
from aiohttp import web

from pantala_process.settings import ListenAddress
from pantala_supernode.http.site import site

FILES = 128


@pytest.fixture
def few_files() -> Iterator[None]:
    """Limit the file descriptors of this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.usefixtures("few_files")
async def test_f20_connections_beyond_the_limit_are_closed_and_descriptors_remain() -> None:
    app, port = web.Application(), free_port()

    async def ping(_: web.Request) -> web.Response:
        return web.Response(text="OK")

    app.router.add_get("/ping", ping)
    async with site(app, ListenAddress("127.0.0.1", port), share=0.125), contextlib.AsyncExitStack() as stack:
        streams = []
        for _ in range(FILES // 4):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
            streams.append(reader)
        answers = [await reader.read(12) for reader in streams]
        assert [b"HTTP/1.1 200"] * 16 + [b""] * 16 == answers
        await stack.aclose()
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/ping") as again:
            assert 200 == again.status
