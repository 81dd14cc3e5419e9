"""Decides which clients may call which route. A route without an :class:`Access` is refused."""

from collections.abc import Awaitable, Callable
from enum import Enum

import aiohttp
import structlog
from aiohttp import web

from pantala_process.identity import ClusterKeys, ServerClock, TokenIdentity, TokenRejectedError, api_server_documents
from pantala_process.tls import names
from pantala_process.tls.names import ProcessName, ProcessRole
from pantala_supernode.http.clients import certified
from pantala_supernode.settings import Settings

_log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

IDENTITY: web.RequestKey[TokenIdentity] = web.RequestKey("identity", TokenIdentity)

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="pantala"'}


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

_ROLES = {
    Access.OPERATOR: ProcessRole.OPERATOR,
    Access.PEER: ProcessRole.PEER,
    Access.SUPERNODE: ProcessRole.SUPERNODE,
}


class AccessRefusedError(Exception):
    """A client may not call a route."""

    def __init__(self, status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.headers = headers or {}


class TokenUnknownError(Exception):
    """A token has not been verified yet, or it has expired."""

    def __init__(self, keys: ClusterKeys, token: str) -> None:
        super().__init__()
        self.keys = keys
        self.token = token


class Guard:
    """Refuses the requests that a route's :class:`Access` does not allow.

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

    async def authorize(
        self, access: Access, authorization: str, path: str, client: str | None = None
    ) -> TokenIdentity | None:
        """Return the client's identity, or ``None`` if the route needs none. Raises :class:`AccessRefusedError`.

        ``authorization`` is the request's header of this name, or empty. ``client`` is the name in the client's
        certificate, or ``None`` on plain HTTP.
        """
        try:
            return self.authorize_at_once(access, authorization, path, client)
        except TokenUnknownError as unknown:
            try:
                identity = await unknown.keys.verify(unknown.token)
            except TokenRejectedError as error:
                raise AccessRefusedError(401, "Unauthorized", str(error), _CHALLENGE) from error
        return self._checked(identity, access, path, client)

    def authorize_at_once(
        self, access: Access, authorization: str, path: str, client: str | None = None
    ) -> TokenIdentity | None:
        """What :meth:`authorize` does. Raises :class:`TokenUnknownError` if the token must be verified first."""
        if access in WITHOUT_TOKEN:
            return None
        if client is not None:
            _check_role(client, access, path)
        if self._keys is None:
            return None
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            text = "the request has no bearer token; send a service account token with the audience pantala"
            raise AccessRefusedError(401, "Unauthorized", text, _CHALLENGE)
        identity = self._keys.known(token)
        if identity is None:
            raise TokenUnknownError(self._keys, token)
        return self._checked(identity, access, path, client)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.http_exception is not None:
            return await handler(request)
        access = self._decisions.get(request.match_info.route)
        if access is None:
            raise AccessRefusedError(403, "Forbidden", f"no client may call {request.path}; check the path")
        client = certified(request)
        identity = await self.authorize(access, request.headers.get("Authorization", ""), request.path, client)
        if identity is not None:
            request[IDENTITY] = identity
        return await handler(request)

    def _checked(self, identity: TokenIdentity, access: Access, path: str, client: str | None) -> TokenIdentity:
        if identity.subject != self._subjects[access]:
            _log.warning(
                "refused a request, because the client may not call the route", subject=identity.subject, path=path
            )
            raise AccessRefusedError(403, "Forbidden", f"{identity.subject} may not call this route")
        if client is not None:
            holder = identity.node if access is Access.PEER else identity.pod
            if client != str(ProcessName(_ROLES[access], holder)):
                _log.warning("refused a request, because the token belongs to another client", client=client, path=path)
                text = f"the token is for {holder!r}, but the certificate is for {client!r}"
                raise AccessRefusedError(403, "Forbidden", text)
        return identity


def _check_role(client: str, access: Access, path: str) -> None:
    name = names.parse(client)
    if name is None or name.role is not _ROLES[access]:
        _log.warning("refused a request, because of the role in the client's certificate", client=client, path=path)
        text = f"the certificate is for {client!r}. This client may not call this route"
        raise AccessRefusedError(403, "Forbidden", text)


def guard_of(settings: Settings, session: aiohttp.ClientSession, clock: ServerClock) -> Guard:
    """The guard of a supernode with these settings. Its requests set ``clock`` to the API server's time."""
    read = api_server_documents(session, settings.api_server, clock, ca=settings.api_ca, token=settings.api_token_file)
    return Guard(
        None if settings.no_auth else ClusterKeys(read, clock),
        operator=settings.trusted_operator,
        peer=settings.trusted_peer,
        supernode=settings.trusted_supernode,
    )
