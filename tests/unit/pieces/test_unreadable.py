"""Requests that cannot be read, sent to a real server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from pantala_pieces import unreadable

SECRET = "s3cr3t"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Of a server that serves nothing, but for a route that fails."""

    async def fail(_: web.Request) -> web.Response:
        raise RuntimeError("a fault of ours")

    unreadable.quote_nothing()
    app = web.Application()
    app.router.add_get("/fault", fail)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def send(port: int, request: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode())
    answer = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    return answer


@pytest.mark.parametrize(
    "request_text",
    [
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer {SECRET}\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\x01\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}{'a' * 9000}\r\n\r\n",
    ],
)
async def test_a_request_that_cannot_be_read_is_logged_quietly_and_not_quoted(
    port: int, request_text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    assert b" 400 " in await send(port, request_text)

    (record,) = [record for record in caplog.records if record.name == "aiohttp.server"]
    assert (logging.INFO, None) == (record.levelno, record.exc_info)
    assert record.getMessage().startswith("a request could not be read (")
    assert SECRET not in caplog.text


async def test_a_fault_of_ours_keeps_its_traceback(port: int, caplog: pytest.LogCaptureFixture) -> None:
    assert b" 500 " in await send(port, "GET /fault HTTP/1.1\r\nHost: x\r\n\r\n")

    (record,) = [record for record in caplog.records if record.name == "aiohttp.server"]
    assert (logging.ERROR, True) == (record.levelno, record.exc_info is not None)
