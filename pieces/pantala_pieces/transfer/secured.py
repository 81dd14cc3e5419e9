"""TLS for a connection that receives pieces, in large steps.

A TLS record has at most 16 KiB. ``ssl.SSLSocket`` calls the kernel twice for each record. Here one call reads up to 256
KiB, and the records are decrypted from memory. That halves the CPU time of a connection with TLS.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time

_AT_ONCE = 256 * 1024
"""The most bytes that one call reads from the kernel."""

_RECORD = 16 * 1024
_OVERHEAD = 22
"""Bytes of a record in addition to its content."""


class SecuredConnection:
    """The TLS side of a connected socket. One thread at a time uses it. Raises :class:`OSError`."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, name: str) -> None:
        """``name`` must be in the server's certificate."""
        self._socket = connection
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self._tls = context.wrap_bio(self._arrived, self._leaving, server_hostname=name)
        except ValueError as error:  # also UnicodeError, from the encoding of names in other scripts
            raise OSError(f"{name[:100]!r} is not a valid name of a server: {error}") from error
        self._taken = self._decrypted = 0
        """Bytes of the current answer: read from the kernel, and decrypted."""

    def handshake(self, until: float) -> None:
        """Verify the server's certificate, until a time in monotonic seconds."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                finished = False
            else:
                finished = True
            self._socket.settimeout(max(until - time.monotonic(), 0.001))
            self._socket.sendall(self._leaving.read())
            if finished:
                return
            if not self.take(0):
                raise ConnectionError("the server closed the connection during the handshake")

    def send(self, request: bytes | memoryview) -> int:
        """Send a request. The server must have answered the former request completely."""
        self._taken = self._decrypted = 0
        self._tls.write(request)
        self._socket.sendall(self._leaving.read())
        return len(request)

    def missing(self, count: int) -> int:
        """How many more bytes must arrive before ``count`` further bytes of the answer can be decrypted."""
        kept = self._taken - self._decrypted - _OVERHEAD * (self._decrypted // _RECORD)
        return max(count - max(kept, 0), 1)

    def take(self, flags: int = socket.MSG_DONTWAIT) -> int:
        """Read from the kernel, and return the number of bytes. 0: the server closed its side."""
        buffer = _buffer()
        count = self._socket.recv_into(buffer, 0, flags)
        self._arrived.write(buffer[:count])
        self._taken += count
        return count

    def read(self, into: memoryview) -> int:
        """Decrypt bytes that were read from the kernel. 0: no whole record has arrived yet."""
        done = 0
        try:
            while done < len(into):
                count: int = self._tls.read(len(into) - done, into[done:])  # type: ignore[assignment]
                if not count:
                    break
                done += count
        except ssl.SSLWantReadError:
            pass
        self._decrypted += done
        return done


_threads = threading.local()


def _buffer() -> memoryview:
    """The buffer of the current thread."""
    try:
        found: memoryview = _threads.buffer
    except AttributeError:
        found = _threads.buffer = memoryview(bytearray(_AT_ONCE))
    return found
