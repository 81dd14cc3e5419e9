"""Reads Secrets with credentials: request headers for an origin, or pull secrets for registries. Pure.

A Secret is used only if its owner allows it with the label ``pantala.dev/allow``. No message shows a value of a Secret.
"""

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from pantala_operator.resources.api import ALLOW, HOSTS, Secret
from pantala_operator.resources.status import Obstacle
from pantala_protocol.reasons import Reason
from pantala_protocol.rules import headers as values
from pantala_protocol.rules import quantity, sources

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_REFUSED = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "host", "range", "accept-encoding", "expect", "date",
}  # fmt: skip
_REFUSED_PREFIXES = ("if-", "content-")
_MAX_HEADERS = 64 * 1024
"""The most bytes of all headers of a Task. No usual server accepts more, and the statement has the headers of all."""
_OBJECT, _NULL = dict[str, msgspec.Raw], msgspec.Raw(b"null")
"""Decode only the members of a JSON object. A hostile pull secret may have a million objects."""
_PULL_SECRET, _LEGACY_PULL_SECRET = ".dockerconfigjson", ".dockercfg"
MOST_OF_NAMESPACE = 4 * 1024 * 1024
"""The most bytes, in base64, of the Secrets that one namespace uses. The operator keeps them in memory."""
_FOR_TASKS, _FOR_IMAGES = "tasks", "images"
"""The values of the label: ``tasks`` allows every use, ``images`` only the use as a pull secret."""
_URL = re.compile(r"(https?)://([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?(?:[/?#].*)?", re.DOTALL)
_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Absent:
    """The Secret does not exist."""


@dataclass(frozen=True, slots=True)
class Denied:
    """The operator may not read the Secret."""

    command: str
    """The command with which an administrator of the namespace lets the operator read the Secret."""


@dataclass(frozen=True, slots=True)
class Unread:
    """The Secret was not read yet, or the API server does not answer."""


@dataclass(frozen=True, slots=True)
class Excess:
    """The Secret is not kept, because the Secrets that its namespace uses are too large together."""


SecretReading = Secret | Absent | Denied | Excess | Unread


class Headers(NamedTuple):
    """The headers of requests to the origin."""

    values: dict[str, str]
    """As in :mod:`pantala_protocol.rules.headers`: the bytes of the Secret."""
    credentials: str
    """An identifier of the credentials: the Secret's UID, never its content."""


def opted_in(secret: Secret) -> bool:
    """True if the owner of a Secret allows a use of it. The operator keeps the content of no other Secret."""
    return secret.metadata.labels.get(ALLOW) in (_FOR_TASKS, _FOR_IMAGES)


def headers(name: str, reading: SecretReading, url: str | None = None) -> Headers | Obstacle | Unread:
    """Read headers from a Secret: each key is a header's name, and each value is one line.

    ``url``: where the headers would be sent. ``None``: do not check the host.
    """
    match reading:
        case Unread():
            return reading
        case Absent():
            return Obstacle.of(Reason.SECRET_MISSING, f"The Secret {name} does not exist")
        case Denied(command):
            return _not_readable(name, command)
        case Excess():
            return _excess(name)
        case Secret():
            return _not_allowed(reading, _FOR_TASKS) or _not_for(reading, url) or _headers(name, reading)


def _not_readable(name: str, command: str) -> Obstacle:
    what = f"The operator may not read the Secret {name}. To allow it in this namespace, run: {command}"
    return Obstacle(Reason.SECRET_FORBIDDEN, what)


def _excess(name: str) -> Obstacle:
    why = f"the Secrets that this namespace uses have more than {quantity.render(MOST_OF_NAMESPACE)}B in base64"
    return Obstacle(Reason.SECRET_INVALID, f"The Secret {name} is not used, because {why}. Use fewer or smaller ones.")


def _not_allowed(secret: Secret, use: str) -> Obstacle | None:
    """The obstacle if the Secret's label does not allow the ``use``."""
    metadata = secret.metadata
    if metadata.labels.get(ALLOW) in (_FOR_TASKS, use):
        return None
    what = (
        f"The Secret {metadata.key} does not allow this use. To allow it, its owner runs: "
        f"kubectl label secret {metadata.name} --namespace={metadata.namespace} --overwrite {ALLOW}={use}"
    )
    return Obstacle(Reason.SECRET_FORBIDDEN, what)


