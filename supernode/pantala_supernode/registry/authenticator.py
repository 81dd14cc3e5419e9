"""Authenticates at registries, and caches each registry's challenge and tokens."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from cachetools import TLRUCache, TTLCache

from pantala_process.flight import SingleFlight
from pantala_protocol.redaction import RedactedURL
from pantala_supernode.outbound.request import Request
from pantala_supernode.registry import challenge
from pantala_supernode.registry.challenge import AuthChallenge, TokenRequest
from pantala_supernode.registry.credentials import RegistryAccount
from pantala_supernode.registry.endpoint import RepositoryLocation
from pantala_supernode.registry.errors import (
    InvalidAnswerError,
    RegistryDeniedError,
    RegistryError,
    RegistryForbiddenError,
    RegistryUnauthorizedError,
    raise_for_status,
)
from pantala_supernode.registry.mapping import realms
from pantala_supernode.registry.transport import RegistryTransport

_CACHED = 32 * 1024 * 1024
"""The most bytes of cached tokens, and of cached challenges. A hostile registry has many repositories."""
_KEY = 2048
"""The approximate bytes of an entry without its value."""
_CHALLENGE_SECONDS = 3600.0
_MOST_BYTES = 128 * 1024
_USED_UP = 0.9
"""The part of a token's lifetime for which the token is used, so that it does not expire in transit."""


class _Account(NamedTuple):
    location: RepositoryLocation
    credentials: RegistryAccount


class _IssuedToken(NamedTuple):
    value: str
    until: float


class Authenticator:
    """Makes ``Authorization`` headers for registries.

    Only one request for a token runs at a time for each account and repository.
    """

    def __init__(self, transport: RegistryTransport, clock: Callable[[], float]) -> None:
        self._transport = transport
        self._clock = clock
        self._challenges: TTLCache[RepositoryLocation, AuthChallenge] = TTLCache(
            _CACHED, _CHALLENGE_SECONDS, timer=clock, getsizeof=_size
        )
        self._tokens: TLRUCache[_Account, _IssuedToken] = TLRUCache(
            _CACHED,
            lambda _account, token, _now: token.until,
            timer=clock,
            getsizeof=_size,
        )
        self.flight: SingleFlight[_Account, str] = SingleFlight()

    async def authorization(self, location: RepositoryLocation, credentials: RegistryAccount) -> str:
        """The header for the next request. Empty if the registry's challenge is not known yet.

        Raises :class:`pantala_supernode.registry.errors.RegistryError`.
        """
        if credentials.registry_token:
            return f"Bearer {credentials.registry_token}"
        known = self._challenges.get(location)
        if known is None:
            return ""
        if known.scheme == "basic":
            return credentials.basic
        return await self._bearer(_Account(location, credentials), known)

    def challenged(
        self, location: RepositoryLocation, credentials: RegistryAccount, values: Iterable[str], refused: str
    ) -> str:
        """Store the challenge of a 401. Returns its scheme, or "" if it allows only the header ``refused``."""
        try:
            offered = challenge.parse(values)
        except ValueError as error:
            raise InvalidAnswerError.of(str(location), f"the registry requires credentials, but {error}") from None
        by_scheme = {found.scheme: found for found in reversed(offered)}
        bearer, basic = by_scheme.get("bearer"), by_scheme.get("basic")
        chosen = basic if bearer is None or (basic is not None and not challenge.names_server(bearer)) else bearer
        account = _Account(location, credentials)
        if chosen is None or credentials.registry_token:
            return ""
        self._challenges[location] = chosen
        if chosen.scheme == "basic":
            return "" if credentials.basic in ("", refused) else "basic"
        held = self._tokens.get(account)
        if held is not None and f"Bearer {held.value}" == refused:
            del self._tokens[account]
        return "bearer"

    async def _bearer(self, account: _Account, known: AuthChallenge) -> str:
        held = self._tokens.get(account)
        if held is not None:
            return f"Bearer {held.value}"
        return f"Bearer {await self.flight.share(account, lambda: self._renew(account, known))}"

    async def _renew(self, account: _Account, known: AuthChallenge) -> str:
        try:
            return await self._fetch(account, known)
        except RegistryError:
            self._challenges.pop(account.location, None)  # the token server may have moved
            raise

    async def _fetch(self, account: _Account, known: AuthChallenge) -> str:
        location, credentials = account
        what = f"the token for {location}"
        try:
            wanted = challenge.token_request(known, location.name, plain_http=location.endpoint.plain_http)
        except ValueError as error:
            raise InvalidAnswerError.of(what, str(error)) from None
        _check_realm(wanted.realm, account, what)
        begun = self._clock()
        reply = await self._transport.ask(_request(wanted, credentials, location.endpoint.ca), what, most=_MOST_BYTES)
        if reply.status in (400, 401, 403):
            kind = RegistryForbiddenError if reply.status == 403 and credentials else RegistryUnauthorizedError
            raise kind.of(what, _refusal(credentials))
        if reply.status in (404, 410):  # the token server is missing, not the image
            raise InvalidAnswerError.of(
                what, f"the token server at {RedactedURL(wanted.realm)} answered {reply.status}"
            )
        raise_for_status(reply.status, reply.headers, what)
        try:
            given = challenge.read_token(reply.body)
        except ValueError as error:
            raise InvalidAnswerError.of(what, str(error)) from None
        self._tokens[account] = _IssuedToken(given.value, begun + given.seconds * _USED_UP)
        return given.value


def _size(cached: AuthChallenge | _IssuedToken) -> int:
    texts = (cached.value,) if isinstance(cached, _IssuedToken) else (*cached.parameters, *cached.parameters.values())
    return _KEY + sum(map(len, texts))


def _request(wanted: TokenRequest, credentials: RegistryAccount, ca: Path | None) -> Request:
    if credentials.identity_token:
        form = urlencode(wanted.form(credentials.identity_token)).encode()
        return Request(wanted.realm, {}, method="POST", form=form, ca=ca)
    return Request(wanted.url, {}, {"Authorization": credentials.basic} if credentials.basic else {}, ca=ca)


def _check_realm(realm: str, account: _Account, what: str) -> None:
    """Raise a :class:`RegistryError` if the token server may not receive the credentials."""
    location, credentials = account
    if credentials.only_host and urlsplit(realm).hostname != credentials.only_host:
        text = "the token server is on another host, but the supernode sends its cloud credentials only to the registry"
        raise InvalidAnswerError.of(what, text)
    if credentials and not realms.is_trusted(realm, location.endpoint.host, location.endpoint.realms):
        registry, shown = location.repository.registry, RedactedURL(realm)
        text = (
            f"the token server {shown} is on another host, which does not get the registry's passwords. "
            f"If it belongs to {registry}, list its host in the chart's value registries, under realms"
        )
        raise RegistryDeniedError.of(what, text)


def _refusal(credentials: RegistryAccount) -> str:
    if credentials:
        return "the registry's token server rejected the credentials"
    return "the registry's token server requires credentials"
