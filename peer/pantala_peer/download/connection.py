"""An HTTP/1.1 client for one purpose: ``GET`` a range of bytes into an existing buffer.

A general client costs three times the CPU on a slow link, because each burst of packets wakes it up. This one asks the
kernel to wake it for many bytes at once. It copies only the bytes that arrive together with the answer's head.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from pantala_peer.errors import (
    CorruptError,
    FetchError,
    MissingError,
    ProviderRefusedError,
    ProviderUnreachableError,
    StalledError,
)

_MAX_HEAD = 8192
"""Bytes of an answer's head, at most."""

_WAKE_AT = 128 * 1024
"""Inside a piece, the kernel wakes the process only when so many bytes have arrived."""

_MIN_RATE = 32 * 1024
"""The minimum rate in bytes per second. A provider that sends less for some seconds counts as stalled."""

_TICK = 0.5
"""Seconds between two checks of the timeouts."""


@dataclass(frozen=True, slots=True)
class ReceiveTimeouts:
    """How long an answer may take, in seconds."""

    head: float
    stall: float
    slow: float = 5.0
    """For so long a provider may be slower than the minimum rate, because a link may be slow for a moment."""


@dataclass(frozen=True, slots=True)
class PieceRequest:
    """One request for a piece: its bytes, and the range that it asks for."""

    text: bytes
    first: int
    size: int
    ranged: bool = True
    """True if the answer must have a ``Content-Range``. Dragonfly's clients do not send one."""


