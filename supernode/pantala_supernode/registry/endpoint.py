"""The URL of each registry, and whether the registry has TLS. Pure."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from pantala_protocol import digest as digests
from pantala_protocol import image
from pantala_supernode.registry.errors import RegistryDeniedError

_BLOB = re.compile(r"(https?)://([^/@?#]+)/v2/([^?#]+)/blobs/(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")
_HUB = image.endpoint(image.DOCKER_HUB)


class ImageRepository(NamedTuple):
    """One repository of one registry."""

    registry: str
    """The registry's name in image names, for example ``docker.io``."""
    name: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.name}"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """An administrator's settings for one registry."""

    plain_http: bool = False
    """True if the registry has no TLS. Passwords for it cross the network in clear text."""
    ca: Path | None = None
    """A file with an additional certificate authority for this registry."""


class RegistryEndpoints:
    """Finds the URL of each registry. It is https:, unless a setting says otherwise or the host is loopback.

    ``only`` names the allowed registries. ``None``: all registries that the egress policy allows.
    """

    def __init__(
        self, settings: Mapping[str, RegistrySettings] | None = None, only: Collection[str] | None = None
    ) -> None:
        self._settings = {registry.lower(): setting for registry, setting in (settings or {}).items()}
        self._only = None if only is None else frozenset(registry.lower() for registry in only)

    def base(self, registry: str) -> str:
        """The part of the registry's URLs before ``/v2/``. Raises :class:`RegistryDeniedError` if it is not allowed."""
        if self._only is not None and registry.lower() not in self._only:
            raise RegistryDeniedError.of(registry, "the supernode's list of allowed registries does not include it")
        return f"{'http' if self.plain_http(registry) else 'https'}://{image.endpoint(registry)}"

    def plain_http(self, registry: str) -> bool:
        setting = self._settings.get(registry.lower())
        return setting.plain_http if setting is not None else _is_local(registry)

    def ca(self, registry: str) -> Path | None:
        setting = self._settings.get(registry.lower())
        return setting.ca if setting is not None else None

    @property
    def authorities(self) -> Mapping[str, Path]:
        return {registry: setting.ca for registry, setting in self._settings.items() if setting.ca is not None}

    def blob(self, repository: ImageRepository, digest: str) -> str:
        return f"{self.base(repository.registry)}/v2/{repository.name}/blobs/{digests.parse(digest)}"

    def repository_of(self, url: str) -> ImageRepository | None:
        """The repository in a ``url`` that :meth:`blob` made. ``None`` for any other URL."""
        match = _BLOB.fullmatch(url)
        if match is None:
            return None
        repository = ImageRepository(image.DOCKER_HUB if match[2] == _HUB else match[2], match[3])
        try:
            image.check_registry(repository.registry)
            image.check_repository(repository.name)
            return repository if self.blob(repository, match[4]) == url else None
        except (ValueError, RegistryDeniedError):
            return None


def listed(registries: str, authorities: str, *, only: bool) -> RegistryEndpoints:
    """Read the settings. Both are comma-separated: ``registries`` has names or URLs, ``authorities`` ``host=FILE``.

    ``only`` forbids all other registries. Raises :class:`ValueError`.
    """
    settings: dict[str, RegistrySettings] = {}
    for text in _parts(registries):
        scheme, mark, rest = text.rpartition("://")
        if scheme not in ("", "http", "https") or (mark and not scheme):
            raise ValueError(f"{text!r} is not a valid registry; use a name, https://host:port or http://host:port")
        settings[_registry(rest.rstrip("/"))] = RegistrySettings(plain_http=scheme == "http")
    for text in _parts(authorities):
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise ValueError(f"{text!r} is not a valid certificate authority; use HOST=FILE")
        registry = _registry(name)
        if settings.get(registry, RegistrySettings()).plain_http:
            raise ValueError(
                f"{registry!r} has a certificate authority, but is listed as plain http; list it as https://"
            )
        settings[registry] = RegistrySettings(ca=Path(path))
    if only and not settings:
        raise ValueError("--registries-only allows listed registries only, but none is listed")
    return RegistryEndpoints(settings, settings.keys() if only else None)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _registry(text: str) -> str:
    image.check_registry(text)
    return text.lower()


def _is_local(registry: str) -> bool:
    host = registry.rpartition("]")[0].lstrip("[") or registry.partition(":")[0]
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
