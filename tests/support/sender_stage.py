"""A sender of pieces on a free port, its file, and raw connections to it."""

import asyncio
import contextlib
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

from pantala_pieces.file import PieceFile
from pantala_pieces.meta import Meta
from pantala_pieces.store import PieceStore
from pantala_pieces.transfer.upload.fetches import FetchState, PieceFetch
from pantala_pieces.transfer.upload.heads import wrapped_path
from pantala_pieces.transfer.upload.sender import PieceSender
from pantala_process.settings import ListenAddress
from pantala_protocol import ticket
from pantala_protocol.geometry import Wrapping
from testbed.origin import Generated
from tests.support.eventually import eventually
from tests.support.pieces import piece_of, pieces_of

KEY = b"key"
TASK = "a" * 64
GENERATION = "g"


class Reply(NamedTuple):
    """One answer of the sender."""

    status: int
    head: str
    body: bytes

    def field(self, name: str) -> str | None:
        found = re.search(rf"^{name}: (.*)\r$", self.head, re.MULTILINE)
        return found and found[1]


class PieceClient:
    """One connection to the sender, with requests as text."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, *requests: bytes) -> None:
        self.writer.write(b"".join(requests))

    async def reply(self) -> Reply:
        """The next answer. Raises :class:`EOFError` if the connection ended."""
        async with asyncio.timeout(20):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"^Content-Length: (\d+)\r$", head, re.MULTILINE)
            assert length is not None, head
            return Reply(int(head[9:12]), head, await self._reader.readexactly(int(length[1])))

    async def get(self, request: bytes) -> Reply:
        self.send(request)
        return await self.reply()

    async def broken(self) -> bool:
        """True once the sender has closed the connection, perhaps after some bytes."""
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                while await self._reader.read(65536):
                    pass
        return True

    async def ended(self) -> bool:
        """True once the sender has closed the connection without further bytes."""
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                return not await self._reader.read(1)
        return True


class SenderStage:
    """A sender with the file :data:`TASK`. ``options`` are those of the sender."""

    def __init__(self, folder: Path, size: int, piece_size: int, **options: Any) -> None:
        self.store = PieceStore(folder, durable=False)
        self.store.open()
        self.content = Generated(size).read(0, size)
        self.piece_size = piece_size
        self.file = self.add(TASK)
        self.fetches: list[tuple[int, FetchState]] = []
        self.missing: list[str] = []
        self.sender = PieceSender(
            options.pop("lookup", self.store.get),
            keys=lambda: (b"other", KEY),
            clock=time.time,
            slots=options.pop("slots", 2),
            on_fetch=self._on_fetch,
            on_missing=self.missing.append,
            **options,
        )
        self.port = 0
        self.client_tls: ssl.SSLContext | None = None
        self.server_name = self.client_name = ""
        """Names in the certificates of the two sides."""

    @contextlib.asynccontextmanager
    async def serving(self, *, share: float = 0.5, grace: float = 5.0) -> AsyncIterator[None]:
        try:
            async with self.sender.serving(ListenAddress("127.0.0.1", 0), share=share, grace=grace) as self.port:
                yield
        finally:
            self.store.close()

    def add(self, task_id: str) -> PieceFile:
        """A file with the content of the stage."""
        file = self.store.create(Meta(task_id, GENERATION, self.piece_size, len(self.content)))
        file.put(pieces_of(self.content, self.piece_size) or [piece_of(0, b"")])
        return file

    @contextlib.asynccontextmanager
    async def client(self, *, window: int | None = None) -> AsyncIterator[PieceClient]:
        """A connection. With ``window``, the kernel accepts few bytes that the test does not read."""
        raw = socket.socket()
        if window is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        raw.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.port))
        except OSError:
            raw.close()
            raise
        name = None if self.client_tls is None else self.server_name
        limit = 65536 if window is None else window
        reader, writer = await asyncio.open_connection(sock=raw, ssl=self.client_tls, server_hostname=name, limit=limit)
        try:
            yield PieceClient(reader, writer)
        finally:
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def slow_reader(self) -> AsyncIterator[PieceClient]:
        """A client that takes a slot: it asks for piece 0, and has read nothing of the answer yet."""
        async with self.client(window=4096) as slow:
            slow.send(self.native(0))
            await eventually(lambda: self.sender.log.uploads == 1)
            yield slow

    @contextlib.asynccontextmanager
    async def client_after(
        self, serving: contextlib.AbstractAsyncContextManager[None]
    ) -> AsyncIterator[tuple[contextlib.AsyncExitStack, PieceClient, PieceClient]]:
        """The running sender, which a test may end, a client that reads slowly, and another one."""
        async with contextlib.AsyncExitStack() as running:
            await running.enter_async_context(serving)
            async with self.client(window=4096) as slow, self.client() as other:
                yield running, slow, other

    def native(self, piece: int, *, task_id: str = TASK, **changes: Any) -> bytes:
        """A peer's request for a piece. A change to an empty text leaves the field away."""
        first = piece * self.piece_size
        end = first + self.piece_size
        last = (end if first >= len(self.content) else min(end, len(self.content))) - 1
        shown = ticket.for_reader(
            ticket.issue(KEY, task_id, GENERATION, now=time.time(), client=self.client_name), "node-1"
        )
        fields = {"Range": f"bytes={first}-{last}", ticket.HEADER: shown} | changes
        return request(f"/pieces/{task_id}/{GENERATION}", fields)

    def wrapped(self, piece: int, **changes: Any) -> bytes:
        """A Dragonfly client's request for a piece."""
        shown = ticket.for_reader(
            ticket.issue(KEY, TASK, GENERATION, now=time.time(), client=self.client_name), "dfget"
        )
        fields = {"Range": f"bytes={Wrapping(self.piece_size).range(piece)}"} | changes
        return request(wrapped_path(shown, TASK, GENERATION), fields)

    def piece(self, number: int) -> bytes:
        return self.content[number * self.piece_size : (number + 1) * self.piece_size]

    def _on_fetch(self, fetch: PieceFetch, state: FetchState) -> None:
        self.fetches.append((fetch.piece, state))


def request(path: str, fields: dict[str, str], *, method: str = "GET", version: str = "1.1") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: a", *(f"{key}: {text}" for key, text in fields.items() if text)]
    return "\r\n".join([*lines, "", ""]).encode()
