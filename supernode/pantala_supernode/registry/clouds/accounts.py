"""Decides when the supernode's cloud identity is used, and caches the credentials that the cloud gave for it."""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from cachetools import TLRUCache

from pantala_process.flight import SingleFlight
from pantala_protocol.image import ImageReference
from pantala_supernode.registry.credentials import ANONYMOUS, POD_IDENTITY, Keyring, RegistryAccount
from pantala_supernode.registry.endpoint import RegistryEndpoint, RegistryEndpoints
from pantala_supernode.registry.errors import (
    RateLimitedError,
    RegistryDeniedError,
    RegistryFailedError,
    RegistryUnreachableError,
)

_LIMIT = 1000
_USED_UP = 0.9
"""The part of the credentials' lifetime after which new credentials are requested."""
_ENDED = 0.99
"""The part of the credentials' lifetime after which no request starts with them."""
_PAUSE = 60.0
"""Seconds between two tries to renew credentials that are still valid."""
_AWAY = (RegistryUnreachableError, RegistryFailedError, RateLimitedError)


class CloudGrant(NamedTuple):
    """Credentials for one host of a cloud's registry."""

    account: RegistryAccount
    seconds: float
    """The seconds for which the credentials are valid."""


class _Held(NamedTuple):
    account: RegistryAccount
    renewal: float
    """When to request new credentials, in monotonic seconds."""
    until: float
    """When to stop using these credentials, in monotonic seconds."""


class CloudIdentity(Protocol):
    """The supernode's identity at one vendor: AWS, Google or Azure."""

    def serves(self, host: str) -> bool:
        """True if ``host``, which may have a port, is a registry of this vendor."""

    async def grant(self, host: str) -> CloudGrant:
        """Request credentials for ``host``. Raises :class:`pantala_supernode.registry.errors.RegistryError`."""


class CloudAccounts:
    """Keeps the credentials of the identities, and renews them before they expire.

    The credentials are used only for the vendors' own hosts, and only with TLS. While a vendor's token server does not
    answer, they are used until they expire. ``clock`` returns monotonic seconds.
    """

    def __init__(self, identities: Iterable[CloudIdentity], clock: Callable[[], float]) -> None:
        self._identities = tuple(identities)
        self._clock = clock
        self._held: TLRUCache[str, _Held] = TLRUCache(_LIMIT, lambda _host, held, _now: held.until, timer=clock)
        self.flight: SingleFlight[str, RegistryAccount] = SingleFlight()

    def serves(self, endpoint: RegistryEndpoint) -> bool:
        return self._identity(endpoint) is not None

    async def account(self, endpoint: RegistryEndpoint) -> RegistryAccount:
        """The account for an endpoint. Anonymous if no identity serves the endpoint.

        Raises :class:`pantala_supernode.registry.errors.RegistryError`.
        """
        identity, host = self._identity(endpoint), endpoint.host
        if identity is None:
            return ANONYMOUS
        held = self._held.get(host)
        if held is not None and self._clock() < held.renewal:
            return held.account
        return await self.flight.share(host, lambda: self._renew(identity, host))

    def forget(self, endpoint: RegistryEndpoint) -> None:
        """Drop credentials that a registry refused."""
        self._held.pop(endpoint.host, None)

    async def _renew(self, identity: CloudIdentity, host: str) -> RegistryAccount:
        begun = self._clock()
        try:
            account, seconds = await identity.grant(host)
        except _AWAY:
            held = self._held.get(host)
            if held is None:
                raise
            self._held[host] = held._replace(renewal=self._clock() + _PAUSE)
            return held.account
        self._held[host] = _Held(account, begun + seconds * _USED_UP, begun + seconds * _ENDED)
        return account

    def _identity(self, endpoint: RegistryEndpoint) -> CloudIdentity | None:
        if endpoint.plain_http:
            return None
        return next((each for each in self._identities if each.serves(endpoint.host)), None)


class AccountChoice:
    """Chooses the accounts for an image: those of its pull secrets, or else anonymous and the cloud identity."""

    def __init__(self, endpoints: RegistryEndpoints, clouds: CloudAccounts) -> None:
        self._endpoints = endpoints
        self._clouds = clouds

    def of(self, image: ImageReference, keyring: Keyring) -> tuple[RegistryAccount, ...]:
        """The accounts in the order to try them.

        The anonymous account is tried before the cloud identity. So public images can be read while the vendor's token
        servers do not answer.
        """
        found = keyring.find(image.name)
        if found:
            return found
        try:
            locations = self._endpoints.locations(image.place)
        except RegistryDeniedError:
            return (ANONYMOUS,)
        if any(self._clouds.serves(location.endpoint) for location in locations):
            return (ANONYMOUS, POD_IDENTITY)
        return (ANONYMOUS,)
