"""Registries as containerd names them, and their directories below ``certs.d``."""

from dataclasses import dataclass

from pantala_process.settings import SettingsError, names_loopback
from pantala_protocol import image


@dataclass(frozen=True, slots=True)
class ContainerdRegistry:
    """A registry that containerd pulls from."""

    name: str
    """The host, as in the names of images: ``docker.io``, ``registry.example.com:5000``."""
    server: str
    """The registry's URL, for content that the mirror does not have."""

    @property
    def directories(self) -> tuple[str, ...]:
        """The registry's names below ``certs.d``. containerd reads only the first directory that exists."""
        host, colon, port = self.name.rpartition(":")
        if not colon or port.endswith("]"):
            return (self.name,)
        return (f"{host}_{port}_", self.name)


def parse_registry(text: str) -> ContainerdRegistry:
    """Read a URL or a host. A host means https, or http for this machine. Raises :class:`SettingsError`."""
    scheme, separator, name = text.rpartition("://")
    name = name.removesuffix("/")
    if (separator and scheme not in ("http", "https")) or not _is_registry(name):
        raise SettingsError(
            f"{text!r} is not a registry. Give a name like registry.example.com:5000 or a URL like http://10.0.0.5:5000"
        )
    if name == image.DOCKER_HUB_ALIAS:
        name = image.DOCKER_HUB
    if not separator:
        scheme = "http" if names_loopback(name) else "https"
    return ContainerdRegistry(name, f"{scheme}://{image.endpoint(name)}")


def _is_registry(name: str) -> bool:
    try:
        image.check_registry(name)
    except ValueError:
        return False
    return True
