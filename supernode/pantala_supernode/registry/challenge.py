"""Reads ``WWW-Authenticate`` challenges (RFC 9110, 11.6.1), and requests and answers of Docker's token servers."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import msgspec

from pantala_protocol.rules import foreign, headers

MAX_LENGTH = 8 * 1024
"""The most characters of all challenges together. A realm, a service and a scope need a few hundred."""
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"({_WORD})(?: +|$|(?=[,\t]))")
_PARAMETER = re.compile(rf"({_WORD})[ \t]*=[ \t]*(?:({_WORD})|\"((?:[^\"\\]|\\.)*)\")")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_COMMAS = re.compile(r"[ \t]*(?:,[ \t]*)+")
_BLANK = re.compile(r"[ \t]*")
_ESCAPED = re.compile(r"\\(.)")

_DEFAULT_SECONDS = 60
_MAX_SECONDS = 24 * 3600
_MAX_REALM = 2048
_SCOPE = re.compile(r"repository:[a-z0-9][a-z0-9/._-]{0,511}:pull")
_TOKEN = re.compile(r"[\x21-\x7e]{1,32768}")
_CLIENT = "pantala"
_SEVERAL = "scope"
"""The only parameter that may be repeated with different values. The values are joined."""


class AuthChallenge(NamedTuple):
    """One way to authenticate that a registry offers."""

    scheme: str
    """The scheme in lower case, such as ``basic`` or ``bearer``."""
    parameters: dict[str, str]
    """The values of the parameters, by name in lower case."""


class TokenRequest(NamedTuple):
    """A request for a token: the URL of the token server, and what the token must allow."""

    realm: str
    service: str
    scopes: tuple[str, ...]

    @property
    def url(self) -> str:
        parts = urlsplit(self.realm)
        service = [("service", self.service)] if self.service else []
        query = [
            *parse_qsl(parts.query, keep_blank_values=True), *service, *(("scope", scope) for scope in self.scopes)
        ]  # fmt: skip
        return parts._replace(query=urlencode(query, quote_via=quote)).geturl()

    def form(self, identity_token: str) -> dict[str, str]:
        """The form fields to POST to the realm, to exchange an identity token for a bearer token."""
        return {
            "grant_type": "refresh_token",
            "service": self.service,
            "client_id": _CLIENT,
            "scope": " ".join(self.scopes),
            "refresh_token": identity_token,
        }


class Token(NamedTuple):
    """A bearer token. Its value is secret."""

    value: str
    seconds: int
    """How many seconds the token is valid."""

    def __repr__(self) -> str:
        return f"<Token for {self.seconds} s>"


class _TokenReply(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: int | float | str | None = None


def parse(values: Iterable[str]) -> tuple[AuthChallenge, ...]:
    """Read the valid challenges in all ``WWW-Authenticate`` headers of an answer, in order.

    Raises :class:`ValueError` if there are challenges, but none of them is valid.
    """
    fields = list(values)
    text = ", ".join(fields)
    if len(text) > MAX_LENGTH:
        raise ValueError(f"its WWW-Authenticate headers have {len(text)} characters, more than {MAX_LENGTH}")
    faults: list[str] = []
    found = list(_valid(text, faults))
    if faults and len(fields) > 1:  # the rest of a text after a fault cannot be read, but the other headers can
        found = [each for field in fields for each in _valid(field, faults)]
    if faults and not found:
        raise ValueError(faults[0])
    return tuple(found)


def names_server(challenge: AuthChallenge) -> bool:
    """True if the realm of a Bearer challenge is the URL of a token server, and not only a name."""
    return challenge.parameters.get("realm", "").lower().startswith(("http://", "https://"))


def token_request(challenge: AuthChallenge, repository: str, *, plain_http: bool) -> TokenRequest:
    """The token request that answers a Bearer ``challenge``. The token allows only pulls from ``repository``.

    The realm's URL must be https:, because it receives the password. It may be http: with ``plain_http``.
    Raises :class:`ValueError`.
    """
    realm = challenge.parameters.get("realm", "")
    try:
        parts = urlsplit(realm)
        _ = parts.port
    except ValueError:
        raise ValueError("the URL of its token server is not valid") from None
    schemes = ("https", "http") if plain_http else ("https",)
    if parts.scheme not in schemes or not parts.hostname or len(realm) > _MAX_REALM or not _TOKEN.fullmatch(realm):
        raise ValueError(
            f"the URL of its token server is not a valid {' or '.join(f'{scheme}:' for scheme in schemes)} URL"
        )
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("the URL of its token server has a user or a fragment")
    own = f"repository:{repository}:pull"
    asked = [scope for scope in challenge.parameters.get("scope", "").split() if _SCOPE.fullmatch(scope)]
    service = headers.to_text(challenge.parameters.get("service", ""))
    return TokenRequest(realm, service, tuple(dict.fromkeys([own, *asked])))


def read_token(body: bytes) -> Token:
    """Read a token server's answer. Raises :class:`ValueError`, which does not quote the answer."""
    try:
        reply = foreign.read(body, _TokenReply)
    except ValueError:
        raise ValueError("the token server of the registry did not send a valid token") from None
    value = reply.token or reply.access_token
    if not _TOKEN.fullmatch(value):
        raise ValueError("the token server of the registry did not send a valid token")
    return Token(value, _seconds(reply.expires_in))


