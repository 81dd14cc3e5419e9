"""Reads Secrets with credentials: request headers for an origin, or pull secrets for registries. Pure.

No message shows a value of a Secret.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from pantala_operator.resources.api import Secret
from pantala_operator.resources.status import Obstacle
from pantala_protocol.reasons import Reason
from pantala_protocol.rules import foreign
from pantala_protocol.rules import headers as values

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_REFUSED = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "host", "range", "accept-encoding", "expect", "date",
}  # fmt: skip
_REFUSED_PREFIXES = ("if-", "content-")
_PULL_SECRET, _LEGACY_PULL_SECRET = ".dockerconfigjson", ".dockercfg"


@dataclass(frozen=True, slots=True)
class Absent:
    """The Secret does not exist."""


@dataclass(frozen=True, slots=True)
class Denied:
    """The operator may not read the Secret."""

    message: str


@dataclass(frozen=True, slots=True)
class Unread:
    """The Secret was not read yet, or the API server does not answer."""


SecretReading = Secret | Absent | Denied | Unread


class Headers(NamedTuple):
    """The headers of requests to the origin."""

    values: dict[str, str]
    """As in :mod:`pantala_protocol.rules.headers`: the bytes of the Secret."""
    credentials: str
    """An identifier of the credentials: the Secret's UID, never its content."""


class PullSecrets(NamedTuple):
    """Pull secrets of one namespace, usable or not."""

    configs: Mapping[str, str]
    """The content of the usable pull secrets, by name."""
    faults: tuple[str, ...]
    """The errors of the other pull secrets."""


def headers(name: str, reading: SecretReading) -> Headers | Obstacle | Unread:
    """Read headers from a Secret: each key is a header's name, and each value is one line."""
    match reading:
        case Unread():
            return reading
        case Absent():
            return Obstacle.of(Reason.SECRET_MISSING, f"The Secret {name} does not exist")
        case Denied(message):
            return Obstacle.of(Reason.SECRET_FORBIDDEN, f"The Secret {name} cannot be read: {message}")
        case Secret():
            return _headers(name, reading)


def _headers(name: str, secret: Secret) -> Headers | Obstacle:
    values: dict[str, str] = {}
    if not secret.data:
        return Obstacle.of(Reason.SECRET_INVALID, f"The Secret {name} is empty")
    for key, encoded in sorted(secret.data.items()):
        fault, value = _fault(key, {each.lower() for each in values}), _line(encoded)
        if fault is None and value is not None:
            values[key] = value
            continue
        why = fault or "its value is not one line of text"
        return Obstacle.of(Reason.SECRET_INVALID, f"The key {key} of the Secret {name} cannot be a header: {why}")
    return Headers(values, secret.metadata.uid)


def _fault(key: str, before: set[str]) -> str | None:
    lower = key.lower()
    if _TOKEN.fullmatch(key) is None:
        return "it is not a header's name"
    if lower in _REFUSED or lower.startswith(_REFUSED_PREFIXES):
        return "the supernode sets this header itself"
    if lower in before:
        return "the Secret has the same header twice"
    return None


def _line(encoded: str) -> str | None:
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    # `kubectl create secret --from-file` keeps the file's last newline; no header can have one.
    value = values.of_bytes(data.removesuffix(b"\n").removesuffix(b"\r").strip(b" \t"))
    return value if len(value) <= values.MAX_VALUE and values.is_valid(value) else None


def pull_secrets(names: Iterable[str], readings: Mapping[str, SecretReading]) -> PullSecrets:
    """Collect the pull secrets of these names, as far as ``readings`` has them."""
    found = {name: pull_secret(name, readings[name]) for name in names if name in readings}
    return PullSecrets(
        {name: each for name, each in found.items() if isinstance(each, str)},
        tuple(each.message for each in found.values() if isinstance(each, Obstacle)),
    )


def pull_secret(name: str, reading: SecretReading) -> str | Obstacle | Unread:
    """The content of a pull secret as ``{"auths": ...}``, or why it cannot be used."""
    match reading:
        case Unread():
            return reading
        case Absent():
            return Obstacle(Reason.SECRET_MISSING.value, f"The Secret {name} is missing in this namespace. Create it.")
        case Denied(message):
            what = f"The operator may not read the Secret {name}: {message.rstrip('. ')}."
            return Obstacle(Reason.SECRET_FORBIDDEN.value, what)
        case Secret():
            return _docker_config(reading)


def _docker_config(secret: Secret) -> str | Obstacle:
    key = _PULL_SECRET if _PULL_SECRET in secret.data else _LEGACY_PULL_SECRET
    if key not in secret.data:
        return _not_a_pull_secret(secret, f"it has neither {_PULL_SECRET} nor {_LEGACY_PULL_SECRET}")
    try:
        content = msgspec.json.decode(base64.b64decode(secret.data[key], validate=True))
        auths = foreign.drop_nulls(_auths(content) if key == _PULL_SECRET else content)
    except (binascii.Error, ValueError, msgspec.DecodeError, RecursionError):
        return _not_a_pull_secret(secret, f"its {key} is not valid JSON")
    if not isinstance(auths, dict) or not all(isinstance(each, dict) for each in auths.values()):
        return _not_a_pull_secret(secret, f"its {key} has no credentials by registry")
    return msgspec.json.encode({"auths": auths}, order="sorted").decode()


def _auths(content: object) -> object:
    """The member ``auths`` of a pull secret. Empty if it is null, or if ``content`` is an empty object.

    ``None``: ``content`` is not a pull secret.
    """
    if not isinstance(content, dict) or (content and "auths" not in content):
        return None
    found = content.get("auths")
    return {} if found is None else found


def _not_a_pull_secret(secret: Secret, why: str) -> Obstacle:
    action = "Create it with kubectl create secret docker-registry."
    what = f"The Secret {secret.metadata.name} is not a pull secret: {why}. {action}"
    return Obstacle(Reason.SECRET_INVALID.value, what)
