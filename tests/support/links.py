"""Links in front of a port of this machine: one that can be cut, and one whose connections share its bandwidth."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

_CHUNK = 16 * 1024


class CutLink:
    """Passes connections on until it is cut. Then they stay open, but no byte passes."""

    def __init__(self) -> None:
        self.port = 0
        self._whole = asyncio.Event()
        self._whole.set()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    @contextlib.asynccontextmanager
    async def serving(self, to_port: int, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[None]:
        """Listen at ``host`` and ``port``, and connect to ``to_port`` of 127.0.0.1."""
        running: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            running.add(asyncio.create_task(self._pass(reader, writer, to_port)))

        server = await asyncio.start_server(accept, host, port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_port: int) -> None:
        await self._whole.wait()
        try:
            inner, outer = await asyncio.open_connection("127.0.0.1", to_port, limit=_CHUNK)
        except OSError:
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy(reader, outer, answer=False))
                both.create_task(self._copy(inner, writer, answer=True))
        except* OSError:
            pass
        finally:
            for each in (writer, outer):
                each.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answer: bool) -> None:
        while data := await reader.read(_CHUNK):
            await self._let(len(data), answer=answer)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def _let(self, count: int, *, answer: bool) -> None:
        """Wait until so many bytes may pass. ``answer``: they go towards the client."""
        await self._whole.wait()


class SlowLink(CutLink):
    """All connections together get ``rate`` bytes per second towards the client, in turns."""

    def __init__(self, rate: float, delay: float = 0.0) -> None:
        super().__init__()
        self._rate = rate
        self._delay = delay
        self._turn = asyncio.Lock()

    async def _let(self, count: int, *, answer: bool) -> None:
        if answer:
            async with self._turn:  # a lock is fair, so the connections take turns
                await asyncio.sleep(count / self._rate)
        await asyncio.sleep(self._delay)
