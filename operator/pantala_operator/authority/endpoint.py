"""The HTTPS endpoint that signs the certificates of supernodes and peers."""

import contextlib
import re
from collections.abc import AsyncIterator
from typing import NamedTuple

import structlog
from aiohttp import web

from pantala_operator.authority.keeper import AuthorityKeeper, AuthorityUnavailableError
from pantala_process.entrance.server import accepting, runner_of
from pantala_process.http import error_response
from pantala_process.identity import ClusterKeys, TokenIdentity, TokenRejectedError
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


class SigningEndpoint:
    """Signs a request with exactly the names that the client's token proves."""

    def __init__(self, keeper: AuthorityKeeper, keys: ClusterKeys, accounts: TrustedAccounts) -> None:
        self._keeper = keeper
        self._keys = keys
        self._accounts = accounts

    @contextlib.asynccontextmanager
    async def serving(self, address: ListenAddress, contexts: TLSContexts) -> AsyncIterator[int]:
        """Serve while the block runs, and yield the port. Clients need no certificate."""
        app = web.Application(client_max_size=_MAX_REQUEST)
        app.router.add_post(PATH, self._sign)
        runner = runner_of(app, grace=1.0, keepalive=1.0)
        await runner.setup()
        with listening(address) as sockets:
            try:
                async with accepting(runner, sockets, most=_MOST, tls=contexts.open_listener):
                    yield int(sockets[0].getsockname()[1])
            finally:
                await runner.cleanup()

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
            certificate = self._keeper.sign(await request.read(), found)
        except AuthorityUnavailableError as error:
            return error_response(503, "NotSigned", str(error))
        except CertificateError as error:
            return error_response(503 if self._keeper.problem else 400, "NotSigned", str(error))
        log.info("signed a certificate", name=found[0])
        return web.Response(body=certificate, content_type="application/pem-certificate-chain")
