"""Request headers from a Secret: each key is a header's name, each value one line. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import NamedTuple

from pantala_operator.plan import problem
from pantala_operator.plan.problem import Problem
from pantala_operator.resources.api import Secret
from pantala_protocol.reasons import Reason

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_LINE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_REFUSED = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "host", "range", "accept-encoding", "expect", "date",
}  # fmt: skip
_REFUSED_PREFIXES = ("if-", "content-")
_MAX_VALUE = 16 * 1024


@dataclass(frozen=True, slots=True)
class Absent:
    """There is no such Secret."""


@dataclass(frozen=True, slots=True)
class Denied:
    """The operator may not read it."""

    message: str


@dataclass(frozen=True, slots=True)
class Unread:
    """Not known yet: it was not read, or the API server is away."""


SecretReading = Secret | Absent | Denied | Unread


class Headers(NamedTuple):
    """What is sent to the origin, and whose credentials these are."""

    values: dict[str, str]
    credentials: str
    """The Secret's UID: an identity, never the content."""


def read(name: str, reading: SecretReading) -> Headers | Problem | Unread:
    """Turn a Secret into headers, or say what is wrong with it without showing a value."""
    match reading:
        case Unread():
            return reading
        case Absent():
            return problem.of(Reason.SECRET_MISSING, f"There is no Secret {name}")
        case Denied(message):
            action = "Grant the operator get on secrets in this namespace; it goes on by itself."
            return Problem(problem.SECRET_FORBIDDEN, f"The Secret {name} cannot be read: {message}. {action}")
        case Secret():
            return _headers(name, reading)


def _headers(name: str, secret: Secret) -> Headers | Problem:
    values: dict[str, str] = {}
    if not secret.data:
        return problem.of(Reason.SECRET_INVALID, f"The Secret {name} is empty")
    seen: set[str] = set()
    for key, encoded in sorted(secret.data.items()):
        fault = _fault(key, seen)
        value = _line(encoded)
        if fault is None and value is None:
            fault = "its value is not one line of text"
        if fault is not None:
            return problem.of(Reason.SECRET_INVALID, f"The key {key} of the Secret {name} cannot be a header: {fault}")
        assert value is not None  # noqa: S101 - for the type checker; a value that is None is a fault
        values[key] = value
        seen.add(key.lower())
    return Headers(values, secret.metadata.uid)


def _fault(key: str, seen: set[str]) -> str | None:
    lower = key.lower()
    if _TOKEN.fullmatch(key) is None:
        return "it is not a header's name"
    if lower in _REFUSED or lower.startswith(_REFUSED_PREFIXES):
        return "the supernode sets this header itself"
    if lower in seen:
        return "the same header is there twice"
    return None


def _line(encoded: str) -> str | None:
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    # `kubectl create secret --from-file` keeps the file's last newline; no header can have one.
    text = data.decode("latin-1").removesuffix("\n").removesuffix("\r").strip(" \t")
    return text if len(text) <= _MAX_VALUE and _LINE.fullmatch(text) else None
