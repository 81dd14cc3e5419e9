"""Serves pieces over HTTP: ``GET /pieces/<task ID>/<generation>`` with a ``Range`` and a ticket.

Answers 206 only with bytes of verified pieces, by ``sendfile``. 403: the ticket is not valid. 404: the range is not
held. 416: the range is not valid. 503: too many pieces are being sent.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from pantala_pieces.file import PieceFile
from pantala_process.http import error_response
from pantala_protocol import ticket

_CLIENT_GONE = 499
"""The status for a client that closed its connection, as in nginx's logs. It only appears in our own logs."""

_SLOT_TIMEOUT = 2.0
"""Seconds that a request waits for a slot. A longer wait would look like a stall to the peer."""

_MIN_RATE = 32 * 1024
"""Bytes per second. A slower reader is cut off, so that a few stuck readers cannot hold every slot."""


class FetchState(Enum):
    """How far the answer to a request for a piece is."""

    BEGUN = auto()
    SENT = auto()
    """All bytes were handed to the network."""
    BROKEN = auto()


@dataclass(frozen=True, slots=True)
class PieceFetch:
    """One request for a piece."""

    reader: str
    """The mark of its client in the ticket; empty: it is not known."""
    task_id: str
    piece: int


class PieceRefusedError(Exception):
    """A request for a piece is rejected. :meth:`response` says why."""

    def __init__(self, status: int, reason: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self._response = (status, reason, message, headers)

    def response(self) -> web.Response:
        status, reason, message, headers = self._response
        return error_response(status, reason, message, **headers)


class PieceServer:
    """The route that serves pieces, and its limits.

    ``lookup`` finds a task's file. ``keys`` returns the ticket keys of all supernodes. ``clock`` returns seconds since
    the epoch. ``slots`` pieces are sent at once, in the order of their requests. ``pace`` is awaited with the size of a
    piece before it is sent. ``on_missing`` is called with a task's ID when its data file is missing although it has
    verified pieces. ``on_fetch`` is called when a fetch begins and when it ends.
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
        on_fetch: Callable[[PieceFetch, FetchState], None] | None = None,
    ) -> None:
        self._lookup = lookup
        self._keys = keys
        self._clock = clock
        self._slots = asyncio.Semaphore(slots)
        self.uploads = 0
        """The number of pieces that are being sent now."""
        self.bytes_sent = 0
        self._pace = pace
        self._on_missing = on_missing
        self._on_fetch = on_fetch

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/pieces/{task_id}/{generation}", self.get, allow_head=False)

    async def get(self, request: web.Request) -> web.StreamResponse:
        name, generation = request.match_info["task_id"], request.match_info["generation"]
        shown = request.headers.get(ticket.HEADER, "")
        try:
            file = self.find(name, generation, shown)
            start, end = _range(request, file)
            fetch = PieceFetch(ticket.reader(shown), name, start // file.meta.piece_size)
            async with self.sending(fetch, end - start):
                response = _Piece(file.path, chunk_size=256 * 1024)
                await response.prepare(request)  # sends the whole range, within the slot
        except PieceRefusedError as refused:
            return refused.response()
        except ConnectionError:  # the client has closed the connection
            return web.Response(status=_CLIENT_GONE)
        if response.status == web.HTTPNotFound.status_code:
            self.missing(file.meta.task_id)
        else:
            self.bytes_sent += end - start
        return response

    def find(self, name: str, generation: str, shown: str) -> PieceFile:
        """The pieces of the task ID ``name``, if the ticket ``shown`` is valid. Raises :class:`PieceRefusedError`."""
        now = self._clock()
        if not any(ticket.check(key, name, generation, shown, now=now) for key in self._keys()):
            raise PieceRefusedError(403, "TicketInvalid", "The request's ticket is missing, wrong or expired.")
        file = self._lookup(name)
        if file is None or file.meta.generation != generation:
            raise PieceRefusedError(404, "NotHeld", "This provider does not have this generation of the task.")
        file.used = now
        return file

    def missing(self, name: str) -> None:
        """Call ``on_missing``, because a task's data file is missing."""
        if self._on_missing is not None:
            self._on_missing(name)

    @contextlib.asynccontextmanager
    async def sending(self, fetch: PieceFetch, size: int) -> AsyncIterator[None]:
        """Hold a slot while ``size`` bytes are sent. Raises :class:`PieceRefusedError` if all slots stay taken."""
        state = FetchState.BROKEN
        self._report(fetch, FetchState.BEGUN)
        try:
            async with self._slot(size):
                yield
            state = FetchState.SENT
        finally:
            self._report(fetch, state)

    def _report(self, fetch: PieceFetch, state: FetchState) -> None:
        if self._on_fetch is not None and fetch.reader:
            self._on_fetch(fetch, state)

    @contextlib.asynccontextmanager
    async def _slot(self, size: int) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(_SLOT_TIMEOUT):
                await self._slots.acquire()
        except TimeoutError:
            raise PieceRefusedError(503, "Busy", "This provider is too busy now.", **{"Retry-After": "1"}) from None
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
        wanted = request.http_range
    except ValueError:
        raise PieceRefusedError(416, "RangeInvalid", "The Range header is not valid. Give bytes=FIRST-LAST.") from None
    if wanted.start is None or wanted.stop is None or wanted.start < 0:
        raise PieceRefusedError(416, "RangeInvalid", "The Range header must name a first and a last byte.")
    if not file.holds(wanted.start, wanted.stop):
        raise PieceRefusedError(404, "NotHeld", "This provider does not have all pieces of the range.")
    return wanted.start, wanted.stop


class _Piece(web.FileResponse):
    """A file response that the handler itself sends. aiohttp does not send it again when the handler returns it."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None if self.prepared else await super().prepare(request)
