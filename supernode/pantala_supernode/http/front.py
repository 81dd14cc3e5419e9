"""The front of the API port: answers the most frequent requests itself, and hands all other connections to aiohttp.

Peers and Dragonfly's clients send thousands of small requests a second. aiohttp needs more time for a request than the
supernode needs for its answer, mostly for tasks and header objects (ADR 18). So a :class:`HotRoute` is a plain function
that is called when a request has arrived. aiohttp gets the connection of any other request, with all bytes that are not
answered yet. It also gets the connection if the head is not plain (:mod:`pantala_supernode.http.head`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import msgspec
import structlog

from pantala_process.backoff import pause_until
from pantala_process.entrance.acceptor import FirstHead, Visit
from pantala_process.identity import TokenIdentity
from pantala_process.listening import plain_address
from pantala_process.tls.contexts import name_of
from pantala_supernode.errors import LimitedError
from pantala_supernode.http.access import AccessRefusedError, Guard, TokenUnknownError
from pantala_supernode.http.clients import PART, ClientLimits
from pantala_supernode.http.failures import failure_of
from pantala_supernode.http.head import PlainHead, UnusualHeadError, read_head, read_query
from pantala_supernode.http.operations import BODY_RATE, BODY_TIME, HotRequest, HotRoute
from pantala_supernode.metrics import Metrics

_log = structlog.get_logger(__name__)

_IDLE = 75.0
"""Seconds after which a connection without a request is closed."""

_HEAD = 10.0
"""The most seconds from the first byte of a request to the end of its head."""

_UNREAD, _UNREAD_TIME = 256 * 1024, 2.0
"""The most bytes of a refused body to read and drop, and the most seconds. Otherwise the client may lose the answer."""

_SWEEP = 2.0
"""Seconds between two checks for connections to close."""

_AHEAD = 64 * 1024
"""The most bytes that are read while an answer is pending."""


class Front:
    """Owns the connections that aiohttp does not serve, and closes silent connections."""

    def __init__(self, routes: tuple[HotRoute, ...], guard: Guard, metrics: Metrics, limits: ClientLimits) -> None:
        self.routes = {(route.method, route.path): route for route in routes}
        self.guard = guard
        self.limits = limits
        self.connections: set[FrontConnection] = set()
        self.closing = False
        self.encode = msgspec.json.Encoder().encode
        self.answered = metrics.answered
        self._date = (0, b"")
        self._sweeping: asyncio.TimerHandle | None = None
        self._left: asyncio.Event = asyncio.Event()

    def protocol(self, fallback: Callable[[], asyncio.Protocol], visit: Visit) -> asyncio.Protocol:
        """The protocol of a new connection. ``fallback`` creates aiohttp's protocol."""
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(_SWEEP, self._sweep)
        return FrontConnection(self, fallback, visit)

    def head(self, status: int, length: int, headers: Mapping[str, str]) -> bytes:
        """The head of an answer with a JSON body of ``length`` bytes."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = now, formatdate(now, usegmt=True).encode("ascii")
        first = b"200 OK" if status == 200 else f"{status} {HTTPStatus(status).phrase}".encode("ascii")
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1") if headers else b""
        return (
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nDate: %b\r\n%b\r\n"
            % (first, length, self._date[1], more)
        )  # fmt: skip

    def left(self, connection: "FrontConnection") -> None:
        """Forget a connection that closed, or that aiohttp serves now."""
        self.connections.discard(connection)
        if not self.connections:
            self._left.set()

    def drain(self) -> None:
        """Close each connection after the answer to its last request."""
        self.closing = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self.connections):
            connection.close_if_idle()

    async def close(self, grace: float) -> None:
        """After :meth:`drain`: wait until the last request is answered, ``grace`` seconds at most."""
        deadline = time.monotonic() + grace
        while self.connections and time.monotonic() < deadline:
            self._left.clear()
            await pause_until(self._left, max(0.0, deadline - time.monotonic()))
        for connection in list(self.connections):
            connection.abort()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in list(self.connections):
            connection.expire(now)
        self._sweeping = loop.call_later(_SWEEP, self._sweep)


class FrontConnection(asyncio.Protocol):
    """One connection. It serves one request at a time, in the order in which they arrive."""

    def __init__(self, front: Front, fallback: Callable[[], asyncio.Protocol], visit: Visit) -> None:
        self._front = front
        self._visit = visit
        self._fallback = fallback
        self._transport: asyncio.Transport
        self._time = asyncio.get_running_loop().time
        self._host = ""
        self._client: str | None = None
        """The name in the client's certificate. ``None`` on plain HTTP."""
        self._received = bytearray()
        self._head: PlainHead | None = None
        self._reserved = 0
        """The bytes that are reserved for the current body or answer."""
        self._unsent = memoryview(b"")
        """The bytes of the last answer that the transport does not have yet, because the client does not read."""
        self._last = False
        """True if the connection ends after the last answer."""
        self._query: Mapping[str, str] = {}
        self._route: HotRoute
        self._identity: TokenIdentity | None = None
        self._pending: asyncio.Future[Any] | None = None
        """What the current request waits for: the check of its token, its client's turn, or its answer."""
        self._choked = False
        """True while the client does not read its answers."""
        self._due = self._time() + _IDLE
        """When the connection is closed if its request has not arrived, or its answer was not read."""
        self._unread = 0
        """How many bytes of a refused body must still be dropped before the connection is closed."""

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("the transport must be a stream")
        self._transport = transport
        transport.set_write_buffer_limits(PART)  # with TLS, the default is higher
        self._host = plain_address((transport.get_extra_info("peername") or ("",))[0])
        self._client = name_of(transport.get_extra_info("peercert"))
        self._front.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._unread:
            self._drop(len(data))
            return
        if not self._received and self._head is None:
            self._due = self._time() + _HEAD
        self._received += data
        if self._pending is None and not self._choked:
            self._serve()
        elif len(self._received) > _AHEAD:
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        if self._unsent:
            self._send()
        if not self._choked:
            self._resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._front.left(self)
        self._received.clear()
        self._reserve(0)
        if self._pending is not None:
            self._pending.cancel()

    @property
    def _over(self) -> bool:
        """True if the connection serves no further request."""
        return self._unread > 0 or self._transport.is_closing()

    # Called by the front

    def close_if_idle(self) -> None:
        if self._pending is None and not (self._received or self._head or self._unsent):
            self._transport.close()

    def expire(self, now: float) -> None:
        """Close the connection if its client takes too long for a request, or to read an answer."""
        if self._pending is None and now > self._due:
            self.abort()

    def abort(self) -> None:
        self._transport.abort()

    # Requests

    def _serve(self) -> None:
        """Serve all requests that have arrived, until a request must wait."""
        while self._pending is None and not self._choked and not self._over:
            if self._head is None and not (self._received and self._begin()):
                return
            head = self._head
            if head is None or len(self._received) < head.length:
                return
            if self._front.limits.wait(self._client):
                self._wait_for(self._front.limits.turn(self._client))
                return
            body = bytes(self._received[: head.length])
            del self._received[: head.length]
            self._head = None
            self._reserve(0)
            with self._front.limits.serving(self._client):
                self._handle(body)

    def _begin(self) -> bool:
        """Read the head of a request. False: the request cannot be served yet, or aiohttp serves it."""
        try:
            head = read_head(self._received)
            if head is None:
                return False
            self._query = read_query(head.query)
        except UnusualHeadError:
            self._hand_over()
            return False
        route = self._front.routes.get((head.method, head.path))
        if route is None or head.length > route.most_body:
            self._hand_over()
            return False
        del self._received[: head.size]
        self._visit.arrived()
        self._due = self._time() + BODY_TIME + head.length / BODY_RATE
        self._head, self._route, guard = head, route, self._front.guard
        try:
            self._reserve(head.length)
            self._identity = guard.authorize_at_once(route.access, head.authorization, head.path, self._client)
        except TokenUnknownError:
            self._wait_for(self._authorize(head))
        except (AccessRefusedError, LimitedError) as error:
            self._fail(error, last=True)
        return self._pending is None and not self._over

    def _reserve(self, size: int) -> None:
        """Change the reserved bytes. Raises :class:`LimitedError`."""
        self._front.limits.change(self._client or self._host, self._reserved, size)
        self._reserved = size

    def _handle(self, body: bytes) -> None:
        try:
            answer = self._route.handler(HotRequest(self._query, body, self._host, self._identity))
        except Exception as error:
            self._fail(error)
            return
        if isinstance(answer, asyncio.Future):
            self._wait_for(answer)
        else:
            self._answer(200, self._front.encode(answer), {})

    async def _authorize(self, head: PlainHead) -> None:
        access, guard = self._route.access, self._front.guard
        self._identity = await guard.authorize(access, head.authorization, head.path, self._client)

    def _wait_for(self, condition: Awaitable[object]) -> None:
        """Let the current request wait: for the check of its token, for its client's turn, or for its answer."""
        self._pending = asyncio.ensure_future(condition)
        self._pending.add_done_callback(self._continue)

    def _continue(self, waited: "asyncio.Future[object]") -> None:
        """Continue the request. While its head is kept, its token or turn was awaited, otherwise its answer."""
        self._pending = None
        if waited.cancelled():
            self._transport.close()
            return
        error = waited.exception()
        if self._transport.is_closing():
            return
        if error is not None:
            self._fail(error, last=self._head is not None)
        elif self._head is None:
            self._answer(200, self._front.encode(waited.result()), {})
        self._resume()

    def _resume(self) -> None:
        if not self._over:
            self._transport.resume_reading()
            self._serve()

    def _fail(self, error: BaseException, *, last: bool = False) -> None:
        """Answer the current request with an error. ``last``: its body is dropped, and the connection ends."""
        failure = failure_of(error, self._route.method, self._route.path)
        self._answer(failure.status, self._front.encode(failure.body), failure.headers, last=last)

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str], *, last: bool = False) -> None:
        self._last = last or self._front.closing
        if self._last:
            headers = {**headers, "Connection": "close"}
        self._front.answered(status)
        self._due = self._time() + (_HEAD if self._received else _IDLE)
        answer = self._front.head(status, len(body), headers) + body
        if len(answer) <= PART:
            self._transport.write(answer)
        else:
            self._unsent = memoryview(answer)
        self._send()

    def _send(self) -> None:
        """Hand the answer to the transport while the client reads. Abort if the client leaves too many bytes unread."""
        while self._unsent and not self._choked:
            self._transport.write(bytes(self._unsent[:PART]))
            self._unsent = self._unsent[PART:] or memoryview(b"")  # an empty part would keep the whole answer in memory
        try:
            self._reserve(len(self._unsent))
        except LimitedError:
            self.abort()
        if not self._unsent and (self._last or self._front.closing):
            self._end()

    def _end(self) -> None:
        """Close the connection. If a part of the body has not arrived yet, drop it first."""
        self._unread, self._head = 0 if self._head is None else min(self._head.length, _UNREAD), None
        self._due = self._time() + _UNREAD_TIME
        arrived = len(self._received)
        self._received.clear()
        self._reserve(0)
        self._drop(arrived)
        self._transport.resume_reading()  # reading may have paused while the token was verified

    def _drop(self, count: int) -> None:
        self._unread = max(self._unread - count, 0)
        if not self._unread:
            self._transport.close()

    def _hand_over(self) -> None:
        """Let aiohttp serve the connection from now on, beginning with the bytes that are not answered yet."""
        received, self._received = bytes(self._received), bytearray()
        self._front.left(self)
        self._visit.expect()
        protocol: asyncio.Protocol = FirstHead(self._fallback, self._visit)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(received)
