"""Serving pieces to clients that do not stay."""

import asyncio
import hashlib
import time
from pathlib import Path

import pytest
from aiohttp import web

from pantala_pieces.file import Meta, Piece
from pantala_pieces.server import PieceServer
from pantala_pieces.store import PieceStore
from pantala_protocol import ticket

TASK = "a" * 64
CONTENT = bytes(1024)


async def test_a_client_that_goes_away_before_the_first_byte_is_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = PieceStore(tmp_path, durable=False)
    store.open()
    store.create(Meta(TASK, "g", 1024, 1024)).put([Piece(0, memoryview(CONTENT), hashlib.sha256(CONTENT).digest())])
    gone, served = asyncio.Event(), asyncio.Event()

    async def pace(_size: int) -> None:
        await gone.wait()
        await asyncio.sleep(0.05)  # until its transport is known to be closed
        served.set()

    server = PieceServer(store.get, keys=lambda: (b"key",), clock=time.time, slots=1, pace=pace)
    app = web.Application()
    server.add_routes(app.router)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        _, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        shown = ticket.issue(b"key", TASK, "g", now=time.time())
        head = f"GET /pieces/{TASK}/g HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1023\r\n{ticket.HEADER}: {shown}\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()
        gone.set()
        await asyncio.wait_for(served.wait(), 5)
        await asyncio.sleep(0.1)
    finally:
        await runner.cleanup()
        store.close()
    assert 0 == server.bytes_sent
    assert [] == [record for record in caplog.records if record.levelname == "ERROR"]
