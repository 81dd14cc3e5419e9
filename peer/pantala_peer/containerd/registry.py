"""Registries, as containerd looks them up below ``certs.d``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pantala_process.settings import SettingsError
from pantala_protocol import image

_LOOPBACK = re.compile(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?")


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
    name = name.removesuffix("/")
    if (separator and scheme not in ("http", "https")) or not _is_registry(name):
        raise SettingsError(
            f"{text!r} is no registry: give a name like registry.example.com:5000, or a URL like http://10.0.0.5:5000"
        )
    if name == f"index.{image.DOCKER_HUB}":
        name = image.DOCKER_HUB
    if not separator:
        scheme = "http" if _LOOPBACK.fullmatch(name) else "https"
    return Registry(name, f"{scheme}://{image.endpoint(name)}")


def _is_registry(name: str) -> bool:
    try:
        image.check_registry(name)
    except ValueError:
        return False
    return True
