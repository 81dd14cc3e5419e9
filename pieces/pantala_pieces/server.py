"""Serving pieces over HTTP: ``GET /pieces/<task ID>/<generation>`` with a ``Range`` and a ticket.

Answers 206 with bytes of verified pieces and nothing else, by ``sendfile``. 403 without a good ticket, 404 for what is
not held, 416 for a range that cannot be read, 503 when too many pieces are being sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from pantala_pieces.file import PieceFile
from pantala_process.http import error_response
from pantala_protocol import ticket

_CLIENT_GONE = 499
"""As nginx logs it."""

_PATIENCE = 2.0
"""Seconds a request waits for a slot. Longer would look like a stall to the one who asks."""

_MIN_RATE = 32 * 1024
"""Bytes per second below which a reader is cut off, so that a few stuck ones cannot hold every slot."""


class RefusedError(Exception):
    """A request for a piece that is not served; its :meth:`response` says why."""

    def __init__(self, status: int, reason: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self._response = (status, reason, message, headers)

    def response(self) -> web.Response:
        """What the one who asked is told."""
        status, reason, message, headers = self._response
        return error_response(status, reason, message, **headers)


class PieceServer:
    """The route that serves pieces, and its limits.

    ``lookup`` finds a task's file; ``keys`` are those that tickets may be issued with, one of each supernode (none: no
    ticket is good); ``clock`` tells seconds since the epoch; ``slots`` pieces are sent at once, first come, first
    served. ``pace`` is awaited with the size of a piece before it is sent. ``on_missing`` is called with a task's ID
    when its data file is missing although it has verified pieces.
    """

    def __init__(
        self,
        lookup: Callable[[str], PieceFile | None],
        *,
        keys: Callable[[], Iterable[bytes]],
        clock: Callable[[], float],
        slots: int,
        pace: Callable[[int], Awaitable[None]] | None = None,
        on_missing: Callable[[str], None] | None = None,
    ) -> None:
        self._lookup = lookup
        self._keys = keys
        self._clock = clock
        self._slots = asyncio.Semaphore(slots)
        self.uploads = 0
        """Pieces being sent now."""
        self.bytes_sent = 0
        self._pace = pace
        self._on_missing = on_missing

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Put the route on an application's router."""
        router.add_get("/pieces/{task_id}/{generation}", self.get, allow_head=False)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Serve one range."""
        name, generation = request.match_info["task_id"], request.match_info["generation"]
        try:
            file = self.find(name, generation, request.headers.get(ticket.HEADER, ""))
            start, end = _range(request, file)
            async with self.sending(end - start):
                response = _Piece(file.path, chunk_size=256 * 1024)
                await response.prepare(request)  # sends the whole range, within the slot
        except RefusedError as refused:
            return refused.response()
        except ConnectionError:  # the client went away: nobody reads this
            return web.Response(status=_CLIENT_GONE)
        if response.status == web.HTTPNotFound.status_code:
            self.missing(file.meta.task_id)
        else:
            self.bytes_sent += end - start
        return response

    def find(self, name: str, generation: str, shown: str) -> PieceFile:
        """The pieces of a task for who shows a ticket. Raises :class:`RefusedError`."""
        now = self._clock()
        if not any(ticket.check(key, name, generation, shown, now=now) for key in self._keys()):
            raise RefusedError(403, "TicketInvalid", "the ticket is missing, wrong or has expired; ask for a new one")
        file = self._lookup(name)
        if file is None or file.meta.generation != generation:
            raise RefusedError(404, "NotHeld", "this generation of the task is not held here")
        file.used = now
        return file

    def missing(self, name: str) -> None:
        """Report that a task's data file is missing."""
        if self._on_missing is not None:
            self._on_missing(name)

    @contextlib.asynccontextmanager
    async def sending(self, size: int) -> AsyncIterator[None]:
        """Hold a slot while ``size`` bytes are sent. Raises :class:`RefusedError` when all stay taken."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._slots.acquire()
        except TimeoutError:
            raise RefusedError(503, "Busy", "too many pieces are being sent", **{"Retry-After": "1"}) from None
        self.uploads += 1
        try:
            if self._pace is not None:
                await self._pace(size)
            async with asyncio.timeout(30 + size / _MIN_RATE):
                yield
        finally:
            self.uploads -= 1
            self._slots.release()


def _range(request: web.Request, file: PieceFile) -> tuple[int, int]:
    try:
        asked = request.http_range
    except ValueError:
        raise RefusedError(416, "RangeInvalid", "the Range cannot be read") from None
    if asked.start is None or asked.stop is None or asked.start < 0:
        raise RefusedError(416, "RangeInvalid", "a Range with a first and a last byte is required")
    if not file.holds(asked.start, asked.stop):
        raise RefusedError(404, "NotHeld", "the range is not inside verified pieces")
    return asked.start, asked.stop


class _Piece(web.FileResponse):
    """A file response that may be prepared, which sends it, before it is returned from its handler."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None if self.prepared else await super().prepare(request)
