"""Blocking HTTP over raw sockets, so that the measured time is the server's and the kernel's."""

import socket
from collections.abc import Sequence

from bench.connection import content_length
from bench.errors import BenchError

_BLOCK = 256 * 1024
_GOOD = (b"200", b"206")


class Wires:
    """Kept connections. The requests that run at once have a connection each."""

    def __init__(self) -> None:
        self._sockets: dict[tuple[str, int, int], socket.socket] = {}

    def ask(self, host: str, port: int, request: bytes) -> bytes:
        """Send a request, and return the body of the answer. Raises :class:`BenchError` unless it succeeds."""
        return self.ask_all([(host, port, request)])[0]

    def ask_all(self, requests: Sequence[tuple[str, int, bytes]]) -> list[bytes]:
        """Send all requests at once, and return the bodies of the answers."""
        connections = [self._connection(host, port, lane) for lane, (host, port, _) in enumerate(requests)]
        for connection, (_, _, request) in zip(connections, requests, strict=True):
            connection.sendall(request)
        return [_body(connection) for connection in connections]

    def _connection(self, host: str, port: int, lane: int) -> socket.socket:
        connection = self._sockets.get((host, port, lane))
        if connection is None:
            connection = socket.create_connection((host, port), timeout=30)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[host, port, lane] = connection
        return connection

    def close(self) -> None:
        """Close all connections. The next requests open new connections."""
        for connection in self._sockets.values():
            connection.close()
        self._sockets.clear()


def _body(connection: socket.socket) -> bytes:
    received = bytearray()
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    if head[9:12] not in _GOOD:
        raise BenchError(f"The server answered {bytes(head[:60])!r} {bytes(body[:300])!r}")
    length = content_length(bytes(head))
    while len(body) < length:
        body += _some(connection)
    return bytes(body)


def _some(connection: socket.socket) -> bytes:
    block = connection.recv(_BLOCK)
    if not block:
        raise BenchError("A server closed a connection in the middle of an answer.")
    return block
