"""A cancelled request ends at once, and harms no other request."""

import asyncio
import time

import pytest

from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.exchange import Exchange
from pantala_supernode.outbound.handles import HandlePool
from pantala_supernode.outbound.names import Names, system_lookup
from pantala_supernode.outbound.request import Head, Limits, Request, Timeouts
from pantala_supernode.outbound.route import Route
from pantala_supernode.outbound.trust import Trust
from testbed.origin import Behaviour, Generated, Origin
from tests.support.eventually import eventually
from tests.support.outbound import local_egress, raw_server

SIZE = 200_000


class Bytes:
    """A sink that counts."""

    def __init__(self) -> None:
        self.head: Head | None = None
        self.count = 0

    def begin(self, head: Head) -> None:
        self.head = head

    def take(self, data: bytes) -> None:
        self.count += len(data)


HANGS = {
    "before the head": Behaviour(delay=60),
    "in the head's wait for a body": Behaviour(stall_after=0),
    "in the body": Behaviour(stall_after=1000),
}


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("how", HANGS.values(), ids=HANGS.keys())
async def test_the_server_sees_the_end_within_100_ms(how: Behaviour, *, kept: bool) -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if kept and not begun.is_set():
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await reader.readuntil(b"\r\n\r\n")
        begun.set()
        if not how.delay:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + b"x" * (how.stall_after or 0))
        while await reader.read(1024):
            pass
        ended.set()

    begun = asyncio.Event()
    async with raw_server(serve) as url, OutboundClient(egress=local_egress()) as client:
        if kept:
            await client.send(Request(url, {}), Bytes())
        sending = asyncio.create_task(client.send(Request(url, {}), Bytes()))
        await begun.wait()
        await asyncio.sleep(0.05)
        sending.cancel()
        cancelled = time.monotonic()
        async with asyncio.timeout(2):
            await ended.wait()
        took = time.monotonic() - cancelled
        with pytest.raises(asyncio.CancelledError):
            await sending
    assert took < 0.1


async def test_a_late_cancellation_does_not_touch_the_next_request_on_the_connection() -> None:
    handles, route = HandlePool(), Route(local_egress(), None, Names(system_lookup))

    def exchange(url: str, sink: Bytes) -> Exchange:
        return Exchange(
            Request(url, {}), sink, handles=handles, route=route, trust=Trust(), timeouts=Timeouts(), limits=Limits()
        )

    async with Origin() as origin:
        origin.serve("/file", Generated(SIZE), script=[Behaviour()], always=Behaviour(rate=400_000.0, chunk=20_000))
        sink = Bytes()
        first, second = exchange(origin.url("/file"), Bytes()), exchange(origin.url("/file"), sink)
        await asyncio.to_thread(first.run)
        reading = asyncio.create_task(asyncio.to_thread(second.run))
        await eventually(lambda: sink.count)
        first.cancel()
        assert (await reading).status == 200
        assert (SIZE, 1) == (sink.count, len(origin._connections))
    handles.close()
