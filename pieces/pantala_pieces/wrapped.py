"""Serves pieces to Dragonfly's clients: ``GET /wrapped/<ticket>/<task ID>/<generation>`` with a ``Range``.

The range names one wrapped piece (see :mod:`pantala_protocol.geometry`), always with the full size of a piece. The
answer with the last piece may be shorter. These clients do not send the ticket's header, so the path has the ticket.
"""

import asyncio

from aiohttp import web

from pantala_pieces.errors import PieceMissingError, StoreError
from pantala_pieces.file import PieceFile
from pantala_pieces.server import PieceFetch, PieceRefusedError, PieceServer
from pantala_protocol import ticket
from pantala_protocol.geometry import Wrapping


def path(shown: str, task_id: str, generation: str) -> str:
    """The URL path of a task, for a client with the ticket ``shown``."""
    return f"/wrapped/{shown}/{task_id}/{generation}"


class WrappedServer:
    """The route for wrapped pieces. It shares the files, tickets and limits of a :class:`PieceServer`."""

    def __init__(self, server: PieceServer) -> None:
        self._server = server

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get(path("{ticket}", "{task_id}", "{generation}"), self.get, allow_head=False)

    async def get(self, request: web.Request) -> web.StreamResponse:
        shown, name, generation = (request.match_info[part] for part in ("ticket", "task_id", "generation"))
        try:
            file = self._server.find(name, generation, shown)
            piece = _piece(request, Wrapping(file.meta.piece_size))
            async with self._server.sending(PieceFetch(ticket.reader(shown), name, piece), file.meta.piece_size):
                response = await self._response(file, piece)
                await response.prepare(request)
                await response.write_eof()  # within the slot
        except PieceRefusedError as refused:
            return refused.response()
        self._server.bytes_sent += response.content_length or 0
        return response

    async def _response(self, file: PieceFile, piece: int) -> web.Response:
        try:
            content = await asyncio.to_thread(file.read, piece)
        except PieceMissingError:
            raise PieceRefusedError(404, "NotHeld", "This provider does not have the piece.") from None
        except StoreError:
            self._server.missing(file.meta.task_id)
            raise PieceRefusedError(404, "NotHeld", "This provider cannot read the piece.") from None
        wrapping = Wrapping(file.meta.piece_size)
        first, body = piece * wrapping.wire_size, wrapping.wrap(content)
        return web.Response(
            status=206,
            body=body,
            content_type="application/octet-stream",
            headers={"Content-Range": f"bytes {first}-{first + len(body) - 1}/*"},
        )


def _piece(request: web.Request, wrapping: Wrapping) -> int:
    unit, _, text = request.headers.get("Range", "").partition("=")
    try:
        return wrapping.piece(text if unit == "bytes" else "")
    except ValueError as error:
        raise PieceRefusedError(416, "RangeInvalid", str(error)) from None
