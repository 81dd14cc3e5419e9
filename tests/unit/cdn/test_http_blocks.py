"""How a body is read: in a bounded number of blocks, at a bounded rate, until its reader ends."""

import asyncio
import contextlib
import gc
import tracemalloc
from collections.abc import AsyncGenerator

import pytest

from pantala_supernode.origin.body import BlockPool, Layout
from pantala_supernode.origin.http import HTTPReader
from pantala_supernode.tasks.copy import FileSource
from testbed.origin import Behaviour, Generated, Origin
from tests.support.eventually import eventually
from tests.support.http_answers import BODY
from tests.support.outbound import http_reader


async def test_blocks_are_freed_without_the_garbage_collector() -> None:
    size, body = 1 << 20, Generated(4 << 20)

    async def first_block(source: HTTPReader, url: str, *, cancelled: bool) -> None:
        async with (
            source.open(FileSource(url)) as answer,
            contextlib.aclosing(answer.body.blocks(Layout(size))) as blocks,
        ):
            if not cancelled:
                answer.body.stop_at(size)
            assert size == len(await anext(blocks))

    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        async with Origin() as origin, http_reader() as source:
            origin.serve("/file", body)
            for number in range(20):
                await first_block(source, origin.url("/file"), cancelled=number % 2 == 0)
            await asyncio.sleep(0.2)
            assert tracemalloc.get_traced_memory()[0] < 10 * size
    finally:
        tracemalloc.stop()
        gc.enable()


async def test_all_connections_of_a_copy_together_hold_few_blocks() -> None:
    size, count, body, pool = 1 << 20, 8, Generated(8 << 20), BlockPool()
    async with Origin() as origin, http_reader() as source, contextlib.AsyncExitStack() as stack:
        origin.serve("/file", body)
        opened = [source.open(FileSource(origin.url("/file"))) for _ in range(count)]
        bodies = [(await stack.enter_async_context(each)).body for each in opened]
        before, held = -1, 0
        readers = [each.blocks(Layout(size, pool=pool)) for each in bodies]
        first = [asyncio.create_task(anext(reader)) for reader in readers]
        while before < held or held < (count + 4) * size:
            await asyncio.sleep(0.1)
            before, held = held, sum(each.received for each in bodies)
        # Each connection has filled a block, and four more blocks wait for their readers.
        assert held < (count + 5) * size

        async def read(first: asyncio.Task[bytearray], rest: AsyncGenerator[bytearray, None]) -> bytearray:
            return await first + b"".join([block async for block in rest])

        assert [body.read(0, body.size)] * count == await asyncio.gather(*map(read, first, readers))


async def test_a_reader_that_ends_leaves_its_room_to_the_other_connections() -> None:
    size, body, pool = 1 << 20, Generated(16 << 20), BlockPool()
    async with Origin() as origin, http_reader() as source:
        origin.serve("/file", body)
        for _ in range(3):
            async with (
                source.open(FileSource(origin.url("/file"))) as answer,
                contextlib.aclosing(answer.body.blocks(Layout(size, pool=pool))) as blocks,
            ):
                assert size == len(await anext(blocks))
                await eventually(lambda: pool.full)
            assert not pool.full
        async with source.open(FileSource(origin.url("/file"))) as answer:
            read = [block async for block in answer.body.blocks(Layout(size, pool=pool))]
    assert body.read(0, body.size) == b"".join(read)


async def test_a_stopped_body_ends_with_its_last_whole_block() -> None:
    async with Origin() as origin, http_reader() as source:
        origin.serve("/file", BODY, always=Behaviour(rate=1_000_000.0))
        async with source.open(FileSource(origin.url("/file"))) as answer:
            answer.body.stop_at(150_000)
            assert BODY.read(0, 131_072) == b"".join([block async for block in answer.body.blocks(Layout(65_536))])
            assert 150_000 <= answer.body.received < 200_000


async def test_a_throttled_request_ends_with_its_reader_and_saves_nothing_afterwards() -> None:
    closed, saved = asyncio.Event(), []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(200_000))
        with contextlib.suppress(ConnectionError):
            await reader.read()
        closed.set()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/file"
    async with server, http_reader(lambda _source: lambda _size, _go: None) as source:
        async with source.open(FileSource(url)) as given:
            blocks = given.body.blocks(Layout(1 << 20, save=lambda number, start, data: saved.append(start)))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(blocks), 0.3)
        async with asyncio.timeout(2):
            await closed.wait()
    assert [] == saved
