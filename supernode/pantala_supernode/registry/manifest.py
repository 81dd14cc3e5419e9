"""Reads image manifests and indexes, of OCI and of Docker's schema 2, and checks their digests. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from pantala_protocol import digest as digests
from pantala_protocol.images import ImageBlob
from pantala_protocol.rules import foreign
from pantala_supernode.registry import platform
from pantala_supernode.registry.errors import InvalidAnswerError, InvalidManifestError
from pantala_supernode.registry.platform import Platform

MAX_SIZE: Final = 4 * 1024 * 1024
"""The largest manifest in bytes. The OCI distribution specification wants registries to accept this size."""

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
MEDIA_TYPES: Final = (DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX)
"""The supported media types, in the order of the ``Accept`` header."""

_GENERIC = frozenset({"", "application/json", "application/octet-stream", "binary/octet-stream", "text/plain"})
"""Content types that say nothing about the content. With these, the fields of the body show the kind of manifest."""
_OWN_OS = "linux"
"""The system of an entry that states none. containerd takes the system on which it runs, and peers run on Linux."""
_MAX_LENGTH = (1 << 53) - 1
_MOST_ENTRIES = 1000
"""The most manifests in an index, and layers of an image. 36,000 fit into 4 MiB, and reading them takes 0.1 s."""


class IndexEntry(NamedTuple):
    """One manifest that an index lists."""

    digest: str
    size: int
    platform: Platform | None
    nested: bool = False
    """True if the index calls it an index, too."""


class ImageIndex(NamedTuple):
    """An image for several platforms."""

    media_type: str
    children: tuple[IndexEntry, ...]

    def choose(self, wanted: Platform) -> IndexEntry | None:
        return platform.choose(wanted, ((child.platform, child) for child in self.children))

    def lists(self, digest: str) -> bool:
        return any(child.digest == digest for child in self.children)


class ImageManifest(NamedTuple):
    """An image for one platform."""

    media_type: str
    config: ImageBlob
    layers: tuple[ImageBlob, ...]

    @property
    def blobs(self) -> tuple[ImageBlob, ...]:
        return tuple(dict.fromkeys((self.config, *self.layers)))


@dataclass(frozen=True, slots=True)
class ManifestDocument:
    """The exact bytes of a manifest or an index, with their digest."""

    digest: str
    media_type: str
    """One of :data:`MEDIA_TYPES`."""
    body: bytes = field(repr=False)

    @property
    def memory(self) -> int:
        """About how many bytes of memory the document takes."""
        return len(self.body) + 512

    @classmethod
    def checked(cls, body: bytes, content_type: str, expected: str | None, what: str) -> ManifestDocument:
        """Check that ``body`` has the digest ``expected``. ``None``: no check, and the digest is the body's sha256.

        ``what`` names the image in errors. Raises :class:`InvalidManifestError`.
        """
        wanted = digests.parse(checked_digest(expected, what)) if expected else None
        running = digests.new(wanted.algorithm if wanted else "sha256")
        running.update(body)
        found = f"{running.name}:{running.hexdigest()}"
        if wanted is not None and found != str(wanted):
            raise InvalidManifestError.of(what, f"its content has the digest {found}, not {wanted}")
        try:
            return cls(found, media_type(content_type, body), body)
        except ValueError as error:
            raise InvalidManifestError.of(what, f"its manifest {error}") from None

    def parse(self, what: str) -> ImageIndex | ImageManifest:
        """The parsed manifest. ``what`` names the image in errors. Raises :class:`InvalidManifestError`."""
        try:
            return parse(self.media_type, self.body)
        except ValueError as error:
            raise InvalidManifestError.of(what, f"its manifest {error}") from None


class _Platform(msgspec.Struct):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class _Descriptor(msgspec.Struct, rename="camel"):
    digest: str
    size: Annotated[int, Meta(ge=0, le=_MAX_LENGTH)]
    media_type: str = ""
    platform: _Platform | None = None


class _Content(msgspec.Struct, rename="camel"):
    schema_version: int | None = None
    """``None``: not stated. As in containerd, the media type then shows the kind of manifest."""
    media_type: str = ""
    manifests: list[_Descriptor] | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None


def checked_digest(text: str, what: str) -> str:
    """Check a digest that a registry reports. Raises :class:`InvalidAnswerError`."""
    try:
        return str(digests.parse(text.strip()))
    except ValueError:
        raise InvalidAnswerError.of(what, "the registry reports an invalid digest (not sha256: or sha512:)") from None


def media_type(content_type: str, body: bytes) -> str:
    """The media type of ``body``, one of :data:`MEDIA_TYPES`. Raises :class:`ValueError`."""
    return _kind(content_type, _decode(body))


def parse(content_type: str, body: bytes) -> ImageIndex | ImageManifest:
    """Read a manifest or an index. Raises :class:`ValueError` if it is invalid or ambiguous."""
    content = _decode(body)
    kind = _kind(content_type, content)
    if kind in INDEXES:
        return ImageIndex(kind, tuple(_entry(descriptor) for descriptor in content.manifests or ()))
    if content.config is None:
        raise ValueError("has no config")
    blobs = _blobs([content.config, *(content.layers or ())])
    return ImageManifest(kind, blobs[0], blobs[1:])


def _decode(body: bytes) -> _Content:
    if len(body) > MAX_SIZE:
        raise ValueError(f"is larger than {MAX_SIZE} bytes")
    try:
        content = foreign.read(body, _Content)
    except ValueError:
        raise ValueError("is not a valid manifest in JSON") from None
    if content.schema_version not in (None, 2):
        raise ValueError("does not have schema version 2, the only one that containerd accepts")
    if max(len(content.manifests or ()), len(content.layers or ())) > _MOST_ENTRIES:
        raise ValueError(f"lists more than {_MOST_ENTRIES} manifests or layers")
    return content


def _kind(content_type: str, content: _Content) -> str:
    """The media type: from the header, or from the body, or else OCI's type for the fields of the body.

    As in containerd, header and body may name different types, of OCI and of Docker. But if only the header or
    only the body names an index, the manifest is ambiguous. If the header names another type, for example schema 1 or
    a web page, the type in the body counts. Raises :class:`ValueError`.
    """
    is_index = content.manifests is not None
    is_image = content.config is not None or content.layers is not None
    kind = content_type.partition(";")[0].strip().lower()
    if kind in _GENERIC or (kind not in MEDIA_TYPES and content.media_type in MEDIA_TYPES):
        kind = content.media_type or (OCI_INDEX if is_index else OCI_MANIFEST)
    if kind not in MEDIA_TYPES:
        raise ValueError("has a media type that is not supported")
    if content.media_type in MEDIA_TYPES and (content.media_type in INDEXES) is not (kind in INDEXES):
        raise ValueError("has two media types: of the header and the body, only one names an index")
    if (kind in INDEXES) is not is_index or (kind not in INDEXES) is not is_image:
        raise ValueError("has the fields of an index and the media type of an image, or the reverse")
    return kind


def _entry(descriptor: _Descriptor) -> IndexEntry:
    given = descriptor.platform
    stated = None if given is None else platform.normal(given.os or _OWN_OS, given.architecture, given.variant)
    return IndexEntry(_digest(descriptor), descriptor.size, stated, descriptor.media_type in INDEXES)


def _blobs(descriptors: list[_Descriptor]) -> tuple[ImageBlob, ...]:
    """The blobs, in order. Raises :class:`ValueError` for a digest with two different sizes."""
    sizes: dict[str, int] = {}
    for descriptor in descriptors:
        digest = _digest(descriptor)
        if sizes.setdefault(digest, descriptor.size) != descriptor.size:
            raise ValueError(f"gives two sizes for {digest}")
    return tuple(ImageBlob(descriptor.digest, descriptor.size) for descriptor in descriptors)


def _digest(descriptor: _Descriptor) -> str:
    try:
        return str(digests.parse(descriptor.digest))
    except ValueError:
        raise ValueError(f"contains an invalid digest (not sha256: or sha512:): {descriptor.digest[:140]!r}") from None
