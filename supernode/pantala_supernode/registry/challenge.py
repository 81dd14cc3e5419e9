"""What a registry says beside 401: the ``WWW-Authenticate`` header of RFC 9110, 11.6.1. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

MAX_LENGTH = 8 * 1024
"""Bytes of challenges that are read. Realm, service and scope need some hundred."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - HTTP's word for a word
_SCHEME = re.compile(rf"({_TOKEN})(?: +|$|(?=[,\t]))")
_PARAMETER = re.compile(rf"({_TOKEN})[ \t]*=[ \t]*(?:({_TOKEN})|\"((?:[^\"\\]|\\.)*)\")")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_COMMAS = re.compile(r"[ \t]*(?:,[ \t]*)+")
_BLANK = re.compile(r"[ \t]*")
_ESCAPED = re.compile(r"\\(.)")


class AuthChallenge(NamedTuple):
    """One way to prove who one is."""

    scheme: str
    """In lower case."""
    parameters: dict[str, str]
    """By name, in lower case."""


def parse(values: Iterable[str]) -> tuple[AuthChallenge, ...]:
    """Read the values of all ``WWW-Authenticate`` headers of an answer, in order. Raises :class:`ValueError`."""
    text = ", ".join(values)
    if len(text) > MAX_LENGTH:
        raise ValueError(f"a challenge of {len(text)} characters, more than {MAX_LENGTH}")
    return tuple(_challenges(text))


def _challenges(text: str) -> Iterator[AuthChallenge]:
    at = _skip(_COMMAS, text, _skip(_BLANK, text, 0))
    while at < len(text):
        scheme = _SCHEME.match(text, at)
        if scheme is None:
            raise ValueError(f"no authentication scheme at character {at} of a challenge")
        at = _skip(_BLANK, text, scheme.end())
        at, parameters = _parameters(text, at)
        yield AuthChallenge(scheme[1].lower(), parameters)


def _parameters(text: str, at: int) -> tuple[int, dict[str, str]]:
    """What follows a scheme, up to the next one, and where that is."""
    found: dict[str, str] = {}
    token68 = _TOKEN68.match(text, at)
    if token68 is not None and not _PARAMETER.match(text, at):
        return _next(text, token68.end()), found
    while (match := _PARAMETER.match(text, at)) is not None:
        name = match[1].lower()
        if name in found:
            raise ValueError(f"a challenge has the parameter {name[:40]!r} twice")
        found[name] = match[2] if match[2] is not None else _ESCAPED.sub(r"\1", match[3])
        at = _next(text, match.end())
    return (at if found else _next(text, at)), found


def _next(text: str, at: int) -> int:
    """Where the next element of the list begins."""
    at = _skip(_BLANK, text, at)
    if at == len(text):
        return at
    after = _skip(_COMMAS, text, at)
    if after == at:
        raise ValueError(f"no comma at character {at} of a challenge")
    return after


def _skip(what: re.Pattern[str], text: str, at: int) -> int:
    match = what.match(text, at)
    return match.end() if match else at
