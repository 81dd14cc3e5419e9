"""Receiving pieces: an HTTP/1.1 client that does one thing, ``GET`` of one range into a buffer that is there already.

A general client costs three times the CPU on a slow link, where each burst of packets wakes it up. This one asks the
kernel to wake it for many bytes at once, and copies none but those that come along with an answer's head.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from pantala_peer.errors import (
    CorruptError,
    FetchError,
    MissingError,
    RefusedError,
    StalledError,
    UnreachableError,
)

_MAX_HEAD = 8192
"""Bytes of an answer's head; more is not read."""

_WAKE_AT = 128 * 1024
"""Bytes for which the kernel wakes us in mid-piece."""

_MIN_RATE = 32 * 1024
"""Bytes per second below which a provider that always sends a little counts as stalled, after a while."""

_TICK = 0.5
"""Seconds between two looks at the clock."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an answer may take, in seconds."""

    head: float
    stall: float
    slow: float = 5.0
    """Until a rate is demanded: a link may be slow for a while, and a small piece may come slowly."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The range of one request."""

    first: int
    size: int
    ranged: bool = True
    """The answer must tell its range; Dragonfly's clients do not."""


class Connection(asyncio.BufferedProtocol):
    """One connection to a provider; one request at a time."""

    def __init__(self) -> None:
        self.closed = False
        self.heard = False
        """Whether a byte of the present answer came."""
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._head = bytearray(_MAX_HEAD)
        self._filled = 0
        self._answer: asyncio.Future[None] | None = None
        self._asked = Asked(0, 0)
        self._into = memoryview(b"")
        self._body: memoryview | None = None
        self._got = 0
        self._keep = True
        self._wake_at = 1
        self._patient: Callable[[], Patience] = lambda: Patience(0, 0)
        self._asked_at = self._last_byte = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def get(self, request: bytes, asked: Asked, into: memoryview, patient: Callable[[], Patience]) -> None:
        """Send ``request`` and fill ``into`` with the range that it asks for. Raises :class:`FetchError`.

        ``patient`` is asked again and again: what may be expected is often learnt from others meanwhile.
        After an error, or when cancelled, the connection is closed and nothing is written to ``into`` any more.
        """
        if self.closed or self._transport is None:
            raise UnreachableError("the connection was closed")
        loop = asyncio.get_running_loop()
        self._asked, self._into, self._patient = asked, into, patient
        self._filled = self._got = 0
        self.heard = False
        self._asked_at = self._last_byte = loop.time()
        self._answer = loop.create_future()
        self._timer = loop.call_later(_TICK, self._tick, loop)
        self._transport.write(request)
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
        """Close at once."""
        self.closed = True
        self._body = None
        if self._transport is not None:
            self._transport.abort()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream is needed")
        self._transport = transport
        self._socket = transport.get_extra_info("socket")

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go; never empty, or asyncio would take it for an error."""
        if self._body is not None:
            return self._body[self._got :]
        return memoryview(self._head)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Some bytes came."""
        self._last_byte = asyncio.get_running_loop().time()
        if self._answer is None or self._answer.done():
            self.abort()  # nothing was asked
        elif self._body is not None:
            self._advance(nbytes)
        else:
            self.heard = True
            self._filled += nbytes
            self._read_head()

    def eof_received(self) -> bool:
        """The provider will send no more."""
        self._fail(UnreachableError("the provider closed the connection before the end of the piece"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self.closed = True
        self._fail(UnreachableError(f"the connection broke: {exc or 'closed'}"))

    # One answer

    def _read_head(self) -> None:
        end = self._head.find(b"\r\n\r\n", 0, self._filled)
        if end < 0:
            if self._filled == _MAX_HEAD:
                self._fail(CorruptError(f"the head of the answer has more than {_MAX_HEAD} bytes"))
            return
        try:
            self._keep = read_head(bytes(self._head[:end]), self._asked)
        except FetchError as error:
            self._fail(error)
            return
        begun = memoryview(self._head)[end + 4 : self._filled]
        if len(begun) > self._asked.size:
            self._fail(CorruptError("the body is longer than announced"))
            return
        self._body = self._into[: self._asked.size]
        self._body[: len(begun)] = begun
        self._advance(len(begun))

    def _advance(self, count: int) -> None:
        self._got += count
        left = self._asked.size - self._got
        self._wake_for(min(left, _WAKE_AT) if left else 1)
        if not left and self._answer is not None and not self._answer.done():
            self._body, self._filled = (
                None,
                0,
            )  # back to the head's buffer, empty, or the end of an idle connection fails
            self._answer.set_result(None)

    def _wake_for(self, count: int) -> None:
        """Be woken for ``count`` bytes; never for more than are still to come, or the last ones would never wake us."""
        if count != self._wake_at and self._socket is not None and not self.closed:
            self._wake_at = count
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now, patience = loop.time(), self._patient()
        quiet = now - self._last_byte
        limit = patience.head if self._body is None else patience.stall
        if quiet >= limit or self._got < (now - self._asked_at - patience.slow) * _MIN_RATE:
            what = f"no byte for {quiet:.1f} s" if quiet >= limit else "it is too slow"
            self._fail(StalledError(f"{self._got} of {self._asked.size} bytes came, then {what}"))
            return
        if self._body is not None and quiet >= limit / 2:
            self._wake_for(1)  # fewer bytes than we are woken for may have come
        self._timer = loop.call_later(_TICK, self._tick, loop)

    def _fail(self, error: FetchError) -> None:
        self.abort()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)


def read_head(head: bytes, asked: Asked) -> bool:
    """Check the head of an answer (without its empty line) against what was asked; tell whether the connection is kept.

    Only a 206 with exactly the range and a Content-Length passes. Raises :class:`FetchError` for all else.
    """
    status_line, *lines = head.split(b"\r\n")
    version, _, rest = status_line.partition(b" ")
    code = rest[:3]
    if version != b"HTTP/1.1" or not code.isdigit() or rest[3:4] not in (b"", b" "):
        raise CorruptError("the answer is not HTTP/1.1")
    _check_status(int(code))
    fields = _fields(lines)
    if b"transfer-encoding" in fields or b"content-encoding" in fields:
        raise CorruptError("the answer is encoded, which was not asked for")
    if fields.get(b"content-length") != b"%d" % asked.size:
        raise CorruptError(f"the answer does not have the {asked.size} bytes that were asked for")
    expected = b"bytes %d-%d/" % (asked.first, asked.first + asked.size - 1)
    if asked.ranged and not fields.get(b"content-range", b"").startswith(expected):
        raise CorruptError("the answer has another range than was asked for")
    return fields.get(b"connection", b"").lower() != b"close"


def _check_status(status: int) -> None:
    if status == 206:
        return
    if status == 404:
        raise MissingError("the provider does not hold the piece")
    if status == 403:
        raise RefusedError("the provider does not accept the ticket")
    raise RefusedError(f"the provider answered {status}")


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip() or b"\n" in line or b"\r" in line:
            raise CorruptError("the head of the answer cannot be read")
        name = name.lower()
        if name in (b"content-length", b"content-range") and name in fields:
            raise CorruptError("the answer states its length twice")
        fields[name] = value.strip()
    return fields
