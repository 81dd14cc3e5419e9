"""The HTTP server of an origin."""

import asyncio
import contextlib
import fcntl
import json
import socket
import ssl
import struct
import termios
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Self
from urllib.parse import unquote, urlsplit

from testbed.origin.answers import Access, Answer, Behaviour, CutError, Pace, Resource
from testbed.origin.bodies import Body, File


class Origin:
    """The HTTP server. It listens while its context is entered, and then closes every connection."""

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, root: Path | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.host = host
        self.port = port
        """The port. Before the start, 0 means any free port."""
        self.log: list[Access] = []
        """All answers, ordered by the time they began."""
        self.on_request: Callable[[Access], None] = lambda _: None
        """Called with each request before it is answered."""
        self.log_file: IO[str] | None = None
        """The file for finished answers, each as one line of JSON."""
        self.connections = 0
        """How many connections clients have opened."""
        self._root = root
        self._tls = tls
        self._resources: dict[str, Resource] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._pace = Pace()

    @property
    def rate(self) -> float | None:
        """Bytes of body per second, over all answers together. It may be changed at any time."""
        return self._pace.rate

    @rate.setter
    def rate(self, rate: float | None) -> None:
        self._pace.rate = rate

    def serve(
        self, path: str, body: Body, *, script: Iterable[Behaviour] = (), always: Behaviour | None = None
    ) -> None:
        """Serve ``body`` at ``path``.

        The n-th request gets the n-th behaviour of ``script``, and later requests get ``always``.
        """
        self._resources[path] = Resource(body, deque(script), always or Behaviour())

    def url(self, path: str) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def requests(self, path: str) -> list[Access]:
        return [access for access in self.log if access.path == path]

    def body_bytes(self, path: str) -> int:
        """The total bytes of body that were sent for ``path``."""
        return sum(access.sent for access in self.requests(path))

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, self.host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve_connection(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._tls is None:  # with TLS, asyncio stops forever at this limit
            writer.transport.set_write_buffer_limits(high=0)  # so that the counted bytes have left this process
        try:
            while await self._serve_request(reader, writer):
                pass
        except CutError as cut:
            if cut.reset:
                await _reset(writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. Returns True if the connection stays open for another request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        fields = [
            (name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:]) if name
        ]
        headers = {name.lower(): value for name, value in fields}
        access = Access(method, urlsplit(target).path, headers.get("range", ""), 0, time.time(), headers=headers)
        access.names = tuple(name for name, _ in fields)
        self.log.append(access)
        self.on_request(access)
        try:
            resource = self._find(access.path)
            answer = Answer(self._pace, reader, writer, access, resource)
            return await answer.send() and headers.get("connection", "").lower() != "close"
        finally:
            access.ended = time.time()
            if self.log_file is not None:
                print(json.dumps(asdict(access)), file=self.log_file, flush=True)

    def _find(self, path: str) -> Resource | None:
        if path in self._resources or self._root is None:
            return self._resources.get(path)
        file = (self._root / unquote(path).lstrip("/")).resolve()
        if not file.is_relative_to(self._root.resolve()) or not file.is_file():
            return None
        return Resource(File(file), deque(), Behaviour())


async def _reset(writer: asyncio.StreamWriter) -> None:
    """Send a TCP reset after all written bytes were sent, because a reset discards waiting bytes."""
    connection = writer.get_extra_info("socket")
    for _ in range(200):
        if connection.fileno() < 0:
            return  # the client has already closed the connection
        waiting = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]
        if waiting == 0:
            break
        await asyncio.sleep(0.01)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
