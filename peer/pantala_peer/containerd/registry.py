"""Registries, as containerd looks them up below ``certs.d``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from pantala_peer.errors import SettingsError

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_NAME = re.compile(rf"(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?", re.ASCII)
_LOOPBACK = re.compile(r"localhost|127\.[0-9.]+|\[::1\]")
_DOCKER_HUB = "https://registry-1.docker.io"


@dataclass(frozen=True, slots=True)
class Registry:
    """One registry."""

    name: str
    """As in an image's name: ``docker.io``, ``registry.example.com:5000``."""
    server: str
    """Where it really is, for what the mirror does not have."""

    @property
    def directories(self) -> tuple[str, ...]:
        """Names below ``certs.d``: containerd reads the first that exists, and in it alone."""
        host, colon, port = self.name.rpartition(":")
        if not colon or port.endswith("]"):
            return (self.name,)
        return (f"{host}_{port}_", self.name)


def parse(text: str) -> Registry:
    """Read ``NAME``, which means https unless it is this machine, or a URL. Raises :class:`SettingsError`."""
    scheme, separator, name = text.rpartition("://")
    name = name.rstrip("/")
    match = _NAME.fullmatch(name)
    if match is None or (separator and scheme not in ("http", "https")) or not _is_url(f"https://{name}"):
        raise SettingsError(
            f"{text!r} is no registry: give a name like registry.example.com:5000, or a URL like http://10.0.0.5:5000"
        )
    if name in ("docker.io", "index.docker.io"):
        return Registry("docker.io", _DOCKER_HUB)
    if not separator:
        scheme = "http" if _LOOPBACK.fullmatch(match["host"]) else "https"
    return Registry(name, f"{scheme}://{name}")


def _is_url(text: str) -> bool:
    try:
        return bool(urlsplit(text).hostname) and urlsplit(text).port != 0
    except ValueError:
        return False
