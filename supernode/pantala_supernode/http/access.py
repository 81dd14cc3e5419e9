"""Decides which clients may call which route. A route without an :class:`Access` is refused."""

from collections.abc import Awaitable, Callable
from enum import Enum

import structlog
from aiohttp import web

from pantala_process.http import error_response
from pantala_supernode.http.identity import ClusterKeys, TokenIdentity, TokenRejectedError

_log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

IDENTITY: web.RequestKey[TokenIdentity] = web.RequestKey("identity", TokenIdentity)


class Access(Enum):
    """Which clients may call a route. The OpenAPI document shows the value."""

    OPEN = "every client: the answer says only whether the process is alive or ready"
    OPERATOR = "the operator's service account"
    PEER = "the peers' service account"
    SUPERNODE = "the supernodes' service account"
    METRICS = "every client that reaches the port, because of --metrics-open"
    DRAGONFLY = "every client that reaches the port: Dragonfly's clients cannot authenticate"


WITHOUT_TOKEN = (Access.OPEN, Access.DRAGONFLY, Access.METRICS)
"""The kinds of access that need no token."""


class Guard:
    """A middleware that refuses the requests that a route's :class:`Access` does not allow.

    Without ``keys`` (``--no-auth``), every client may call every route that has an :class:`Access`.
    """

    def __init__(self, keys: ClusterKeys | None, *, operator: str, peer: str, supernode: str) -> None:
        self._keys = keys
        self._subjects = {Access.OPERATOR: operator, Access.PEER: peer, Access.SUPERNODE: supernode}
        self._decisions: dict[web.AbstractRoute, Access] = {}

    def add(self, router: web.UrlDispatcher, method: str, path: str, handler: Handler, access: Access) -> None:
        self._decisions[router.add_route(method, path, handler)] = access

    def decision(self, route: web.AbstractRoute) -> Access | None:
        return self._decisions.get(route)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.http_exception is not None:
            return await handler(request)
        access = self._decisions.get(request.match_info.route)
        if access is None:
            return error_response(403, "Forbidden", "no client may call this route")
        if access in WITHOUT_TOKEN or self._keys is None:
            return await handler(request)
        try:
            identity = await self._keys.verify(_token(request))
        except TokenRejectedError as error:
            return error_response(401, "Unauthorized", str(error), **{"WWW-Authenticate": 'Bearer realm="pantala"'})
        if identity.subject != self._subjects[access]:
            _log.warning("a client may not call a route", subject=identity.subject, path=request.path)
            return error_response(403, "Forbidden", f"{identity.subject} may not call this route")
        request[IDENTITY] = identity
        return await handler(request)


def _token(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise TokenRejectedError("the request has no bearer token; send a service account's, of the audience pantala")
    return token
