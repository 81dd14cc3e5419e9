"""Image references, read as containerd and Docker do: ``nginx`` is ``docker.io/library/nginx:latest``."""

import ipaddress
import re
from typing import Final, NamedTuple, Self

import msgspec

from pantala_protocol import digest as digests
from pantala_protocol.rules.fields import MAX_KEY

DOCKER_HUB: Final = "docker.io"
DOCKER_HUB_ALIAS: Final = "index.docker.io"
_DOCKER_HUB_HOST = "registry-1.docker.io"

_MAX_NAME = MAX_KEY - len("@sha512:") - 128
"""The most characters of a reference without its digest. With any digest, it must fit into messages and CRDs."""
_MAX_REPOSITORY = 255
_MAX_HOST = 253
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_REGISTRY = re.compile(rf"({_LABEL}(?:\.{_LABEL})*|\[([0-9A-Fa-f:]+)\])(?::([0-9]{{1,5}}))?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")


class ImageRepository(NamedTuple):
    """One repository of one registry."""

    registry: str
    """The registry, as in the names of images: ``docker.io``."""
    name: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.name}"


class ImageReference(msgspec.Struct, frozen=True):
    """An image in a registry. Either ``tag`` or ``digest`` is set."""

    registry: str
    """``host[:port]`` as in the names of images: ``docker.io``, never ``registry-1.docker.io``."""
    repository: str
    tag: str = ""
    digest: str = ""
    """``sha256:`` or ``sha512:`` of the index or the manifest."""

    @property
    def place(self) -> ImageRepository:
        """The repository of the image."""
        return ImageRepository(self.registry, self.repository)

    @property
    def name(self) -> str:
        """The name without tag and digest, as ``registry/repository``."""
        return str(self.place)

    @property
    def target(self) -> str:
        """The last part of the manifest's URL at the registry: the digest if it is set, else the tag."""
        return self.digest or self.tag

    def check_length(self) -> None:
        """Raise :class:`ValueError` if the reference is too long for a message, with a digest.

        With one such reference, a supernode would refuse the whole statement.
        """
        if len(self.name) + len(f":{self.tag}") > _MAX_NAME:
            raise ValueError(f"it has more than {_MAX_NAME} characters without its digest")

    def pinned(self, digest: str) -> Self:
        """The same name with ``digest`` instead of a tag. Raises :class:`ValueError` for an invalid digest."""
        return type(self)(self.registry, self.repository, digest=str(digests.parse(digest)))

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def parse(text: str) -> ImageReference:
    """Read a reference in any spelling that containerd accepts.

    Without tag and digest, the tag is ``latest``. Beside a digest, a tag is ignored. Raises :class:`ValueError`, also
    for digests other than SHA-2.
    """
    if _IMAGE_ID.fullmatch(text):
        raise ValueError(f"{text!r} is the ID of an image, which registries do not know. Give the image's name.")
    rest, at, digest = text.partition("@")
    if at:
        digest = str(digests.parse(digest))
    registry, rest = _split_registry(rest)
    repository, colon, tag = rest.partition(":")
    if colon:
        check_tag(tag)
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    check_registry(registry)
    check_repository(repository)
    return ImageReference(registry, repository, tag="" if digest else tag or "latest", digest=digest)


def check_registry(text: str) -> None:
    """Raise :class:`ValueError` unless ``text`` is a valid registry: ``host``, ``host:port``, IPv6 in brackets."""
    match = _REGISTRY.fullmatch(text)
    if match is None or len(match[1]) > _MAX_HOST or not _is_address(match[2]) or not _is_port(match[3]):
        raise ValueError(f"{text[:140]!r} is not a valid registry. Give host or host:port, without a scheme.")


def check_repository(text: str) -> None:
    """Raise :class:`ValueError` unless ``text`` is a valid repository."""
    if len(text) > _MAX_REPOSITORY or not _REPOSITORY.fullmatch(text):
        raise ValueError(
            f"{text[:140]!r} is not a valid repository. Give at most {_MAX_REPOSITORY} lower-case letters and digits, "
            "joined by '/', '-', '.', '_' or '__'."
        )


def check_tag(text: str) -> None:
    """Raise :class:`ValueError` unless ``text`` is a valid tag."""
    if not _TAG.fullmatch(text):
        raise ValueError(
            f"{text[:140]!r} is not a valid tag. Give 1 to 128 letters, digits, '_', '.' and '-'. "
            "The first one must not be '.' or '-'."
        )


def endpoint(registry: str) -> str:
    """The ``host[:port]`` that serves ``registry``. Only Docker Hub's host differs from the registry's name."""
    return _DOCKER_HUB_HOST if registry == DOCKER_HUB else registry.lower()


def _split_registry(text: str) -> tuple[str, str]:
    """Split ``text`` into registry and rest. The part before the first ``/`` is a registry if it looks like a host."""
    first, slash, rest = text.partition("/")
    if not slash or not (first == "localhost" or "." in first or ":" in first or first != first.lower()):
        return DOCKER_HUB, text
    return (DOCKER_HUB if first == DOCKER_HUB_ALIAS else first), rest


def _is_port(text: str | None) -> bool:
    return text is None or 0 < int(text) < 65536


def _is_address(text: str | None) -> bool:
    if text is None:
        return True
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
