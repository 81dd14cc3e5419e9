"""Accepts connections for asyncio, within limits. Clients that send no request cannot use up the connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence

import structlog

from pantala_process.entrance.connections import FIRST_REQUEST, ConnectionTable, FullError
from pantala_process.listening import plain_address

_log = structlog.get_logger(__name__)

_AT_ONCE = 64
"""Connections that are accepted before other work gets its turn."""

_BACKLOG = 1024
"""How many connections may wait in the kernel until the process accepts them. They are not open files yet."""

_CLOSING = 8
"""Sockets that may be open beyond the limit, because asyncio closes them a moment later."""

_PAUSE = 1.0
"""Seconds until the next attempt, after the process had no file descriptor left for a connection."""

_LOOK = 1.0
"""Seconds between two checks for connections without a request."""

_WARNING_INTERVAL = 60.0
"""Seconds between two log lines about refused connections."""

_UNREAD = 60.0
"""Seconds after which a connection ends if its client has read nothing of the bytes that were sent to it."""

_MOST_HEAD = 64 * 1024
"""The most bytes of a request's head. A connection that sends more is closed."""

_END = b"\r\n\r\n"


class _CountedSocket(socket.socket):
    """A socket that calls ``on_close`` when it is closed, because several parts of asyncio may close it."""

    on_close: Callable[[], None] | None = None

    def close(self) -> None:
        on_close, self.on_close = self.on_close, None
        super().close()
        if on_close is not None:
            on_close()


class Visit:
    """One connection that was accepted, and whether it has sent a request."""

    def __init__(self, acceptor: Acceptor, accepted: socket.socket) -> None:
        self.begun_at = 0.0
        """When the connection began to wait for the head of a request, in the event loop's time."""
        self.waits = True
        """True while the connection waits for a head that must be complete within :data:`FIRST_REQUEST` seconds."""
        self._acceptor = acceptor
        self._socket = accepted

    def arrived(self) -> None:
        """Record that a head is complete."""
        if self.waits:
            self.waits = False
            self._acceptor.table.served(self)

    def expect(self) -> None:
        """Record that the connection waits for another head."""
        self.waits = True
        self._acceptor.watch(self)

    def end(self) -> None:
        """End the connection. Its protocol is called as if the client had closed it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class Acceptor:
    """Accepts at ``listeners`` at most ``most`` connections. ``factory`` makes the protocol for each.

    A connection is closed if the head of its first request is not complete after :data:`FIRST_REQUEST` seconds. The
    protocol must call :meth:`Visit.arrived` when it is complete. :class:`FirstHead` does so for any protocol.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        factory: Callable[[Visit], asyncio.BaseProtocol],
        *,
        most: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._listeners = listeners
        self._factory = factory
        self._tls = tls
        self.table: ConnectionTable[Visit] = ConnectionTable(most)
        self._new: dict[Visit, None] = {}
        """The connections that may still wait for a head, the oldest first."""
        self._loop = asyncio.get_running_loop()
        self._open = 0
        """The sockets that are not closed yet."""
        self._openings: set[asyncio.Task[None]] = set()
        self._warned_at = float("-inf")
        self._closed = False

    def start(self) -> None:
        for listener in self._listeners:
            listener.listen(_BACKLOG)
            listener.setblocking(False)
        self._listen()
        self._look()

    def close(self) -> None:
        """Accept no further connection. Open connections stay."""
        self._closed = True
        self._pause()

    def watch(self, visit: Visit) -> None:
        """End the connection if no complete head arrives in time."""
        self._new.pop(visit, None)
        self._new[visit] = None
        visit.begun_at = self._loop.time()

    def _listen(self) -> None:
        if not self._closed:
            for listener in self._listeners:
                self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _pause(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            if self._open > self.table.most + _CLOSING:
                return  # the connections that were ended are closed in the next turns
            try:
                accepted, source = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # the client has gone
            except OSError as error:  # no descriptor or memory is left
                self._warn("cannot accept connections; trying again", reason=str(error))
                self._pause()
                self._loop.call_later(_PAUSE, self._listen)
                return
            self._admit(accepted, plain_address(str(source[0])) if isinstance(source, tuple) else "")

    def _admit(self, accepted: socket.socket, address: str) -> None:
        """Open a connection, or close it if there are too many."""
        try:
            former = self.table.dispensable(address)
        except FullError:
            accepted.close()
            self._warn(
                "too many connections: refusing new connections; raise the limit of open files", most=self.table.most
            )
            return
        if former is not None:
            former.end()
            self._left(former)
        counted = _CountedSocket(accepted.family, accepted.type, accepted.proto, accepted.detach())
        counted.setblocking(False)
        if counted.family != socket.AF_UNIX:
            counted.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_UNREAD * 1000))
        visit = Visit(self, counted)
        counted.on_close = lambda: self._on_close(visit)
        self._open += 1
        self.table.add(visit, address)
        self.watch(visit)
        opening = self._loop.create_task(self._connect(visit, counted))
        self._openings.add(opening)
        opening.add_done_callback(self._openings.discard)

    async def _connect(self, visit: Visit, counted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._factory(visit),
                counted,
                ssl=self._tls,
                ssl_handshake_timeout=FIRST_REQUEST if self._tls is not None else None,
            )
        except OSError:
            counted.close()  # the client has gone, or its handshake failed

    def _on_close(self, visit: Visit) -> None:
        self._open -= 1
        self._left(visit)

    def _left(self, visit: Visit) -> None:
        self.table.remove(visit)
        self._new.pop(visit, None)

    def _look(self) -> None:
        """End the connections whose first request takes too long."""
        if self._closed:
            return
        now = self._loop.time()
        for visit in list(self._new):
            if visit.waits and now - visit.begun_at < FIRST_REQUEST:
                break
            if visit.waits:
                visit.end()
            del self._new[visit]
        self._loop.call_later(_LOOK, self._look)

    def _warn(self, event: str, **values: object) -> None:
        now = self._loop.time()
        if now - self._warned_at >= _WARNING_INTERVAL:
            self._warned_at = now
            _log.warning(event, **values)


class FirstHead(asyncio.Protocol):
    """Passes bytes on to ``server()``, which becomes the connection's protocol after the head of the first request."""

    def __init__(self, server: Callable[[], asyncio.Protocol], visit: Visit) -> None:
        self._inner = server()
        self._visit = visit
        self._transport: asyncio.Transport | None = None
        self._tail = b""
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._size += len(data)
        window = self._tail + data
        self._tail = window[-(len(_END) - 1) :]
        if self._transport is not None:
            if _END in window:
                self._visit.arrived()
                self._transport.set_protocol(self._inner)
            elif self._size > _MOST_HEAD:
                self._transport.abort()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)
