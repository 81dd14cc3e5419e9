"""A slow link in front of a port: all connections through it share its bandwidth fairly."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

_CHUNK = 16 * 1024


class SlowLink:
    """Passes connections on to a port, with ``rate`` bytes per second in all towards the client."""

    def __init__(self, rate: float, delay: float = 0.0) -> None:
        self._rate = rate
        self._delay = delay
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def serving(self, host: str, port: int, to_host: str) -> AsyncIterator[None]:
        """Listen at ``host`` and ``port``, and connect to the same port of ``to_host``."""
        running: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            running.add(asyncio.create_task(self._pass(reader, writer, to_host, port)))

        server = await asyncio.start_server(accept, host, port)
        try:
            yield
        finally:
            server.close()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
        inner, outer = await asyncio.open_connection(host, port, limit=_CHUNK)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy(reader, outer, limited=False))
                both.create_task(self._copy(inner, writer, limited=True))
        except* OSError:
            pass
        finally:
            for each in (writer, outer):
                each.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, limited: bool) -> None:
        while data := await reader.read(_CHUNK):
            if limited:
                async with self._turn:  # a lock is fair, so the connections take turns
                    await asyncio.sleep(len(data) / self._rate)
            await asyncio.sleep(self._delay)
            writer.write(data)
            await writer.drain()
        writer.close()
