"""Passes an answer from the thread that receives it to the event loop."""

import asyncio
import contextlib
import sys
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

from pantala_supernode.origin.body import BlockCutter, BlockPool, Layout
from pantala_supernode.outbound.client import OutboundClient
from pantala_supernode.outbound.errors import CancelledTransferError, OutboundError
from pantala_supernode.outbound.request import Head, Request

Throttle = Callable[[int, Callable[[], None]], None]
"""Called in the receiving thread with a number of bytes. It calls the given function once the bytes may pass."""
Translate = Callable[[OutboundError], Exception]
"""Returns the error that the reader of a body gets instead of the :class:`OutboundError`."""


class StreamedBody:
    """A sink in one thread, and a :class:`pantala_supernode.origin.body.Body` in the event loop."""

    def __init__(self, throttle: Throttle | None, translate: Translate) -> None:
        self._loop = asyncio.get_running_loop()
        self._throttle = throttle
        self._translate = translate
        self.head: asyncio.Future[Head] = self._loop.create_future()
        self.received = 0
        self.held = False
        self._stop = sys.maxsize
        self._condition = threading.Condition()
        self._cutter: BlockCutter | None = None
        self._pool = BlockPool()
        self._complete: deque[bytearray] = deque()
        self._closed = self._passes = self._stopped = False
        self._ended: asyncio.Task[Head] | None = None
        self._news = asyncio.Event()

    # In the thread.

    def begin(self, head: Head) -> None:
        self._loop.call_soon_threadsafe(self._set_head, head)

    def take(self, data: bytes) -> None:
        """Copy bytes into blocks. The first call blocks until the reader has chosen the layout of the blocks."""
        cutter = self._cutter or self._chosen_cutter()
        if self._throttle is not None:
            self._wait_for_turn(self._throttle, len(data))
        if self._closed:  # another connection may already read these bytes
            raise CancelledTransferError
        self.received += len(data)
        for block in cutter.cut(data):
            self._hand_over(block)
        if self.received >= self._stop:
            self._stopped = True
            raise CancelledTransferError

    def _chosen_cutter(self) -> BlockCutter:
        with self._condition:
            self.held = True
            self._condition.wait_for(lambda: self._closed or self._cutter is not None)
            self.held = False
            if self._cutter is None:
                raise CancelledTransferError
            return self._cutter

    def _wait_for_turn(self, throttle: Throttle, amount: int) -> None:
        self._passes, self.held = False, True
        throttle(amount, self._pass)
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._passes)
        self.held = False

    def _pass(self) -> None:
        with self._condition:
            self._passes = True
            self._condition.notify_all()

    def _hand_over(self, block: bytearray) -> None:
        self.held = self._pool.full
        entered = self._pool.enter(len(block), lambda: self._closed)
        self.held = False
        if not entered:
            raise CancelledTransferError
        with self._condition:
            self._complete.append(block)
            if self._closed:
                self._drop_complete()
        self._loop.call_soon_threadsafe(self._news.set)

    # In the event loop.

    def stop_at(self, end: int) -> None:
        self._stop = end

    async def blocks(self, layout: Layout) -> AsyncGenerator[bytearray, None]:
        """See :meth:`pantala_supernode.origin.body.Body.blocks`. Raises the exception that ended the transfer.

        A body that :meth:`stop_at` ended has no unfinished block.
        """
        cutter = BlockCutter(layout)
        with self._condition:
            self._cutter, self._pool = cutter, layout.pool
            self._condition.notify_all()
        while True:
            await self._news.wait()
            self._news.clear()
            ended = self._ended
            while self._complete:
                block = self._complete.popleft()
                size = len(block)
                try:
                    yield block
                finally:
                    self._pool.leave(size)
            if ended is not None:
                if ended.cancelled() or ended.exception() is not None:
                    await asyncio.to_thread(cutter.save)
                if self._stopped:
                    return
                self.outcome(ended)
                for block in cutter.rest():
                    yield block
                return

    def end(self, reading: asyncio.Task[Head]) -> None:
        """Record that the transfer has ended. The event loop calls this after the last :meth:`take`."""
        self._ended = reading
        self._cutter = None  # free its large block, because the transfer's exception still refers to this object
        self._news.set()

    def close(self) -> None:
        """End the thread. It receives no further bytes."""
        with self._condition:
            self._closed = True
            self._drop_complete()
            self._condition.notify_all()
        self._pool.wake()

    def outcome(self, ended: asyncio.Task[Head]) -> Head:
        """The result of the ended transfer. Raises its exception."""
        try:
            return ended.result()
        except OutboundError as error:
            raise self._translate(error) from None

    def _drop_complete(self) -> None:
        while self._complete:
            self._pool.leave(len(self._complete.popleft()))

    def _set_head(self, head: Head) -> None:
        if not self.head.done():
            self.head.set_result(head)


@asynccontextmanager
async def streamed(
    client: OutboundClient, request: Request, throttle: Throttle | None, translate: Translate
) -> AsyncIterator[tuple[Head, StreamedBody]]:
    """Send a request, and yield the head of its answer and its body. Leaving the context ends the transfer.

    Raises the exceptions of :meth:`OutboundClient.send`, with each :class:`OutboundError` translated. After the head
    has arrived, reading the body raises them.
    """
    body = StreamedBody(throttle, translate)
    reading = asyncio.create_task(client.send(request, body))
    reading.add_done_callback(body.end)
    try:
        await asyncio.wait({reading, body.head}, return_when=asyncio.FIRST_COMPLETED)
        yield body.head.result() if body.head.done() else body.outcome(reading), body
    finally:
        body.close()
        reading.cancel()
        with contextlib.suppress(BaseException):
            await reading
