"""Keeps the authority in a Secret, the trusted authorities in a ConfigMap, and the operator's own certificate.

Each replica of the operator does this. The API server refuses the second of two writes at the same time, and the
replica reads again.
"""

import asyncio
import base64
import time
from collections.abc import Callable, Mapping

import structlog

from pantala_operator.authority.issuer import CertificateIssuer
from pantala_operator.authority.rotation import AuthorityState, AuthorityTiming
from pantala_operator.errors import ClusterConflictError, ClusterError, ClusterNotFoundError
from pantala_operator.ports import ClusterAPI, DataKind
from pantala_process.tls import certificates
from pantala_process.tls.certificates import CertificateError
from pantala_process.tls.contexts import TLSContexts

_LOOK = 10.0
"""Seconds between two reads of the Secret."""

_SOON = 1.0
"""Seconds between two reads of the Secret, until the first authority is known."""

_BUNDLE = "ca.crt"
"""The key of the ConfigMap that has the certificates of all trusted authorities."""

log = structlog.get_logger(__name__)


class AuthorityUnavailableError(CertificateError):
    """No authority can sign now. A later request may succeed."""


class AuthorityKeeper:
    """Signs certificates for other processes, and loads the operator's own certificate into ``contexts``.

    ``names``: the names in the operator's certificate. ``issuer_secret`` is a Secret that cert-manager fills.
    """

    def __init__(
        self,
        cluster: ClusterAPI,
        contexts: TLSContexts,
        *,
        namespace: str,
        secret: str,
        config_map: str,
        names: tuple[str, ...],
        issuer_secret: str = "",
        timing: AuthorityTiming | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.problem = "the authority for certificates has not been read yet"
        """Why no certificate can be signed. Empty if certificates can be signed."""
        self._cluster = cluster
        self.contexts = contexts
        self._namespace = namespace
        self._secret = secret
        self._config_map = config_map
        self._names = names
        self._issuer_secret = issuer_secret
        self._timing = timing or AuthorityTiming()
        self._wall = wall
        self._state = AuthorityState()
        self._own = b""
        self._loaded = (b"", b"")

    def sign(self, request: bytes, names: tuple[str, ...]) -> bytes:
        """Sign a request with exactly these names.

        Raises :class:`AuthorityUnavailableError`, or :class:`CertificateError` for an invalid request.
        """
        issuer, now = self._state.current, self._wall()
        if issuer is None:
            raise AuthorityUnavailableError(self.problem)
        if now >= issuer.facts.ends:
            raise AuthorityUnavailableError("the authority's certificate has expired. The operator waits for a new one")
        return issuer.sign(request, names, now=now, lifetime=self._timing.certificate)

    async def run(self) -> None:
        """Rotate the authority and renew the operator's certificate until cancelled."""
        while True:
            await self.step()
            await asyncio.sleep(_SOON if self.problem else _LOOK)

    async def step(self) -> None:
        """Bring the Secret, the ConfigMap and the operator's certificate up to date."""
        try:
            await self._rotate()
            self._renew()
        except ClusterConflictError:
            return  # the other replica has written the object, and the next step reads it
        except (ClusterError, CertificateError, OSError, ValueError) as error:
            if str(error) != self.problem:
                log.warning("certificates cannot be signed now; the operator retries", reason=str(error))
            self.problem = str(error)
        else:
            if self.problem:
                log.info("certificates can be signed")
            self.problem = ""

    async def _rotate(self) -> None:
        stored = await self._cluster.read_data(DataKind.SECRET, self._namespace, self._secret)
        before = AuthorityState.of(_decoded(stored.data))
        given = await self._given()
        state = before.advance(given, external=bool(self._issuer_secret), now=self._wall(), timing=self._timing)
        if state.current is None:
            raise CertificateError(f"cert-manager has not filled the Secret {self._issuer_secret} yet")
        if state != before:
            data = {name: None if value is None else _encoded(value) for name, value in state.data().items()}
            await self._cluster.write_data(DataKind.SECRET, stored.metadata, data)
            if before.current is not None:
                log.info("the authority for certificates is rotated", signs=state.current != before.current)
        await self._publish(state)
        self._state = state

    async def _publish(self, state: AuthorityState) -> None:
        published = await self._cluster.read_data(DataKind.CONFIG_MAP, self._namespace, self._config_map)
        bundle = state.bundle.decode("ascii")
        if published.data.get(_BUNDLE) != bundle:
            await self._cluster.write_data(DataKind.CONFIG_MAP, published.metadata, {_BUNDLE: bundle})

    async def _given(self) -> CertificateIssuer | None:
        """The authority that cert-manager made. ``None``: cert-manager has not made an authority yet."""
        if not self._issuer_secret:
            return None
        try:
            found = await self._cluster.read_data(DataKind.SECRET, self._namespace, self._issuer_secret)
        except ClusterNotFoundError:
            return None
        data = _decoded(found.data)
        if not data.get("tls.crt") or not data.get("tls.key"):
            return None
        return CertificateIssuer(certificates.first(data["tls.crt"]), data["tls.key"])

    def _renew(self) -> None:
        """Sign the operator's own certificate, if it must be renewed or if another authority signs now."""
        issuer, now = self._state.current, self._wall()
        if issuer is None:
            return
        if not self._own or now >= certificates.facts(self._own).renewal() or self._loaded[0] != issuer.certificate:
            key = certificates.new_key()
            self._own = key + self.sign(certificates.signing_request(key), self._names)
        elif self._loaded[1] == self._state.bundle:
            return
        self.contexts.load(self._names[0], self._own, self._state.bundle)
        self._loaded = (issuer.certificate, self._state.bundle)


def _decoded(data: Mapping[str, str]) -> dict[str, bytes]:
    try:
        return {name: base64.b64decode(value, validate=True) for name, value in data.items()}
    except ValueError as error:
        raise CertificateError("the Secret of the authority is not base64") from error


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
