"""The endpoints (base URLs) at which each registry is reached, and whether they have TLS. Pure.

A registry has one name, which image names, pull secrets and blobs use. Its endpoints may be on other hosts.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pantala_process.settings import names_loopback
from pantala_protocol import digest as digests
from pantala_protocol import image
from pantala_protocol.image import ImageRepository
from pantala_supernode.registry.errors import RegistryDeniedError

_BLOB = re.compile(r"(https?)://([^/@?#]+)/v2/([^?#]+)/blobs/(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})")
_CONTENT = re.compile(r"(https?)://([^/@?#]+)/v2/([^?#]+)/(?:manifests|blobs)/[^/?#]+")
_HUB = image.endpoint(image.DOCKER_HUB)


class RegistryEndpoint(NamedTuple):
    """One URL at which a registry is reached."""

    root: str
    """The part of its URLs before ``/`` and a repository's name, for example ``https://ghcr.io/v2``."""
    ca: Path | None = None
    """A file with an additional certificate authority for the endpoint. ``None``: only the usual authorities."""
    realms: tuple[str, ...] = ()
    """Token servers that may receive the registry's passwords, in addition to the endpoint's host: ``host[:port]``."""

    @property
    def plain_http(self) -> bool:
        return self.root.startswith("http://")

    @property
    def host(self) -> str:
        """``host[:port]``, as in the URL."""
        return self.root.partition("://")[2].partition("/")[0]

    @property
    def prefix(self) -> str:
        """What precedes a repository's name at this endpoint: the path of :attr:`root` after ``/v2/``."""
        _, mark, rest = f"{self.root}/".partition("://")[2].partition("/v2/")
        return rest if mark else ""


class RepositoryLocation(NamedTuple):
    """A repository at one endpoint of its registry."""

    repository: ImageRepository
    endpoint: RegistryEndpoint
    mapped: bool = False
    """True if an administrator chose the endpoint."""

    def __str__(self) -> str:
        return f"{self.repository} at {self.endpoint.root}" if self.mapped else str(self.repository)

    @property
    def name(self) -> str:
        """The repository's name at the endpoint, as its token server knows it."""
        return self.endpoint.prefix + self.repository.name

    def manifest(self, target: str) -> str:
        return f"{self.endpoint.root}/{self.repository.name}/manifests/{target}"

    def blob(self, digest: str) -> str:
        return f"{self.endpoint.root}/{self.repository.name}/blobs/{digest}"


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """An administrator's settings for one registry."""

    plain_http: bool | None = False
    """True if the registry has no TLS, so its passwords cross the network in clear text. ``None``: not set."""
    ca: Path | None = None
    """A file with an additional certificate authority for this registry."""
    endpoints: tuple[RegistryEndpoint, ...] = ()
    """Other URLs at which the registry is reached, in the order to try them. They make ``ca`` and ``plain_http``
    ineffective. Empty: the registry is reached at its own name."""
    realms: tuple[str, ...] = ()
    """As :attr:`RegistryEndpoint.realms`, if there are no :attr:`endpoints`."""


class RegistryEndpoints:
    """Finds the endpoints of each registry. They have https:, unless a setting differs or the host is loopback.

    ``only`` names the allowed registries. ``None``: all registries that the egress policy allows.
    """

    def __init__(
        self, settings: Mapping[str, RegistrySettings] | None = None, only: Collection[str] | None = None
    ) -> None:
        self._settings = {registry.lower(): setting for registry, setting in (settings or {}).items()}
        self._only = None if only is None else frozenset(registry.lower() for registry in only)

    def base(self, registry: str) -> str:
        """The URL before ``/v2/`` for a registry's name. Raises :class:`RegistryDeniedError` if it is not allowed."""
        if self._only is not None and registry.lower() not in self._only:
            raise RegistryDeniedError.of(registry, "the supernode's list of allowed registries does not include it")
        return f"{'http' if self._plain_http(registry) else 'https'}://{image.endpoint(registry)}"

    def locations(self, repository: ImageRepository) -> tuple[RepositoryLocation, ...]:
        """The locations of a repository, in the order to try them. Raises :class:`RegistryDeniedError`."""
        base = self.base(repository.registry)
        setting = self._settings.get(repository.registry.lower(), RegistrySettings())
        if setting.endpoints:
            return tuple(RepositoryLocation(repository, endpoint, mapped=True) for endpoint in setting.endpoints)
        return (RepositoryLocation(repository, RegistryEndpoint(f"{base}/v2", setting.ca, setting.realms)),)

    @property
    def listed(self) -> frozenset[str]:
        """``host[:port]`` of all endpoints in the settings, and of their token servers."""
        hosts: set[str] = set()
        for registry, setting in self._settings.items():
            hosts.update([each.host for each in setting.endpoints] or [image.endpoint(registry)])
            hosts.update(setting.realms, *(each.realms for each in setting.endpoints))
        return frozenset(hosts)

    @property
    def authorities(self) -> frozenset[Path]:
        """The files of all certificate authorities in the settings."""
        found = {setting.ca for setting in self._settings.values()}
        found |= {endpoint.ca for setting in self._settings.values() for endpoint in setting.endpoints}
        return frozenset(ca for ca in found if ca is not None)

    def blob(self, repository: ImageRepository, digest: str) -> str:
        """The URL that names a blob. It is the same for all endpoints. Raises :class:`RegistryDeniedError`."""
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

    def forwarded(self, url: str) -> RepositoryLocation | None:
        """The place of a manifest or blob at ``url``, to which another registry redirects. ``None``: no such place.

        Some registries only forward to another registry, for example lscr.io to ghcr.io.
        """
        match = _CONTENT.fullmatch(url)
        if match is None:
            return None
        repository = ImageRepository(match[2], match[3])
        try:
            image.check_registry(repository.registry)
            image.check_repository(repository.name)
            self.base(repository.registry)
        except (ValueError, RegistryDeniedError):
            return None
        return RepositoryLocation(repository, RegistryEndpoint(f"{match[1]}://{match[2]}/v2"))

    def _plain_http(self, registry: str) -> bool:
        setting = self._settings.get(registry.lower())
        stated = setting.plain_http if setting is not None else None
        return names_loopback(registry) if stated is None else stated
