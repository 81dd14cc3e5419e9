"""One kept connection to a supernode, with one exchange at a time.

A general HTTP client needs three times the CPU time of the exchange itself (ADR 18). This client accepts only answers
like a supernode's: HTTP/1.1 with a ``Content-Length``.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

MAX_ANSWER = 64 * 1024 * 1024
"""The largest answer in bytes: about 100,000 assignments."""

_MAX_HEAD = 16 * 1024

_ONCE = frozenset({b"content-length", b"transfer-encoding", b"content-encoding", b"connection"})
"""Headers that decide where an answer ends. Each may occur only once."""


class ChannelError(Exception):
    """The supernode did not answer, or its answer is not valid HTTP."""


class StaleChannelError(ChannelError):
    """The supernode closed the connection before the first byte of its answer."""


class ChannelAnswer(NamedTuple):
    """The status and the body of an answer."""

    status: int
    body: bytes


class ExchangeChannel(asyncio.Protocol):
    """One connection. After an error or a cancellation it is closed."""

    def __init__(self) -> None:
        self.closed = False
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._length: int | None = None
        """The length of the current answer's body. ``None`` until the answer's head has arrived."""
        self._status = 0
        self._keep = True
        self._ended: Callable[[ChannelAnswer | Exception], None] | None = None
        """Called with the answer to the current request. ``None`` without a request."""
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        """Fires at the deadline of the current or of an earlier request: many requests share one timer."""

    async def ask(self, request: bytes, *, timeout: float) -> ChannelAnswer:
        """Send a request and wait for its answer. Raises :class:`ChannelError` and :class:`TimeoutError`."""
        answer: asyncio.Future[ChannelAnswer] = asyncio.get_running_loop().create_future()

        def ended(end: ChannelAnswer | Exception) -> None:
            if answer.done():
                return
            if isinstance(end, Exception):
                answer.set_exception(end)
            else:
                answer.set_result(end)

        try:
            self.send(request, ended, timeout=timeout)
            return await answer
        except BaseException:
            self.abort()
            raise

    def send(self, request: bytes, ended: Callable[[ChannelAnswer | Exception], None], *, timeout: float) -> None:
        """Send a request. ``ended`` is called once, with the answer or an error, but not after :meth:`abort`.

        Raises :class:`StaleChannelError` if the connection is closed.
        """
        if self.closed:
            raise StaleChannelError("the connection to the supernode was closed")
        loop = asyncio.get_running_loop()
        self._ended = ended
        self._deadline = loop.time() + timeout
        if self._timer is None or self._timer.when() > self._deadline:
            self._arm(loop)
        self._transport.write(request)

    def abort(self) -> None:
        """Close the connection at once."""
        self._close()
        self._ended = None
        self._received.clear()
        self._transport.abort()

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("the transport must be a stream")
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._ended is None:
            self.abort()  # the supernode sent bytes without a request
            return
        self._received += data
        try:
            complete = self._read_head() and len(self._received) >= (self._length or 0)
        except ChannelError as error:
            self._end(error)
            return
        if complete:
            self._end(self._take())

    def connection_lost(self, exc: Exception | None) -> None:
        self._close()
        if self._received or self._length is not None:
            self._end(ChannelError(f"the connection broke within the answer: {exc or 'closed'}"))
        else:
            self._end(StaleChannelError(f"the connection broke: {exc or 'closed by the supernode'}"))

    def _take(self) -> ChannelAnswer:
        """Return the complete answer. The connection is then ready for the next request, or closed."""
        answer = ChannelAnswer(self._status, bytes(self._received[: self._length]))
        extra = len(self._received) > (self._length or 0)
        self._received.clear()
        self._length = None
        if extra or not self._keep:
            self._close()
            self._transport.abort()
        return answer

    def _end(self, end: ChannelAnswer | Exception) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(end)  # the callback may send the next request

    def _close(self) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(self._deadline, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._ended is not None and loop.time() < self._deadline:
            self._arm(loop)
        else:
            self._end(TimeoutError("no answer in time"))

    def _read_head(self) -> bool:
        """Read the head of the answer. False if the head is not complete yet. Raises :class:`ChannelError`."""
        if self._length is not None:
            return True
        end = self._received.find(b"\r\n\r\n", 0, _MAX_HEAD)
        if end < 0:
            if len(self._received) >= _MAX_HEAD:
                raise ChannelError(f"the head of the answer is larger than {_MAX_HEAD} bytes")
            return False
        self._status, self._length, self._keep = _head(bytes(self._received[:end]))
        del self._received[: end + 4]
        return True


def _head(text: bytes) -> tuple[int, int, bool]:
    """The status, the length of the body, and whether the connection stays open. Raises :class:`ChannelError`."""
    first, *lines = text.split(b"\r\n")
    version, _, rest = first.partition(b" ")
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not rest[:3].isdigit() or rest[3:4] not in (b"", b" "):
        raise ChannelError("the answer is not HTTP/1.1")
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or not name or name != name.strip() or b"\n" in line or b"\r" in line:
            raise ChannelError("a header of the answer is not valid")
        if name in _ONCE and name in fields:
            raise ChannelError("the answer repeats a header that must occur once")
        fields[name] = value.strip()
    length = fields.get(b"content-length", b"")
    if b"transfer-encoding" in fields or b"content-encoding" in fields or not length.isdigit():
        raise ChannelError("the answer is encoded or has no Content-Length; reach the supernode without a proxy")
    if len(length) > 12 or int(length) > MAX_ANSWER:
        raise ChannelError(f"the answer is larger than {MAX_ANSWER} bytes")
    keep = version == b"HTTP/1.1" and fields.get(b"connection", b"").lower() != b"close"
    return int(rest[:3]), int(length), keep
