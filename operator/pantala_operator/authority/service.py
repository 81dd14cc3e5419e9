"""Composes the authority from the operator's settings."""

from collections.abc import Mapping
from typing import Any

import structlog

from pantala_operator.authority.endpoint import SigningEndpoint, TrustedAccounts
from pantala_operator.authority.keeper import AuthorityKeeper
from pantala_operator.errors import ClusterError
from pantala_operator.ports import ClusterAPI
from pantala_operator.settings import Settings
from pantala_process.identity import ClusterKeys, ServerClock
from pantala_process.settings import ListenAddress
from pantala_process.tls.contexts import TLSContexts
from pantala_process.tls.names import ProcessName, ProcessRole

log = structlog.get_logger(__name__)


class Authority:
    """Rotates the authority, and signs the certificates of all processes."""

    def __init__(
        self, keeper: AuthorityKeeper, endpoint: SigningEndpoint, contexts: TLSContexts, listen: ListenAddress
    ) -> None:
        self.keeper = keeper
        self.contexts = contexts
        """For the operator's own connections to supernodes."""
        self._endpoint = endpoint
        self._listen = listen

    async def run(self) -> None:
        """Serve until cancelled. Raises :class:`OSError` if the port cannot be opened."""
        async with self._endpoint.serving(self._listen, self.contexts) as port:
            log.info("The operator signs certificates", port=port)
            await self.keeper.run()


def authority_of(settings: Settings, cluster: ClusterAPI, clock: ServerClock) -> Authority | None:
    """The authority. ``None`` without ``--tls-listen``. ``clock`` has the API server's time."""
    if settings.tls_listen is None:
        return None
    contexts = TLSContexts()
    own = str(ProcessName(ProcessRole.OPERATOR, settings.pod))
    keeper = AuthorityKeeper(
        cluster,
        contexts,
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
    return Authority(keeper, SigningEndpoint(keeper, ClusterKeys(read, clock), accounts), contexts, settings.tls_listen)
