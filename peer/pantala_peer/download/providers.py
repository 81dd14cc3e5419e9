"""Fetches pieces from their providers: other peers, Dragonfly's clients and the supernode."""

import asyncio
import re
from collections import deque

from pantala_peer.download.connection import PieceConnection, PieceRequest, ReceiveTimeouts
from pantala_peer.errors import ProviderRefusedError, ProviderUnreachableError
from pantala_protocol import ticket
from pantala_protocol.geometry import HEAD, OVERHEAD
from pantala_protocol.sync import PieceWork

_MAX_IDLE = 64
"""The number of idle connections that are kept: 4 to each of 16 providers."""

_MAX_STALL = 10.0
"""Seconds without a byte after which any provider counts as stalled."""

_MAX_SLOW = 15.0
"""Seconds that a provider may be too slow, at most. This limit applies until the usual time of a piece is known."""

_MAX_HEAD_TIME = 3.0
"""Seconds until the head of a peer's answer, at most. The peer answers within 2 s, also if all its upload slots are
busy. Another provider must then send the piece before the container runtime gives up. The supernode limits its rate,
so it may take longer."""

_PRINTABLE = re.compile(r"[!-~]{1,512}")
"""The text that a request line or a header may contain."""


class Providers:
    """Fetches pieces over HTTP, and reuses the connections to each provider."""

    def __init__(self, *, connect_timeout: float, timeouts: ReceiveTimeouts) -> None:
        self._connect_timeout = connect_timeout
        self._timeouts = timeouts
        self._durations: deque[float] = deque(maxlen=15)
        self._idle: list[tuple[tuple[str, int], PieceConnection]] = []

    async def fetch(self, work: PieceWork, into: memoryview) -> None:
        """Fill ``into`` with the piece, which is not verified yet. Raises :class:`FetchError`."""
        if work.path:
            request = _wrapped_request(work)
            whole = bytearray(request.size)
            await self._fetch(work, request, memoryview(whole))
            into[:] = memoryview(whole)[HEAD : HEAD + work.size]
        else:
            await self._fetch(work, _request(work), into)

    def close(self) -> None:
        """Close the idle connections."""
        for _, connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def _fetch(self, work: PieceWork, request: PieceRequest, into: memoryview) -> None:
        address = (work.host, work.port)
        begun_at = asyncio.get_running_loop().time()
        connection = self._reuse(address)
        if connection is not None:
            try:
                await connection.get(request, into, lambda: self._timeouts_for(work))
            except ProviderUnreachableError:
                if connection.answered:
                    raise
                connection = None  # the provider has closed an idle connection; the piece may be fine
        if connection is None:
            connection = await self._connect(address)
            await connection.get(request, into, lambda: self._timeouts_for(work))
        self._durations.append(asyncio.get_running_loop().time() - begun_at)
        self._keep(address, connection)

    def _timeouts_for(self, work: PieceWork) -> ReceiveTimeouts:
        """The timeouts for a piece. They are longer while all downloads are slow, as on a slow link of this node."""
        head = min(self._timeouts.head, _MAX_HEAD_TIME) if work.provider else self._timeouts.head
        if not self._durations:
            return ReceiveTimeouts(head, self._timeouts.stall, _MAX_SLOW)
        usual = sorted(self._durations)[len(self._durations) // 2]
        stall = max(self._timeouts.stall, min(4 * usual, _MAX_STALL))
        return ReceiveTimeouts(head, stall, max(self._timeouts.slow, min(8 * usual, _MAX_SLOW)))

    def _reuse(self, address: tuple[str, int]) -> PieceConnection | None:
        self._idle = [(key, connection) for key, connection in self._idle if not connection.closed]
        for index in range(len(self._idle) - 1, -1, -1):
            if self._idle[index][0] == address:
                return self._idle.pop(index)[1]
        return None

    def _keep(self, address: tuple[str, int], connection: PieceConnection) -> None:
        if connection.closed:
            return
        self._idle.append((address, connection))
        if len(self._idle) > _MAX_IDLE:
            self._idle.pop(0)[1].abort()

    async def _connect(self, address: tuple[str, int]) -> PieceConnection:
        host, port = address
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await loop.create_connection(PieceConnection, host, port)
        except TimeoutError:
            raise ProviderUnreachableError(f"{host} port {port}: no connection in {self._connect_timeout} s") from None
        except (OSError, UnicodeError) as error:
            raise ProviderUnreachableError(f"{host} port {port} cannot be reached: {error}") from error
        return connection


def _request(work: PieceWork) -> PieceRequest:
    _check(work.task_id, work.generation, work.ticket)
    path, headers = f"/pieces/{work.task_id}/{work.generation}", f"{ticket.HEADER}: {work.ticket}\r\n"
    return _get(work, path, headers, work.offset, work.size, ranged=True)


def _wrapped_request(work: PieceWork) -> PieceRequest:
    """The request that Dragonfly's clients send each other."""
    _check(work.path)
    headers = f"pieceNum: {work.piece}\r\npieceSize: {work.wire_size}\r\n"
    return _get(work, work.path, headers, work.piece * work.wire_size, work.size + OVERHEAD, ranged=False)


def _get(work: PieceWork, path: str, headers: str, first: int, size: int, *, ranged: bool) -> PieceRequest:
    _check(work.host)
    host = f"[{work.host}]" if ":" in work.host else work.host
    text = (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{work.port}\r\nRange: bytes={first}-{first + size - 1}\r\n{headers}\r\n"
    )
    return PieceRequest(text.encode("ascii"), first, size, ranged)


def _check(*texts: str) -> None:
    for text in texts:
        if _PRINTABLE.fullmatch(text) is None:
            raise ProviderRefusedError("the supernode's order for the piece has characters that HTTP forbids")
