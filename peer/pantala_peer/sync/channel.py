"""One kept connection to a supernode, with one exchange at a time.

A general HTTP client needs three times the CPU time of the exchange itself (ADR 18). This one accepts only what a
supernode sends: an HTTP/1.1 answer with a ``Content-Length``.
"""

import asyncio
from typing import NamedTuple

MAX_ANSWER = 64 * 1024 * 1024
"""The largest answer in bytes: some 100,000 assignments."""

_MAX_HEAD = 16 * 1024

_ONCE = frozenset({b"content-length", b"transfer-encoding", b"content-encoding", b"connection"})
"""Headers that decide where an answer ends. None may occur twice."""


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
        """The length of the present answer's body. ``None`` until its head has arrived."""
        self._status = 0
        self._keep = True
        self._answer: asyncio.Future[ChannelAnswer] | None = None

    async def ask(self, request: bytes, *, timeout: float) -> ChannelAnswer:
        """Send a request and wait for its answer. Raises :class:`ChannelError` and :class:`TimeoutError`."""
        if self.closed:
            raise StaleChannelError("the connection was closed")
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        timer = loop.call_later(timeout, self._fail, TimeoutError("no answer in time"))
        self._transport.write(request)
        try:
            return await self._answer
        except BaseException:
            self.abort()
            raise
        finally:
            timer.cancel()
            self._answer = None

    def abort(self) -> None:
        """Close the connection at once."""
        self.closed = True
        self._received.clear()
        self._transport.abort()

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("the transport must be a stream")
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.abort()  # no request waits for these bytes
            return
        self._received += data
        try:
            complete = self._read_head() and len(self._received) >= (self._length or 0)
        except ChannelError as error:
            self._fail(error)
            return
        if complete:
            self._end(self._answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._received or self._length is not None:
            self._fail(ChannelError(f"the connection broke within the answer: {exc or 'closed'}"))
        else:
            self._fail(StaleChannelError(f"the connection broke: {exc or 'closed by the supernode'}"))

    def _end(self, answer: "asyncio.Future[ChannelAnswer]") -> None:
        extra = len(self._received) > (self._length or 0)
        answer.set_result(ChannelAnswer(self._status, bytes(self._received[: self._length])))
        self._received.clear()
        self._length = None
        if extra or not self._keep:
            self.abort()

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def _read_head(self) -> bool:
        """Read the head of the answer. False if more of it must arrive. Raises :class:`ChannelError`."""
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
            raise ChannelError("the answer states its length twice")
        fields[name] = value.strip()
    length = fields.get(b"content-length", b"")
    if b"transfer-encoding" in fields or b"content-encoding" in fields or not length.isdigit():
        raise ChannelError("the answer has no Content-Length, or an encoding; reach the supernode without a proxy")
    if len(length) > 12 or int(length) > MAX_ANSWER:
        raise ChannelError(f"the answer is larger than {MAX_ANSWER} bytes")
    keep = version == b"HTTP/1.1" and fields.get(b"connection", b"").lower() != b"close"
    return int(rest[:3]), int(length), keep
