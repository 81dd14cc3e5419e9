"""A connection with blocking calls, for one thread at a time. Every call that moves bytes releases the interpreter."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct

TICK = 0.5
"""Seconds that one call waits at most. Between two calls, the caller checks its deadlines."""

_CHUNK = 256 * 1024
"""Bytes that are read at once from a file, if the kernel cannot send the file itself."""

_TIMEOUT = struct.pack("ll", int(TICK), int(TICK % 1 * 1_000_000))


class ChannelClosedError(Exception):
    """The other side closed the connection, it broke, or :meth:`Channel.abort` was called."""


class Channel:
    """One connection. A call returns after :data:`TICK` seconds at the latest, whether bytes moved or not.

    Another thread may call :meth:`abort`. Then the present call and all later ones raise :class:`ChannelClosedError`.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._wake_at = 1
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if isinstance(connection, ssl.SSLSocket):
            connection.settimeout(TICK)
        else:  # with these options one call waits in the kernel for many bytes; Python's timeout polls before each call
            connection.settimeout(None)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEOUT)

    @classmethod
    def connect(cls, host: str, port: int, *, timeout: float, tls: ssl.SSLContext | None = None) -> Channel:
        """Open a connection. Raises :class:`OSError`, also for a certificate that is not valid."""
        connection = socket.create_connection((host, port), timeout)
        try:
            return cls(connection if tls is None else tls.wrap_socket(connection, server_hostname=host))
        except BaseException:
            connection.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self, into: memoryview, *, wake_at: int = 1) -> int:
        """Receive into ``into``, and return the number of bytes. 0: none arrived within :data:`TICK`.

        The kernel wakes the thread when ``wake_at`` bytes are there, not for each packet. Less is returned at a tick.
        """
        if wake_at != self._wake_at and not isinstance(self._socket, ssl.SSLSocket):
            self._wake_at = wake_at
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, wake_at)
        try:
            count = self._socket.recv_into(into)
        except (BlockingIOError, TimeoutError):
            return 0
        except OSError as error:
            raise ChannelClosedError(f"the connection broke: {error}") from error
        if not count:
            raise ChannelClosedError("the other side closed the connection")
        return count

    def send(self, data: bytes | memoryview) -> int:
        """Send the first bytes of ``data``, and return their number. 0: none within :data:`TICK`."""
        try:
            return self._socket.send(data)
        except (BlockingIOError, TimeoutError):
            return 0
        except OSError as error:
            raise ChannelClosedError(f"the connection broke: {error}") from error

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Send up to ``count`` bytes of a file, and return their number. 0: none within :data:`TICK`.

        Raises :class:`EOFError` if the file ends before ``offset``, and :class:`OSError` if it cannot be read.
        """
        if isinstance(self._socket, ssl.SSLSocket):
            data = os.pread(fd, min(count, _CHUNK), offset)
            sent = self.send(data) if data else None
        else:
            try:
                sent = os.sendfile(self._socket.fileno(), fd, offset, count) or None
            except BlockingIOError:
                return 0
            except (ConnectionError, BrokenPipeError) as error:
                raise ChannelClosedError(f"the connection broke: {error}") from error
        if sent is None:
            raise EOFError("the file is shorter than the piece")
        return sent

    def abort(self) -> None:
        """End the connection at once. Any thread may call this."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Release the socket. Only the thread that uses the channel may call this."""
        self._socket.close()
