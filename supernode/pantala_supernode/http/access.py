"""Who may call which route: every route has a decision, and a request without one is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum

import structlog
from aiohttp import web

from pantala_pieces.server import error_response
from pantala_supernode.http.identity import Identity, UnauthorizedError, Verifier

_log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

IDENTITY: web.RequestKey[Identity] = web.RequestKey("identity", Identity)


class Access(Enum):
    """A decision."""

    OPEN = "everybody: it tells nothing but that the process lives"
    OPERATOR = "the operator's service account"
    PEER = "the peers' service account"
    SUPERNODE = "the supernodes' service account"
    METRICS = "everybody who reaches the port: with --metrics-open, else the operator's service account"
    DRAGONFLY = "everybody who reaches the port: Dragonfly's clients cannot authenticate. Off unless enabled"


ANYBODY = (Access.OPEN, Access.DRAGONFLY, Access.METRICS)
"""Decisions for which nobody has to prove who they are."""


class Guard:
    """Lets through whom a route's decision allows. Without a verifier everybody is everybody (``--no-auth``)."""

    def __init__(self, verifier: Verifier | None, *, operator: str, peer: str, supernode: str) -> None:
        self._verifier = verifier
        self._subjects = {Access.OPERATOR: operator, Access.PEER: peer, Access.SUPERNODE: supernode}
        self._decisions: dict[web.AbstractRoute, Access] = {}

    def add(self, router: web.UrlDispatcher, method: str, path: str, handler: Handler, access: Access) -> None:
        """Add a route with its decision."""
        self._decisions[router.add_route(method, path, handler)] = access

    def decision(self, route: web.AbstractRoute) -> Access | None:
        """What was decided for a route."""
        return self._decisions.get(route)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Check the caller before anything of the request is read."""
        route = request.match_info.route
        if request.match_info.http_exception is not None:
            return await handler(request)
        access = self._decisions.get(route)
        if access is None:
            return error_response(403, "Forbidden", "nobody may call this route")
        if access in ANYBODY or self._verifier is None:
            return await handler(request)
        try:
            identity = await self._verifier.verify(_token(request))
        except UnauthorizedError as error:
            return error_response(401, "Unauthorized", str(error), **{"WWW-Authenticate": 'Bearer realm="pantala"'})
        if identity.subject != self._subjects[access]:
            _log.warning("refused", subject=identity.subject, path=request.path)
            return error_response(403, "Forbidden", f"{identity.subject} may not do this")
        request[IDENTITY] = identity
        return await handler(request)


def _token(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthorizedError("show a service account's token (audience pantala) as a bearer token")
    return token
