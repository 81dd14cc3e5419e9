"""A gate in front of a port. It passes connections on, refuses them, or swallows what they send."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from enum import Enum, auto

_CHUNK = 64 * 1024


class Passage(Enum):
    """What the gate does with connections."""

    OPEN = auto()
    REFUSED = auto()
    """The gate ends each connection, as after a firewall's reset."""
    SILENT = auto()
    """The gate keeps each connection, but passes no byte on, as when packets are dropped."""


class Gate:
    """Passes the connections of one client on to ``port``, while it is open."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._passage = Passage.OPEN
        self._opened = asyncio.Event()
        self._opened.set()
        self._running: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def set(self, passage: Passage) -> None:
        """Change the gate now, also for connections that exist."""
        self._passage = passage
        if passage is Passage.OPEN:
            self._opened.set()
        else:
            self._opened.clear()
        if passage is Passage.REFUSED:
            for task in self._running:
                task.cancel()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(reader, writer))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            self.set(Passage.REFUSED)
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            if self._passage is not Passage.REFUSED:
                inner, outer = await asyncio.open_connection("127.0.0.1", self._to)
                writers.append(outer)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._copy(reader, outer))
                    both.create_task(self._copy(inner, writer))
        except* (OSError, EOFError):
            pass
        finally:
            for each in writers:
                each.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            await self._opened.wait()
            writer.write(data)
            await writer.drain()
        raise EOFError
