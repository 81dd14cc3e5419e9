"""A connection with blocking calls, for one thread at a time. A call that moves bytes does not hold Python's lock."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from pantala_pieces.transfer.secured import SecuredConnection
from pantala_process import names

TICK = 0.5
"""The most seconds that one call waits. Between two calls, the caller checks its deadlines."""

SEND_TICK = 0.1
"""The most seconds that a call waits to send. It is short, so that slow readers soon give back their slots."""

_OF_FILE = frozenset({errno.EIO, errno.EBADMSG, errno.ESTALE, errno.EINVAL, errno.EOVERFLOW})
"""The errors of ``sendfile`` that come from the file. All others come from the connection."""

_CHUNK = 256 * 1024
"""The number of bytes to read at once from a file, if the kernel cannot send the file directly."""

PEEK = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)

_TIMEOUT = struct.pack("ll", int(TICK), int(TICK % 1 * 1_000_000))
_SEND_TIMEOUT = struct.pack("ll", int(SEND_TICK), int(SEND_TICK % 1 * 1_000_000))


class ChannelClosedError(Exception):
    """The other side closed the connection, it broke, or :meth:`Channel.abort` was called."""


class Channel:
    """One connection. A call returns after :data:`TICK` seconds at the latest, whether bytes moved or not.

    Another thread may call :meth:`abort`. The current call and all later calls then raise :class:`ChannelClosedError`.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._wake_at = 1
        self._plain = True
        self._secured: SecuredConnection | None = None
        """TLS of a connection that this process opened. A connection that it accepted has an ``SSLSocket``."""
        self._lock = threading.Lock()
        self._closed = self._aborted = False
        self._configure()

    @classmethod
    def connect(
        cls,
        host: str,
        port: int,
        *,
        timeout: float,
        tls: ssl.SSLContext | None = None,
        name: str = "",
        begun: Callable[[Channel], None] | None = None,
    ) -> Channel:
        """Open a connection within ``timeout`` seconds. Raises :class:`OSError`, also if a certificate is not valid.

        With ``tls``, the server's certificate must have the name ``name``, or ``host`` if ``name`` is empty.
        ``begun`` is called with the channel before it connects to an address, so that another thread can abort it.
        """
        until = time.monotonic() + timeout
        failure: OSError = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in names.addresses(host, port, seconds=timeout):
            channel = cls(socket.socket(family, kind, protocol))
            try:
                if begun is not None:
                    begun(channel)
                channel._connect(address, until, name or host, tls)
            except OSError as error:
                channel.close()
                failure = error
            except BaseException:
                channel.close()
                raise
            else:
                return channel
        raise failure

    def _connect(self, address: Any, until: float, name: str, tls: ssl.SSLContext | None) -> None:
        if self._aborted:
            raise OSError("another thread aborted the connection")
        self._socket.settimeout(max(until - time.monotonic(), 0.001))
        self._socket.connect(address)
        if tls is not None:
            self._secured = SecuredConnection(self._socket, tls, name)
            self._secured.handshake(until)
        self._configure()

    def _configure(self) -> None:
        self._poller = select.poll()
        self._poller.register(self._socket, select.POLLIN)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._plain = not isinstance(self._socket, ssl.SSLSocket)
        if not self._plain:
            self._socket.settimeout(TICK)
        else:  # with these options one call waits in the kernel for many bytes; Python's timeout polls before each call
            self._socket.settimeout(None)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self, into: memoryview, *, wake_at: int = 1) -> int:
        """Receive into ``into``, and return the number of bytes. 0: no byte arrived within :data:`TICK`.

        The kernel wakes the thread when ``wake_at`` bytes are there. After :data:`TICK`, the call returns fewer.
        """
        try:
            if self._secured is not None:
                return self._receive_secured(self._secured, into, wake_at)
            if self._plain and wake_at != 1:  # poll() waits; recv() would take some bytes, then wait for as many again
                self._wake_for(wake_at)
                self._poller.poll(TICK * 1000)
                count = self._socket.recv_into(into, 0, socket.MSG_DONTWAIT)
            else:
                self._wake_for(1)
                count = self._socket.recv_into(into)
        except (BlockingIOError, TimeoutError):
            return 0
        except OSError as error:
            raise ChannelClosedError(f"the connection broke: {error}") from error
        if not count:
            raise ChannelClosedError("the other side closed the connection")
        return count

    def receive_some(self, most: int) -> bytes:
        """Receive at most ``most`` of the bytes that have arrived. Empty: no byte arrived within :data:`TICK`."""
        if self._secured is not None:
            buffer = bytearray(most)
            return bytes(buffer[: self.receive(memoryview(buffer))])
        try:
            self._wake_for(1)
            arrived = self._socket.recv(most)
        except (BlockingIOError, TimeoutError):
            return b""
        except OSError as error:
            raise ChannelClosedError(f"the connection broke: {error}") from error
        if not arrived:
            raise ChannelClosedError("the other side closed the connection")
        return arrived

    def _receive_secured(self, secured: SecuredConnection, into: memoryview, wake_at: int) -> int:
        """What :meth:`receive` does on a connection with TLS. Raises :class:`OSError`."""
        until = time.monotonic() + TICK
        while not (count := secured.read(into)):
            left = until - time.monotonic()
            if left <= 0:
                return 0
            self._wake_for(secured.missing(wake_at))
            self._poller.poll(left * 1000)
            if not secured.take():
                raise ConnectionError("the other side closed the connection")
        return count

    def _wake_for(self, count: int) -> None:
        if count != self._wake_at:
            self._wake_at = count
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def send(self, data: bytes | memoryview, *, more: bool = False) -> int:
        """Send the first bytes of ``data``. Returns how many: 0 if no byte was sent within :data:`SEND_TICK`.

        ``more``: the caller sends more bytes immediately after, so the kernel need not send a packet that is not full.
        """
        try:
            if self._secured is not None:
                return self._secured.send(data)
            if more and self._plain:
                return self._socket.send(data, socket.MSG_MORE)
            return self._socket.send(data)
        except (BlockingIOError, TimeoutError):
            return 0
        except OSError as error:
            raise ChannelClosedError(f"the connection broke: {error}") from error

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Send up to ``count`` bytes of a file. Returns how many: 0 if no byte was sent within :data:`SEND_TICK`.

        Raises :class:`EOFError` if the file ends at ``offset`` or before, and :class:`OSError` if it cannot be read.
        """
        if not self._plain or self._secured is not None:
            data = os.pread(fd, min(count, _CHUNK), offset)
            sent = self.send(data) if data else None
        else:
            try:
                sent = os.sendfile(self._socket.fileno(), fd, offset, count) or None
            except BlockingIOError:
                return 0
            except OSError as error:
                if error.errno in _OF_FILE:
                    raise
                raise ChannelClosedError(f"the connection broke: {error}") from error
        if sent is None:
            raise EOFError("the file is shorter than the piece")
        return sent

    @property
    def writable(self) -> bool:
        """True if the kernel accepts more bytes now. False: the other side has not read the bytes that were sent."""
        poller = select.poll()
        poller.register(self._socket, select.POLLOUT)
        return bool(poller.poll(0))

    @property
    def stale(self) -> bool:
        """True if an idle connection cannot take another request: it is closed, or unexpected bytes have arrived."""
        if not self._plain:
            return bool(self._poller.poll(0))
        try:  # poll() would wait for as many bytes as the last call of receive()
            self._socket.recv(1, PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def abort(self) -> None:
        """End the connection at once. Any thread may call this, also after :meth:`close`."""
        with self._lock, contextlib.suppress(OSError):
            self._aborted = True
            if not self._closed:  # otherwise another connection may have the number of the descriptor
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # SSLSocket's would make it a plain socket

    def close(self) -> None:
        """Release the socket. Only the thread that uses the channel may call this."""
        with self._lock:
            self._closed = True
            self._socket.close()
