"""A provider of pieces that answers by a script, over real sockets, and a client that fetches from it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

from pantala_pieces.transfer.jobs import JobState, PieceBuffer, ReceiveJob
from pantala_pieces.transfer.providers import Providers
from pantala_protocol.sync import PieceWork

SIZE = 300_000
BODY = bytes(range(256)) * (SIZE // 256) + bytes(SIZE % 256)
SLICES = [BODY[n : n + 30_000] for n in range(0, SIZE, 30_000)]
"""The kernel wakes us for 128 KiB. Fewer bytes within the stall timeout are still progress."""
GOOD = (
    b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1000-%d/999999\r\nContent-Length: %d\r\n"
    b"Content-Type: application/octet-stream\r\n\r\n" % (1000 + SIZE - 1, SIZE)
)

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def work(port: int, **changes: object) -> PieceWork:
    values: dict[str, object] = {
        "task_id": "a" * 64,
        "generation": "g1",
        "piece": 1,
        "offset": 1000,
        "size": SIZE,
        "digest": "00",
        "host": "127.0.0.1",
        "port": port,
        "ticket": "1.ab",
    }
    return PieceWork(**(values | changes))  # type: ignore[arg-type]


class ScriptedProvider:
    """A provider that answers by the script, counts connections and records the heads of requests."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.connections = 0
        self.heads: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await self.script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()
            raise


@contextlib.asynccontextmanager
async def provider(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedProvider]:
    scripted = ScriptedProvider(script)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(scripted.serve(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # aborted transports close in the loop's next rounds


def answer(*parts: bytes, end: bool = False, pause: float = 0.0) -> Script:
    async def script(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            if pause:
                await asyncio.sleep(pause)
        if end:
            writer.close()

    return script


async def reset(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GOOD + BODY[:100_000])
    await writer.drain()
    writer.transport.abort()


async def silence(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def half_then_silence(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GOOD + BODY[: SIZE // 2])
    await asyncio.sleep(60)


def job(wanted: PieceWork) -> ReceiveJob:
    made = ReceiveJob(wanted, lambda _: None)
    assert made.advance(JobState.RECEIVING)
    return made


async def fetch(client: Providers, wanted: PieceWork) -> bytes:
    """Fetch in a thread, as the receiver does."""
    data = await asyncio.to_thread(client.fetch, job(wanted), PieceBuffer())
    assert wanted.size == len(data)
    return bytes(data)