def _valid(text: str, faults: list[str]) -> Iterator[AuthChallenge]:
    """The challenges before the first syntax error. Adds an error to ``faults`` for each challenge that is left out."""
    try:
        yield from _challenges(text, faults)
    except ValueError as error:
        faults.append(str(error))


def _challenges(text: str, faults: list[str]) -> Iterator[AuthChallenge]:
    at = _skip(_COMMAS, text, _skip(_BLANK, text, 0))
    while at < len(text):
        scheme = _SCHEME.match(text, at)
        if scheme is None:
            raise ValueError(f"its WWW-Authenticate header has no authentication scheme at character {at}")
        at = _skip(_BLANK, text, scheme.end())
        at, parameters, twice = _parameters(text, at)
        if twice:
            faults.append(f"its WWW-Authenticate header has two values for the parameter {twice[:40]!r}")
        else:
            yield AuthChallenge(scheme[1].lower(), parameters)


def _parameters(text: str, at: int) -> tuple[int, dict[str, str], str]:
    """The position after the parameters, the parameters, and the name of one with two values, or empty."""
    found: dict[str, str] = {}
    twice = ""
    token68 = _TOKEN68.match(text, at)
    if token68 is not None and not _PARAMETER.match(text, at):
        return _next(text, token68.end()), found, twice
    while (match := _PARAMETER.match(text, at)) is not None:
        name = match[1].lower()
        value = match[2] if match[2] is not None else _ESCAPED.sub(r"\1", match[3])
        if found.get(name, value) != value and name != _SEVERAL:
            twice = name
        found[name] = f"{found[name]} {value}" if found.get(name, value) != value else value
        at = _next(text, match.end())
    return (at if found else _next(text, at)), found, twice


def _next(text: str, at: int) -> int:
    """The position at which the next element of the header's list starts."""
    at = _skip(_BLANK, text, at)
    if at == len(text):
        return at
    after = _skip(_COMMAS, text, at)
    if after == at:
        raise ValueError(f"its WWW-Authenticate header lacks a comma at character {at}")
    return after


def _skip(what: re.Pattern[str], text: str, at: int) -> int:
    match = what.match(text, at)
    return match.end() if match else at


def _seconds(given: float | str | None) -> int:
    try:
        return min(max(int(float(given or _DEFAULT_SECONDS)), 1), _MAX_SECONDS)
    except (ValueError, OverflowError):
        return _DEFAULT_SECONDS
