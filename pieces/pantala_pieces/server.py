"""Serving pieces over HTTP: ``GET /pieces/<task ID>/<generation>`` with a ``Range`` and a ticket.

Answers 206 with bytes of verified pieces and nothing else, by ``sendfile``. 403 without a good ticket, 404 for what is
not held, 416 for a range that cannot be read, 503 when too many pieces are being sent.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from pantala_pieces.file import PieceFile
from pantala_protocol import ticket

_PATIENCE = 2.0
"""Seconds a request waits for a slot. Longer would look like a stall to the one who asks."""

_MIN_RATE = 32 * 1024
"""Bytes per second below which a reader is cut off, so that a few stuck ones cannot hold every slot."""


def error_response(status: int, reason: str, message: str, **headers: str) -> web.Response:
    """Answer an error in the one shape that all of Pantala's HTTP interfaces have."""
    body = msgspec.json.encode({"error": {"reason": reason, "message": message}})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


class PieceServer:
    """The route that serves pieces, and its limits.

    ``lookup`` finds a task's file; ``key`` is the key that tickets are checked with (empty: none is good); ``clock``
    tells seconds since the epoch; ``slots`` pieces are sent at once, first come, first served.
    """

    def __init__(
        self,
        lookup: Callable[[str], PieceFile | None],
        *,
        key: Callable[[], bytes],
        clock: Callable[[], float],
        slots: int,
    ) -> None:
        self._lookup = lookup
        self._key = key
        self._clock = clock
        self._slots = asyncio.Semaphore(slots)
        self.uploads = 0
        """Pieces being sent now."""
        self.bytes_sent = 0
        self.on_missing: Callable[[str], None] = lambda _task_id: None
        """Told a task's ID when its data file is gone although its pieces counted as held."""

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """Put the route on an application's router."""
        router.add_get("/pieces/{task_id}/{generation}", self.get, allow_head=False)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Serve one range."""
        name, generation = request.match_info["task_id"], request.match_info["generation"]
        key = self._key()
        shown = request.headers.get(ticket.HEADER, "")
        if not key or not ticket.check(key, name, generation, shown, now=self._clock()):
            return error_response(
                403, "TicketInvalid", "the ticket is missing, wrong or has expired; sync for a new one"
            )
        file = self._lookup(name)
        if file is None or file.meta.generation != generation:
            return error_response(404, "NotHeld", "this generation of the task is not held here")
        try:
            asked = request.http_range
        except ValueError:
            return error_response(416, "RangeInvalid", "the Range cannot be read")
        start, end = asked.start, asked.stop
        if start is None or end is None or start < 0:
            return error_response(416, "RangeInvalid", "a Range with a first and a last byte is required")
        if not file.holds(start, end):
            return error_response(404, "NotHeld", "the range is not inside verified pieces")
        return await self._send(request, file, end - start)

    async def _send(self, request: web.Request, file: PieceFile, size: int) -> web.StreamResponse:
        try:
            async with self._slot(), asyncio.timeout(30 + size / _MIN_RATE):
                response = _Piece(file.path, chunk_size=256 * 1024)
                await response.prepare(request)  # sends the whole range, within the slot
        except _NoSlotError:
            return error_response(503, "Busy", "too many pieces are being sent", **{"Retry-After": "1"})
        if response.status == web.HTTPNotFound.status_code:
            self.on_missing(file.meta.task_id)
        else:
            self.bytes_sent += size
        return response

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._slots.acquire()
        except TimeoutError:
            raise _NoSlotError from None
        self.uploads += 1
        try:
            yield
        finally:
            self.uploads -= 1
            self._slots.release()


class _Piece(web.FileResponse):
    """A file response that may be prepared, which sends it, before it is returned from its handler."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None if self.prepared else await super().prepare(request)


class _NoSlotError(Exception):
    """All slots stayed taken."""