class PieceConnection(asyncio.BufferedProtocol):
    """One connection to a provider. It handles one request at a time."""

    def __init__(self) -> None:
        self.closed = False
        self.answered = False
        """True once a byte of the answer to the present request has arrived."""
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._head = bytearray(_MAX_HEAD)
        self._filled = 0
        self._answer: asyncio.Future[None] | None = None
        self._request = PieceRequest(b"", 0, 0)
        self._into = memoryview(b"")
        self._body: memoryview | None = None
        self._received = 0
        self._keep = True
        self._wake_at = 1
        self._timeouts: Callable[[], ReceiveTimeouts] = lambda: ReceiveTimeouts(0, 0)
        self._sent_at = self._last_byte = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def get(self, request: PieceRequest, into: memoryview, timeouts: Callable[[], ReceiveTimeouts]) -> None:
        """Send ``request`` and fill ``into`` with its range. Raises :class:`FetchError`.

        ``timeouts`` is called again and again, because other downloads may change them meanwhile. After an error or a
        cancellation the connection is closed, and ``into`` is not written any more.
        """
        if self.closed or self._transport is None:
            raise ProviderUnreachableError("the connection to the provider was closed")
        loop = asyncio.get_running_loop()
        self._request, self._into, self._timeouts = request, into, timeouts
        self._filled = self._received = 0
        self.answered = False
        self._sent_at = self._last_byte = loop.time()
        self._answer = loop.create_future()
        self._timer = loop.call_later(_TICK, self._tick, loop)
        self._transport.write(request.text)
        try:
            await self._answer
        except BaseException:
            self.abort()
            raise
        finally:
            self._timer.cancel()
            self._answer = None
        if not self._keep:
            self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        self.closed = True
        self._body = None
        if self._transport is not None:
            self._transport.abort()

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("the transport must be a stream")
        self._transport = transport
        self._socket = transport.get_extra_info("socket")

    def get_buffer(self, sizehint: int) -> memoryview:
        """The buffer for the next bytes. It is never empty, because asyncio takes that for an error."""
        if self._body is not None:
            return self._body[self._received :]
        return memoryview(self._head)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._last_byte = asyncio.get_running_loop().time()
        if self._answer is None or self._answer.done():
            self.abort()  # without a request
        elif self._body is not None:
            self._advance(nbytes)
        else:
            self.answered = True
            self._filled += nbytes
            self._read_head()

    def eof_received(self) -> bool:
        self._fail(ProviderUnreachableError("the provider closed the connection before the end of the piece"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._fail(ProviderUnreachableError(f"the connection to the provider broke: {exc or 'closed'}"))

    # One answer

    def _read_head(self) -> None:
        end = self._head.find(b"\r\n\r\n", 0, self._filled)
        if end < 0:
            if self._filled == _MAX_HEAD:
                self._fail(CorruptError(f"the headers of the provider's answer have more than {_MAX_HEAD} bytes"))
            return
        try:
            self._keep = read_head(bytes(self._head[:end]), self._request)
        except FetchError as error:
            self._fail(error)
            return
        begun = memoryview(self._head)[end + 4 : self._filled]
        if len(begun) > self._request.size:
            self._fail(CorruptError("the provider's answer is longer than announced"))
            return
        self._body = self._into[: self._request.size]
        self._body[: len(begun)] = begun
        self._advance(len(begun))

    def _advance(self, count: int) -> None:
        self._received += count
        left = self._request.size - self._received
        self._wake_for(min(left, _WAKE_AT) if left else 1)
        if not left and self._answer is not None and not self._answer.done():
            self._body, self._filled = None, 0  # the head's buffer again: it may not be full while the connection idles
            self._answer.set_result(None)

    def _wake_for(self, count: int) -> None:
        """Tell the kernel to wake us for ``count`` bytes. If fewer bytes than these remain, it would never wake us."""
        if count != self._wake_at and self._socket is not None and not self.closed:
            self._wake_at = count
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now, timeouts = loop.time(), self._timeouts()
        quiet = now - self._last_byte
        limit = timeouts.head if self._body is None else timeouts.stall
        if quiet >= limit or self._received < (now - self._sent_at - timeouts.slow) * _MIN_RATE:
            why = f"no byte for {quiet:.1f} s" if quiet >= limit else "too few bytes per second"
            self._fail(StalledError(f"{self._received} of {self._request.size} bytes arrived, then {why}"))
            return
        if self._body is not None and quiet >= limit / 2:
            self._wake_for(1)  # fewer bytes may have arrived than wake us
        self._timer = loop.call_later(_TICK, self._tick, loop)

    def _fail(self, error: FetchError) -> None:
        self.abort()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def read_head(head: bytes, request: PieceRequest) -> bool:
    """Check the head of an answer, without its empty line. Returns True if the connection stays open.

    Only a 206 with exactly the requested range and a Content-Length is accepted. Raises :class:`FetchError`.
    """
    status_line, *lines = head.split(b"\r\n")
    version, _, rest = status_line.partition(b" ")
    code = rest[:3]
    if version != b"HTTP/1.1" or not code.isdigit() or rest[3:4] not in (b"", b" "):
        raise CorruptError("the provider's answer is not HTTP/1.1")
    _check_status(int(code))
    fields = _fields(lines)
    if b"transfer-encoding" in fields or b"content-encoding" in fields:
        raise CorruptError("the provider's answer has an encoding, which no piece may have")
    if fields.get(b"content-length") != b"%d" % request.size:
        raise CorruptError(f"the provider's answer does not have the requested {request.size} bytes")
    expected = b"bytes %d-%d/" % (request.first, request.first + request.size - 1)
    if request.ranged and not fields.get(b"content-range", b"").startswith(expected):
        raise CorruptError("the provider's answer does not have the requested range")
    return fields.get(b"connection", b"").lower() != b"close"


def _check_status(status: int) -> None:
    if status == 206:
        return
    if status == 404:
        raise MissingError("the provider does not have the piece")
    if status == 403:
        raise ProviderRefusedError("the provider does not accept the ticket")
    raise ProviderRefusedError(f"the provider answered {status}")


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip() or b"\n" in line or b"\r" in line:
            raise CorruptError("the headers of the provider's answer are not valid")
        name = name.lower()
        if name in (b"content-length", b"content-range") and name in fields:
            raise CorruptError("the provider's answer states its length twice")
        fields[name] = value.strip()
    return fields
