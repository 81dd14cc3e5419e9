"""A small HTTP client on raw sockets, which costs little CPU time. It supports only what the supernode uses."""

import asyncio
from collections.abc import Callable
from typing import Self

from bench.errors import BenchError


class BenchConnection(asyncio.Protocol):
    """A persistent HTTP connection with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._received = b""
        self._then: Callable[[bytes], None] | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        return connection

    def ask(self, request: bytes, then: Callable[[bytes], None]) -> None:
        """Send a request, and call ``then`` with the answer's body."""
        self._then = then
        self._transport.write(request)

    def close(self) -> None:
        """Close the connection. ``then`` is not called any more."""
        self._then = None
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < content_length(head):
            return
        self._received, then, self._then = b"", self._then, None
        if then is not None:
            if not head.startswith(b"HTTP/1.1 200"):
                raise BenchError(f"The supernode answered {head[:60]!r} {body[:300]!r}")
            then(body)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._then is not None:
            raise BenchError("The supernode closed a connection.")


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: supernode\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: supernode\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def content_length(head: bytes) -> int:
    """The length of the body, from the head of an answer. Raises :class:`BenchError` without one."""
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return int(line[15:])
    raise BenchError(f"An answer has no length: {head[:300]!r}")
