"""The native API: routes only translate."""

from __future__ import annotations

from typing import TypeVar

import msgspec
import structlog
from aiohttp import web

from pantala_pieces.server import error_response
from pantala_protocol.statement import Statement
from pantala_protocol.sync import SyncRequest
from pantala_supernode.http.access import IDENTITY, Access, Guard, Handler
from pantala_supernode.supernode import Supernode

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_MAX_BODY = 64 * 1024 * 1024
"""Bytes: a statement of some ten thousand Tasks."""

_MAX_WAIT = 60.0
"""Seconds that ``changes`` is held at most."""


class BadRequestError(Exception):
    """The request cannot be read; the message says why."""


class API:
    """Operator's, peers' and probes' routes of one supernode."""

    def __init__(self, supernode: Supernode) -> None:
        self._supernode = supernode

    def application(self, guard: Guard) -> web.Application:
        """Everything at the API port."""
        app = web.Application(middlewares=[_errors, guard.middleware], client_max_size=_MAX_BODY)
        guard.add(app.router, "GET", "/healthz", self.healthz, Access.OPEN)
        guard.add(app.router, "GET", "/readyz", self.readyz, Access.OPEN)
        guard.add(app.router, "PUT", "/api/v1/statement", self.statement, Access.OPERATOR)
        guard.add(app.router, "GET", "/api/v1/changes", self.changes, Access.OPERATOR)
        guard.add(app.router, "POST", "/api/v1/sync", self.sync, Access.PEER)
        return app

    async def healthz(self, _request: web.Request) -> web.Response:
        """The process lives."""
        return web.json_response({"status": "ok"})

    async def readyz(self, _request: web.Request) -> web.Response:
        """The volume was read and requests are taken."""
        if self._supernode.recovered:
            return web.json_response({"status": "ok"})
        return error_response(503, "Recovering", "the volume is being read")

    async def statement(self, request: web.Request) -> web.Response:
        """Take the full set of what is wanted."""
        statement = await _body(request, Statement)
        if statement.revision <= 0:
            raise BadRequestError("revision must be positive")
        try:
            return _json(self._supernode.state(statement))
        except ValueError as error:
            raise BadRequestError(str(error)) from error

    async def changes(self, request: web.Request) -> web.Response:
        """Tell what changed, or wait for it."""
        query = request.query
        try:
            since, wait = int(query.get("since", "0")), float(query.get("wait", "0"))
        except ValueError:
            raise BadRequestError("since must be a whole number, wait a number of seconds") from None
        if since < 0 or not 0 <= wait <= _MAX_WAIT:
            raise BadRequestError(f"since must not be negative, wait must be 0 to {_MAX_WAIT:.0f} seconds")
        return _json(await self._supernode.changes(boot=query.get("boot", ""), since=since, wait=wait))

    async def sync(self, request: web.Request) -> web.Response:
        """One exchange of a peer; the peer is the node that its token names."""
        message = await _body(request, SyncRequest)
        identity = request.get(IDENTITY)
        if identity is not None and identity.node != message.peer:
            return error_response(403, "Forbidden", f"the token is of node {identity.node!r}, not of {message.peer!r}")
        try:
            return _json(await self._supernode.sync(message, request.remote or ""))
        except ValueError as error:
            raise BadRequestError(str(error)) from error


async def _body(request: web.Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"the body is no {kind.__name__}: {error}") from error


def _json(message: msgspec.Struct) -> web.Response:
    return web.Response(body=msgspec.json.encode(message), content_type="application/json")


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except BadRequestError as error:
        return error_response(400, "BadRequest", str(error))
    except web.HTTPException as error:
        return error_response(error.status, error.reason.replace(" ", ""), error.reason)
    except Exception:
        _log.exception("a request failed", method=request.method, path=request.path)
        return error_response(500, "InternalError", "see the supernode's log")