def _not_for(secret: Secret, url: str | None) -> Obstacle | None:
    """The obstacle if the Secret names hosts, and the URL's host is not among them."""
    named = re.split(r"[\s,]+", secret.metadata.annotations.get(HOSTS, "").strip().lower())
    if url is None or named == [""] or _leads_to(url, named):
        return None
    what = (
        f"The Secret {secret.metadata.key} is only for the hosts in its annotation {HOSTS}, and spec.source.url "
        "names another host. Use another Secret, or let the owner of the Secret add the host"
    )
    return Obstacle(Reason.SECRET_FORBIDDEN, f"{what}.")


def _leads_to(url: str, named: Iterable[str]) -> bool:
    """True if an http or https URL has one of the named hosts. An entry may have a port, or ``*.`` at its start."""
    match = _URL.fullmatch(url)
    if match is None:
        return False
    host, port = match[2], match[3] or _PORTS[match[1]]
    for each in named:
        name, colon, wanted = each.rpartition(":") if not each.endswith("]") else (each, "", "")
        if not colon:
            name, wanted = each, port
        if sources.matches(name, host) and wanted == port:
            return True
    return False


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
    if sum(len(key) + len(value) for key, value in values.items()) > _MAX_HEADERS:
        what = f"The headers in the Secret {name} have more than {_MAX_HEADERS} bytes. Remove some of them."
        return Obstacle(Reason.SECRET_INVALID, what)
    return Headers(values, secret.metadata.uid)


def _fault(key: str, before: set[str]) -> str | None:
    lower = key.lower()
    if lower in (_PULL_SECRET, _LEGACY_PULL_SECRET):
        return "a pull secret has no headers"
    if _TOKEN.fullmatch(key) is None:
        return "it is not a header's name"
    if lower in _REFUSED or lower.startswith(_REFUSED_PREFIXES):
        return "the supernode sets this header itself"
    if lower in before:
        return "the Secret has this header twice"
    return None


def _line(encoded: str) -> str | None:
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError:
        return None
    # `kubectl create secret --from-file` keeps the file's last newline, but no header can contain a newline.
    value = values.of_bytes(data.removesuffix(b"\n").removesuffix(b"\r").strip(b" \t"))
    return value if len(value) <= values.MAX_VALUE and values.is_valid(value) else None


def pull_secrets(names: Iterable[str], readings: Mapping[str, SecretReading]) -> tuple[dict[str, str], tuple[str, ...]]:
    """The contents of the usable pull secrets of these names, and the errors of the others, if they were read."""
    found = {name: pull_secret(name, readings[name]) for name in names if name in readings}
    usable = {name: each for name, each in found.items() if isinstance(each, str)}
    return usable, tuple(each.message for each in found.values() if isinstance(each, Obstacle))


def pull_secret(name: str, reading: SecretReading) -> str | Obstacle | Unread:
    """The content of a pull secret as ``{"auths": ...}``, or why it cannot be used."""
    match reading:
        case Unread():
            return reading
        case Absent():
            return Obstacle(Reason.SECRET_MISSING, f"The Secret {name} is missing in this namespace. Create it.")
        case Denied(command):
            return _not_readable(name, command)
        case Excess():
            return _excess(name)
        case Secret():
            return _not_allowed(reading, _FOR_IMAGES) or _docker_config(reading)


def _docker_config(secret: Secret) -> str | Obstacle:
    key = _PULL_SECRET if _PULL_SECRET in secret.data else _LEGACY_PULL_SECRET
    if key not in secret.data:
        return _not_a_pull_secret(secret, f"it has neither {_PULL_SECRET} nor {_LEGACY_PULL_SECRET}")
    try:
        text = base64.b64decode(secret.data[key], validate=True).decode()  # msgspec.Raw may have any bytes
        auths = msgspec.json.decode(text, type=_OBJECT)
        if auths and key == _PULL_SECRET:
            auths = msgspec.json.decode(auths["auths"], type=_OBJECT | None) or {}
    except (KeyError, msgspec.ValidationError):
        return _not_a_pull_secret(secret, f"its {key} has no credentials by registry")
    except (ValueError, RecursionError):
        return _not_a_pull_secret(secret, f"its {key} is not valid JSON")
    entries = {name: entry for name, entry in auths.items() if entry != _NULL}
    if not all(bytes(entry).startswith(b"{") for entry in entries.values()):
        return _not_a_pull_secret(secret, f"its {key} has no credentials by registry")
    return msgspec.json.encode({"auths": entries}, order="sorted").decode()


def _not_a_pull_secret(secret: Secret, why: str) -> Obstacle:
    action = "Create it with kubectl create secret docker-registry."
    what = f"The Secret {secret.metadata.name} is not a pull secret: {why}. {action}"
    return Obstacle(Reason.SECRET_INVALID, what)
