"""A registry's token server: what to ask it, and what it answers (Docker's token specification). Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec

from pantala_supernode.registry.challenge import AuthChallenge

_DEFAULT_SECONDS = 60
_MAX_SECONDS = 24 * 3600
_MAX_REALM = 2048
_SCOPE = re.compile(r"repository:[a-z0-9][a-z0-9/._-]{0,511}:pull")
_TOKEN = re.compile(r"[\x21-\x7e]{1,32768}")
_CLIENT = "pantala"


class TokenRequest(NamedTuple):
    """What a token must be for, and who gives it."""

    realm: str
    service: str
    scopes: tuple[str, ...]

    @property
    def url(self) -> str:
        """What to GET for a token."""
        parts = urlsplit(self.realm)
        query = [*parse_qsl(parts.query, keep_blank_values=True), *self._query()]
        return parts._replace(query=urlencode(query, quote_via=quote)).geturl()

    def form(self, identity_token: str) -> dict[str, str]:
        """What to POST to the realm for a token, for who has an identity token."""
        return {
            "grant_type": "refresh_token",
            "service": self.service,
            "client_id": _CLIENT,
            "scope": " ".join(self.scopes),
            "refresh_token": identity_token,
        }

    def _query(self) -> list[tuple[str, str]]:
        service = [("service", self.service)] if self.service else []
        return [*service, *(("scope", scope) for scope in self.scopes)]


class Token(NamedTuple):
    """A token; its value is a secret."""

    value: str
    seconds: int
    """How long it is good for."""

    def __repr__(self) -> str:
        return f"<Token for {self.seconds} s>"


def demand(challenge: AuthChallenge, repository: str, *, plain_http: bool) -> TokenRequest:
    """What the Bearer ``challenge`` asks for, to pull from ``repository`` and for nothing else.

    The realm must be https:, since it gets the password; http: only where the registry itself has no more. Raises
    :class:`ValueError` with what is wrong.
    """
    realm = challenge.parameters.get("realm", "")
    try:
        parts = urlsplit(realm)
        _ = parts.port
    except ValueError:
        raise ValueError("its token realm is no URL") from None
    schemes = ("https", "http") if plain_http else ("https",)
    if parts.scheme not in schemes or not parts.hostname or len(realm) > _MAX_REALM or not _TOKEN.fullmatch(realm):
        raise ValueError(f"its token realm is no {' or '.join(f'{scheme}:' for scheme in schemes)} URL")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("its token realm is a URL with a user or a fragment")
    own = f"repository:{repository}:pull"
    asked = [scope for scope in challenge.parameters.get("scope", "").split() if _SCOPE.fullmatch(scope)]
    return TokenRequest(realm, challenge.parameters.get("service", ""), tuple(dict.fromkeys([own, *asked])))


class _Reply(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: int | float | str | None = None


def read(body: bytes) -> Token:
    """The token in a token server's answer. Raises :class:`ValueError`, which does not quote it."""
    try:
        reply = msgspec.json.decode(body, type=_Reply)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise ValueError("its token server answered what is no token") from None
    value = reply.token or reply.access_token
    if not _TOKEN.fullmatch(value):
        raise ValueError("its token server answered what is no token")
    return Token(value, _seconds(reply.expires_in))


def _seconds(given: float | str | None) -> int:
    try:
        return min(max(int(float(given or _DEFAULT_SECONDS)), 1), _MAX_SECONDS)
    except (ValueError, OverflowError):
        return _DEFAULT_SECONDS
