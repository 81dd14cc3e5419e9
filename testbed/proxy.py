"""A real forward proxy: CONNECT tunnels and plain requests, with Basic authentication. It logs each request.

In a test::

    async with ForwardProxy(credentials=b"ann:secret") as proxy:
        ...  # read through proxy.url
        assert ["GET http://files.invalid/f"] == proxy.log
"""

import asyncio
import base64
import contextlib
from typing import Self
from urllib.parse import urlsplit

_BLOCK = 1 << 16
_HOP = ("proxy-", "connection:", "keep-alive:")


class ForwardProxy:
    """``hosts`` maps the names that only this proxy knows to an address and port. ``status`` refuses every request."""

    def __init__(self, host: str = "127.0.0.1", *, credentials: bytes | None = None) -> None:
        self.host = host
        self.port = 0
        self.credentials = credentials
        self.hosts: dict[str, tuple[str, int]] = {}
        self.status: int | None = None
        self.log: list[str] = []
        """Method and target of every request, also of refused requests."""
        self.heads: list[bytes] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
            self.log.append(f"{method} {target}")
            self.heads.append(head)
            if (status := self._refusal(head)) is not None:
                await _refuse(writer, status)
            elif method == "CONNECT":
                await self._tunnel(target, reader, writer)
            else:
                await self._forward(method, target, head, reader, writer)
        writer.close()

    def _refusal(self, head: bytes) -> int | None:
        if self.credentials is not None:
            shown = b"Proxy-Authorization: Basic " + base64.b64encode(self.credentials)
            if shown not in head.split(b"\r\n"):
                return 407
        return self.status

    async def _tunnel(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(f"//{target}")
        to = await self._connection(parts.hostname or "", parts.port or 443, writer)
        if to is not None:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await _both_ways((reader, writer), to)

    async def _forward(
        self, method: str, target: str, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        parts = urlsplit(target)
        to = await self._connection(parts.hostname or "", parts.port or 80, writer)
        if to is None:
            return
        lines = [line for line in head.split(b"\r\n")[1:-2] if not line.decode("latin-1").lower().startswith(_HOP)]
        path = parts._replace(scheme="", netloc="").geturl() or "/"
        to[1].write(b"\r\n".join([f"{method} {path} HTTP/1.1".encode(), *lines, b"Connection: close", b"", b""]))
        await _both_ways((reader, writer), to)

    async def _connection(
        self, host: str, port: int, client: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        try:
            return await asyncio.open_connection(*self.hosts.get(host, (host, port)))
        except OSError:
            await _refuse(client, 502)
            return None


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _refuse(client: asyncio.StreamWriter, status: int) -> None:
    field = 'Proxy-Authenticate: Basic realm="proxy"\r\n' if status == 407 else ""
    client.write(f"HTTP/1.1 {status} Refused\r\n{field}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
    await client.drain()


async def _both_ways(client: Connection, origin: Connection) -> None:
    """Copy bytes until the origin ends or the client closes its connection."""
    up = asyncio.ensure_future(_copy(client[0], origin[1]))
    try:
        await _copy(origin[0], client[1])
    finally:
        up.cancel()
        origin[1].close()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await source.read(_BLOCK):
            target.write(block)
            await target.drain()
