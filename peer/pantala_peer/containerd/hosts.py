"""The text of a ``hosts.toml``. Pantala's part is inserted before all other hosts, and can be removed again.

The text is not generated from the parsed document, so all other lines, comments and their order stay.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from pantala_peer.containerd.errors import UnusableFileError
from pantala_process.settings import SettingsError

HEADER = "x-pantala-mirror"
"""The header with a token, by which the mirror recognises containerd among the node's processes."""

_BEGIN = "# >>> pantala: written by Pantala's peer, removed by helm uninstall; do not edit between these lines"
_END = "# <<< pantala"
_OURS = re.compile(rb"^# >>> pantala\b[^\n]*\n(?:[^\n]*\n)*?# <<< pantala[^\S\n]*(?:\n|\Z)", re.MULTILINE)
_CAPABILITIES = frozenset({"pull", "resolve", "push", "referrers"})
_DURATION = re.compile(r"[+-]?(?:0|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|ms|s|m|h))+")
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,256}", re.ASCII)


@dataclass(frozen=True, slots=True)
class MirrorHost:
    """The mirror on this node, as containerd reaches it."""

    url: str
    token: str
    """A random text, different on each node. It is in files that only root can read."""
    resolve: bool = False
    """True if containerd also resolves tags at the mirror."""

    @property
    def capabilities(self) -> tuple[str, ...]:
        return ("pull", "resolve") if self.resolve else ("pull",)

    def __post_init__(self) -> None:
        """Raise :class:`SettingsError` for values that containerd's file cannot contain."""
        try:
            parts = urlsplit(self.url)
            plain = parts.scheme == "http" and parts.hostname and parts.port and self.url == f"http://{parts.netloc}"
        except ValueError:
            plain = False
        if plain and "]" in self.url:
            raise SettingsError(
                f"containerd 1 cannot read the mirror {self.url!r} in its files: an IPv6 address has brackets; "
                "use 127.0.0.1 or a host name"
            )
        if not plain or not self.url.isascii() or not re.fullmatch(r"[^\s\"'\\@]+", self.url):
            raise SettingsError(f"the mirror {self.url!r} is not a plain URL; use one like http://127.0.0.1:65001")
        if not _TOKEN.fullmatch(self.token):
            raise SettingsError("the mirror's token must have 1 to 256 letters, digits and ._~-")


@dataclass(frozen=True, slots=True)
class HostPart:
    """The lines that the peer adds to one ``hosts.toml``."""

    mirror: MirrorHost
    server: str | None = None
    """The registry's URL, if the file does not name it. ``None``: containerd derives the URL, usually with https."""
    capabilities: tuple[str, ...] = ("pull",)
    """What containerd may ask the mirror for. Without ``resolve``, containerd asks the registry for tags."""
    default: bool = False
    """True for the file of all registries without a directory. A ``server`` there would apply to each of them."""

    def text(self) -> str:
        host = f'host."{self.mirror.url}"'
        lines = [
            _BEGIN,
            *([f'server = "{self.server}"', ""] if self.server else []),
            f"[{host}]",
            f"  capabilities = [{', '.join(f'{word!r}' for word in self.capabilities)}]".replace("'", '"'),
            '  dial_timeout = "200ms"',  # for containerd 2.1 and newer; older versions ignore it
            f"  [{host}.header]",
            f'    {HEADER} = ["{self.mirror.token}"]',
            _END,
        ]
        return "\n".join(lines)


def has_ours(content: bytes) -> bool:
    return _OURS.search(content) is not None


def without_ours(content: bytes) -> bytes:
    """``content`` without Pantala's part: the original bytes, unless the file was edited since then."""
    while match := _OURS.search(content):
        # Pantala's part ends with a newline. After a last line without a newline, the newline precedes the part.
        start = match.start() if match[0].endswith(b"\n") else max(0, match.start() - 1)
        content = content[:start] + content[match.end() :]
    return content


def with_ours(theirs: bytes, part: HostPart) -> bytes:
    """``theirs`` with Pantala's part before all other hosts. containerd accepts the result.

    Raises :class:`UnusableFileError` for a file that cannot be extended.
    """
    try:
        document = tomllib.loads(theirs.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UnusableFileError(f"it is not TOML ({error}), so containerd ignores it; correct or remove it") from None
    _check(document, part)
    server = part.server if "server" not in document and "host" not in document else None
    head = _head(theirs)
    text = replace(part, server=server).text().encode()
    new = head + text + b"\n" + theirs[len(head) :] if head.endswith(b"\n") or not head else head + b"\n" + text
    if not _is_as_meant(new, document, part.mirror.url, server):
        raise UnusableFileError('its hosts are not tables of their own; write them as [host."..."]')
    return new


def _head(content: bytes) -> bytes:
    """The text before the first table. Keys in this text belong to the whole file."""
    at = 0
    for line in content.splitlines(keepends=True):
        if line.lstrip(b" \t").startswith(b"[") and _is_toml(content[:at]):  # otherwise it is inside a value
            return content[:at]
        at += len(line)
    return content


def _is_toml(content: bytes) -> bool:
    try:
        tomllib.loads(content.decode())
    except tomllib.TOMLDecodeError:
        return False
    return True


def _is_as_meant(new: bytes, before: Mapping[str, Any], url: str, server: str | None) -> bool:
    try:
        document = tomllib.loads(new.decode())
    except tomllib.TOMLDecodeError:
        return False
    hosts = document.pop("host")
    others = {name: host for name, host in hosts.items() if name != url}
    expected = {key: value for key, value in before.items() if key != "host"} | ({"server": server} if server else {})
    return url == next(iter(hosts)) and (expected, before.get("host", {})) == (document, others)


def _check(document: Mapping[str, Any], part: HostPart) -> None:
    """Reject a file that Pantala's part would make invalid, or whose other lines would get another meaning."""
    hosts = document.get("host", {})
    if not isinstance(hosts, dict) or not all(isinstance(host, dict) for host in hosts.values()):
        raise UnusableFileError("its `host` is not a table of hosts, so containerd ignores it; correct or remove it")
    if part.mirror.url in hosts:
        raise UnusableFileError(f"it already has the host {part.mirror.url}; remove that table")
    if part.default and "server" in document and not hosts:
        raise UnusableFileError(
            "it has a `server` and no host, which containerd 1.x ignores. With Pantala's host, the server would become "
            "the registry of all images; remove the line"
        )
    for where in (document, *hosts.values()):
        for key, is_good in _FIELDS.items():
            if key in where and not is_good(where[key]):
                raise UnusableFileError(f"its {key} = {where[key]!r} is not valid for containerd; correct it")


def _is_names(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def _is_pairs(value: Any) -> bool:
    pairs = value if isinstance(value, list) else [value]
    return all(_is_names(pair) and (isinstance(pair, str) or len(pair) == 2) for pair in pairs)


_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    "server": lambda value: isinstance(value, str),
    "capabilities": lambda value: isinstance(value, list) and {str(word).lower() for word in value} <= _CAPABILITIES,
    "ca": _is_names,
    "client": _is_pairs,
    "skip_verify": lambda value: isinstance(value, bool),
    "override_path": lambda value: isinstance(value, bool),
    "header": lambda value: isinstance(value, dict) and all(map(_is_names, value.values())),
    "dial_timeout": lambda value: isinstance(value, str) and (not value or bool(_DURATION.fullmatch(value))),
}
