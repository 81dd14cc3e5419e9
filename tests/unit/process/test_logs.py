"""A server logs requests that are not valid HTTP without their text."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from pantala_process import http, logs
from pantala_process.settings import ListenAddress

SECRET = "s3cr3t"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """The port of a server with one route, which fails."""

    async def fail(_: web.Request) -> web.Response:
        raise RuntimeError("our own bug")

    logs.hide_invalid_requests()
    app = web.Application()
    app.router.add_get("/fault", fail)
    async with http.serving(app, ListenAddress("127.0.0.1", 0), grace=1) as port:
        yield port


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
async def test_an_invalid_request_is_logged_in_one_line_without_its_text(
    port: int, request_text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    assert b" 400 " in await send(port, request_text)

    (record,) = [record for record in caplog.records if record.name == "aiohttp.server"]
    assert (logging.INFO, None) == (record.levelno, record.exc_info)
    assert record.getMessage().startswith("a request is not valid HTTP (")
    assert SECRET not in caplog.text


async def test_our_own_bug_keeps_its_traceback(port: int, caplog: pytest.LogCaptureFixture) -> None:
    assert b" 500 " in await send(port, "GET /fault HTTP/1.1\r\nHost: x\r\n\r\n")

    (record,) = [record for record in caplog.records if record.name == "aiohttp.server"]
    assert (logging.ERROR, True) == (record.levelno, record.exc_info is not None)
