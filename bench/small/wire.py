"""Blocking HTTP over raw sockets, so that the measured time is the server's and the kernel's."""

from __future__ import annotations

import socket

from bench.errors import BenchError

_BLOCK = 256 * 1024
_GOOD = (b"200", b"206")


class Wires:
    """One kept connection to each server."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[str, int], socket.socket] = {}

    def ask(self, host: str, port: int, request: bytes) -> bytes:
        """Send a request, and return the body of the answer. Raises :class:`BenchError` unless it succeeds."""
        connection = self._sockets.get((host, port))
        if connection is None:
            connection = socket.create_connection((host, port), timeout=30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[host, port] = connection
        connection.sendall(request)
        received = bytearray()
        while b"\r\n\r\n" not in received:
            received += _some(connection)
        head, _, body = received.partition(b"\r\n\r\n")
        if head[9:12] not in _GOOD:
            raise BenchError(f"{host} port {port} answered {bytes(head[:60])!r} to {request[:80]!r}")
        length = content_length(bytes(head))
        while len(body) < length:
            body += _some(connection)
        return bytes(body)

    def close(self) -> None:
        """Close all connections. The next requests open new ones."""
        for connection in self._sockets.values():
            connection.close()
        self._sockets.clear()


def content_length(head: bytes) -> int:
    """The length of the body, from the head of an answer. Raises :class:`BenchError` without one."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    raise BenchError(f"An answer has no length: {head[:300]!r}")


def _some(connection: socket.socket) -> bytes:
    block = connection.recv(_BLOCK)
    if not block:
        raise BenchError("A server closed a connection in the middle of an answer.")
    return block
