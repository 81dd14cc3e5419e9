"""The authority, and its HTTPS endpoint, which signs the certificates of supernodes and peers."""

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import structlog
from aiohttp import web

from pantala_operator.authority.keeper import AuthorityKeeper, AuthorityUnavailableError
from pantala_operator.errors import ClusterError
from pantala_operator.ports import ClusterAPI
from pantala_operator.settings import Settings
from pantala_process.entrance.server import one_request, serving_at
from pantala_process.http import error_response
from pantala_process.identity import ClusterKeys, ServerClock, TokenIdentity, TokenRejectedError
from pantala_process.listening import listening
from pantala_process.settings import ListenAddress
from pantala_process.tls import names
from pantala_process.tls.authority import PATH
from pantala_process.tls.certificates import CertificateError
from pantala_process.tls.contexts import TLSContexts
from pantala_process.tls.names import ProcessName, ProcessRole

_MOST = 256
"""Connections at the port. Each process asks for a certificate a few times a day."""

_MAX_REQUEST = 16 * 1024

log = structlog.get_logger(__name__)


class TrustedAccounts(NamedTuple):
    """The processes that may get certificates."""

    peer: str
    """The peers' ServiceAccount, as ``system:serviceaccount:<namespace>:<name>``."""
    supernode: str
    """The supernodes' ServiceAccount."""
    stateful_set: str
    """The supernodes' StatefulSet, as ``<namespace>/<name>``. Its Service has the same name."""

    def names(self, identity: TokenIdentity) -> tuple[str, ...]:
        """The names that a token proves. Empty: its process gets no certificate."""
        if identity.subject == self.peer and identity.node:
            return (names.of_peer(identity.node),)
        namespace, _, name = self.stateful_set.partition("/")
        if identity.subject == self.supernode and re.fullmatch(rf"{re.escape(name)}-[0-9]+", identity.pod):
            own = str(ProcessName(ProcessRole.SUPERNODE, identity.pod))
            return own, f"{identity.pod}.{name}.{namespace}", f"{name}.{namespace}.svc"
        return ()


class Authority:
    """Rotates the authority, and signs a request with exactly the names that the client's token proves."""

    def __init__(
        self, keeper: AuthorityKeeper, keys: ClusterKeys, accounts: TrustedAccounts, listen: ListenAddress
    ) -> None:
        self.keeper = keeper
        self._keys = keys
        self._accounts = accounts
        self._listen = listen

    async def run(self) -> None:
        """Serve until cancelled. Raises :class:`OSError` if the port cannot be opened."""
        async with self.serving() as port:
            log.info("The operator signs certificates", port=port)
            await self.keeper.run()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Serve while the block runs, and yield the port. Clients need no certificate."""
        app = web.Application(client_max_size=_MAX_REQUEST, middlewares=[one_request])
        app.router.add_post(PATH, self._sign)
        tls = self.keeper.contexts.open_listener
        with listening(self._listen, "--tls-listen") as sockets:
            async with serving_at(app, sockets, grace=1.0, most=_MOST, lingering=1.0, tls=tls):
                yield int(sockets[0].getsockname()[1])

    async def _sign(self, request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            identity = await self._keys.verify(token if scheme.lower() == "bearer" else "")
        except TokenRejectedError as error:
            return error_response(401, "Unauthorized", str(error))
        found = self._accounts.names(identity)
        if not found:
            log.warning("refused to sign a certificate", subject=identity.subject, pod=identity.pod)
            return error_response(403, "Forbidden", f"{identity.subject} gets no certificate")
        try:
            certificate = self.keeper.sign(await request.read(), found)
        except AuthorityUnavailableError as error:
            return error_response(503, "NotSigned", str(error))
        except CertificateError as error:
            return error_response(503 if self.keeper.problem else 400, "NotSigned", str(error))
        log.info("signed a certificate", name=found[0])
        return web.Response(body=certificate, content_type="application/pem-certificate-chain")


def authority_of(settings: Settings, cluster: ClusterAPI, clock: ServerClock) -> Authority | None:
    """The authority. ``None`` without ``--tls-listen``. ``clock`` has the API server's time."""
    if settings.tls_listen is None:
        return None
    own = str(ProcessName(ProcessRole.OPERATOR, settings.pod))
    keeper = AuthorityKeeper(
        cluster,
        TLSContexts(),
        namespace=settings.namespace,
        secret=settings.tls_secret,
        config_map=settings.tls_bundle,
        issuer_secret=settings.tls_issuer_secret,
        names=(own, f"{settings.tls_service}.{settings.namespace}.svc"),
        wall=clock.now,
    )

    async def read(path: str) -> Mapping[str, Any]:
        try:
            return await cluster.read_document(path)
        except ClusterError as error:
            raise OSError(str(error)) from error

    accounts = TrustedAccounts(settings.trusted_peer, settings.trusted_supernode, settings.supernode_statefulset or "")
    return Authority(keeper, ClusterKeys(read, clock), accounts, settings.tls_listen)
