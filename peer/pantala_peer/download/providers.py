"""The providers of pieces, and the connections to them that are kept."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import Protocol

from pantala_peer.download.receive import Asked, Connection, Patience
from pantala_peer.errors import RefusedError, UnreachableError
from pantala_protocol import ticket
from pantala_protocol.sync import Work
from pantala_protocol.wrapping import HEAD, OVERHEAD

_MOST_IDLE = 64
"""Idle connections that are kept: 4 to each of 16 providers."""

_MOST_STALL = 10.0
"""Seconds without a byte after which any provider counts as stalled."""

_MOST_SLOW = 15.0
"""Seconds that any provider may send too little, and all may while it is not known what is usual."""

_MOST_HEAD = 3.0
"""Seconds to the head of a peer's answer, at most: a peer lets a request wait for a slot for 2 s, and what it does not
begin has to come from elsewhere before the node's container runtime gives up. The supernode may pace what it sends."""

_PRINTABLE = re.compile(r"[!-~]{1,512}")
"""What may stand in a request line or a header."""


class Provider(Protocol):
    """The port to whoever has pieces."""

    async def fetch(self, work: Work, into: memoryview) -> None:
        """Fill ``into`` with the bytes of ``work``, not verified yet. Raises :class:`FetchError`."""
        ...


class Providers:
    """The adapter: pieces over HTTP, connections reused per provider."""

    def __init__(self, *, connect_timeout: float, patience: Patience) -> None:
        self._connect_timeout = connect_timeout
        self._patience = patience
        self._durations: deque[float] = deque(maxlen=15)
        self._idle: list[tuple[tuple[str, int], Connection]] = []

    async def fetch(self, work: Work, into: memoryview) -> None:
        """Fill ``into`` with the bytes of ``work``, not verified yet. Raises :class:`FetchError`."""
        if not work.path:
            await self._fetch(work, _request(work), Asked(work.offset, work.size), into)
            return
        asked = Asked(work.piece * work.wire_size, work.size + OVERHEAD, ranged=False)
        whole = bytearray(asked.size)
        await self._fetch(work, _wrapped_request(work, asked), asked, memoryview(whole))
        into[:] = memoryview(whole)[HEAD : HEAD + work.size]

    def close(self) -> None:
        """Close the idle connections."""
        for _, connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def _fetch(self, work: Work, request: bytes, asked: Asked, into: memoryview) -> None:
        where = (work.host, work.port)
        begun_at = asyncio.get_running_loop().time()
        connection = self._reuse(where)
        if connection is not None:
            try:
                await connection.get(request, asked, into, lambda: self._patient(work))
            except UnreachableError:
                if connection.heard:
                    raise
                connection = None  # the provider closed an idle connection; that says nothing about the piece
        if connection is None:
            connection = await self._connect(where)
            await connection.get(request, asked, into, lambda: self._patient(work))
        self._durations.append(asyncio.get_running_loop().time() - begun_at)
        self._keep(where, connection)

    def _patient(self, work: Work) -> Patience:
        head = min(self._patience.head, _MOST_HEAD) if work.provider else self._patience.head
        if not self._durations:
            return Patience(head, self._patience.stall, _MOST_SLOW)
        usual = sorted(self._durations)[len(self._durations) // 2]
        stall = max(self._patience.stall, min(4 * usual, _MOST_STALL))
        return Patience(head, stall, max(self._patience.slow, min(8 * usual, _MOST_SLOW)))

    def _reuse(self, where: tuple[str, int]) -> Connection | None:
        self._idle = [(key, connection) for key, connection in self._idle if not connection.closed]
        for index in range(len(self._idle) - 1, -1, -1):
            if self._idle[index][0] == where:
                return self._idle.pop(index)[1]
        return None

    def _keep(self, where: tuple[str, int], connection: Connection) -> None:
        if connection.closed:
            return
        self._idle.append((where, connection))
        if len(self._idle) > _MOST_IDLE:
            self._idle.pop(0)[1].abort()

    async def _connect(self, where: tuple[str, int]) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await loop.create_connection(Connection, *where)
        except TimeoutError:
            raise UnreachableError(f"{where[0]} port {where[1]}: no connection in {self._connect_timeout} s") from None
        except (OSError, UnicodeError) as error:
            raise UnreachableError(f"{where[0]} port {where[1]}: {error}") from error
        return connection


def _request(work: Work) -> bytes:
    _check(work.task_id, work.generation, work.ticket)
    return _get(
        work,
        f"/pieces/{work.task_id}/{work.generation}",
        Asked(work.offset, work.size),
        f"{ticket.HEADER}: {work.ticket}\r\n",
    )


def _wrapped_request(work: Work, asked: Asked) -> bytes:
    """As Dragonfly's clients ask each other."""
    _check(work.path)
    return _get(work, work.path, asked, f"pieceNum: {work.piece}\r\npieceSize: {work.wire_size}\r\n")


def _get(work: Work, path: str, asked: Asked, headers: str) -> bytes:
    _check(work.host)
    host = f"[{work.host}]" if ":" in work.host else work.host
    return (
        f"GET {path} HTTP/1.1\r\n"
        f"Host: {host}:{work.port}\r\n"
        f"Range: bytes={asked.first}-{asked.first + asked.size - 1}\r\n"
        f"{headers}\r\n"
    ).encode("ascii")


def _check(*texts: str) -> None:
    for text in texts:
        if _PRINTABLE.fullmatch(text) is None:
            raise RefusedError("the work names something that cannot stand in a request")
