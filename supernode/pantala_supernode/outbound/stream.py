"""Reads the body of an answer in the event loop while a thread receives it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.request import Head, Request
from pantala_supernode.outbound.transfer import CancelledTransferError

_WAITING = 8 * 1024 * 1024
"""Bytes that may wait for the event loop. More of them make the thread wait, and so the server."""
_ENOUGH = 32 * 1024
_GATHER = 0.004
"""Seconds in which bytes collect after a read of fewer than ``_ENOUGH``: a wake-up for each packet is the main cost."""


class _Stream:
    """A sink that hands the body to the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.head: asyncio.Future[Head] = self._loop.create_future()
        self._condition = threading.Condition()
        self._waiting: list[bytes] = []
        self._size = 0
        self._closed = False
        self._news = asyncio.Event()
        self._told = False

    # In the thread that receives.

    def begin(self, head: Head) -> None:
        self._loop.call_soon_threadsafe(self._set_head, head)

    def take(self, data: bytes) -> None:
        with self._condition:
            self._waiting.append(data)
            self._size += len(data)
            wakes, self._told = not self._told, True
            while self._size >= _WAITING and not self._closed:
                self._condition.wait()
            if self._closed:
                raise CancelledTransferError
        if wakes:
            self._loop.call_soon_threadsafe(self._news.set)

    # In the event loop.

    def _set_head(self, head: Head) -> None:
        if not self.head.done():
            self.head.set_result(head)

    def close(self) -> None:
        """Release the thread: its bytes are of no use any more."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def received(self) -> bytes:
        """Take all bytes that wait."""
        with self._condition:
            found, self._waiting, self._size, self._told = self._waiting, [], 0, False
            self._news.clear()
            self._condition.notify()
        return b"".join(found)

    async def chunks(self, reading: asyncio.Task[Head]) -> AsyncGenerator[bytes, None]:
        """The body. It ends in order, or raises what ended the reading."""
        reading.add_done_callback(lambda _: self._news.set())
        while True:
            await self._news.wait()
            ended = reading.done()
            chunk = self.received()
            if chunk:
                yield chunk
            if ended:
                reading.result()
                return
            if len(chunk) < _ENOUGH:
                await asyncio.sleep(_GATHER)


@asynccontextmanager
async def streamed(client: OutboundClient, request: Request) -> AsyncIterator[tuple[Head, AsyncIterator[bytes]]]:
    """Send a request; give the head of its answer and its body. Leaving the context ends the reading.

    Raises what :meth:`OutboundClient.send` raises: at the start before the head, and from the body after it.
    """
    stream = _Stream()
    reading = asyncio.create_task(client.send(request, stream))
    chunks = stream.chunks(reading)
    try:
        await asyncio.wait({reading, stream.head}, return_when=asyncio.FIRST_COMPLETED)
        if not stream.head.done():
            reading.result()
        yield await stream.head, chunks
    finally:
        stream.close()
        reading.cancel()
        await chunks.aclose()
        with contextlib.suppress(BaseException):
            await reading
