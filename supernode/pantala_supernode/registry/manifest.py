"""What an image is made of: manifests and indexes of OCI and Docker's second schema. Pure."""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from pantala_protocol import digest as digests
from pantala_protocol.images import ImageBlob
from pantala_supernode.registry import platform
from pantala_supernode.registry.platform import Platform

MAX_SIZE: Final = 4 * 1024 * 1024
"""Bytes of a manifest; registries are told to take that many by the distribution specification."""

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
MEDIA_TYPES: Final = (DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX)
"""What is asked for, as ``Accept`` lists it."""

_UNSAID = frozenset({"", "application/json", "application/octet-stream", "text/plain"})
"""Content types of registries that do not say what they give."""
_MAX_LENGTH = (1 << 53) - 1


class IndexEntry(NamedTuple):
    """One of an index's manifests."""

    digest: str
    size: int
    platform: Platform | None


class ImageIndex(NamedTuple):
    """An image for several platforms."""

    media_type: str
    children: tuple[IndexEntry, ...]

    def choose(self, wanted: Platform) -> IndexEntry | None:
        """The manifest that a node of platform ``wanted`` takes; ``None`` if there is none."""
        return platform.choose(wanted, ((child.platform, child) for child in self.children))


class ImageManifest(NamedTuple):
    """An image for one platform."""

    media_type: str
    config: ImageBlob
    layers: tuple[ImageBlob, ...]

    @property
    def blobs(self) -> tuple[ImageBlob, ...]:
        """Config and layers, each once."""
        return tuple(dict.fromkeys((self.config, *self.layers)))


class _Platform(msgspec.Struct):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class _Descriptor(msgspec.Struct, rename="camel"):
    digest: str
    size: Annotated[int, Meta(ge=0, le=_MAX_LENGTH)]
    media_type: str = ""
    platform: _Platform | None = None


class _Document(msgspec.Struct, rename="camel"):
    schema_version: int = 0
    media_type: str = ""
    manifests: list[_Descriptor] | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None


_DECODER = msgspec.json.Decoder(_Document)


def media_type(content_type: str, body: bytes) -> str:
    """Which of :data:`MEDIA_TYPES` ``body`` is. Raises :class:`ValueError`."""
    return _kind(content_type, _decode(body))


def parse(content_type: str, body: bytes) -> ImageIndex | ImageManifest:
    """Read a manifest or an index. Raises :class:`ValueError` for what can be read in two ways, or in none."""
    document = _decode(body)
    kind = _kind(content_type, document)
    if kind in INDEXES:
        return ImageIndex(kind, tuple(_child(descriptor) for descriptor in document.manifests or ()))
    if document.config is None or document.layers is None:
        raise ValueError("has no config or no layers")
    blobs = _blobs([document.config, *document.layers])
    return ImageManifest(kind, blobs[0], blobs[1:])


def _decode(body: bytes) -> _Document:
    if len(body) > MAX_SIZE:
        raise ValueError(f"is larger than {MAX_SIZE} bytes")
    try:
        document = _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise ValueError("is no manifest in JSON") from None
    if document.schema_version != 2:
        raise ValueError("is not of schema version 2, and containerd takes no other")
    return document


def _kind(content_type: str, document: _Document) -> str:
    """What header and body agree on: the same bytes must not be an index to one reader and an image to another."""
    said = content_type.partition(";")[0].strip().lower()
    if said in _UNSAID:
        said = document.media_type
    if said not in MEDIA_TYPES:
        raise ValueError("is of a media type that is no image's")
    if document.media_type not in ("", said):
        raise ValueError("says another media type in its body than in its header")
    is_index = document.manifests is not None
    is_image = document.config is not None or document.layers is not None
    if (said in INDEXES) is not is_index or (said not in INDEXES) is not is_image:
        raise ValueError("is not what its media type says")
    return said


def _child(descriptor: _Descriptor) -> IndexEntry:
    words = descriptor.platform
    stated = None if words is None else platform.normal(words.os, words.architecture, words.variant)
    return IndexEntry(_digest(descriptor), descriptor.size, stated)


def _blobs(descriptors: list[_Descriptor]) -> tuple[ImageBlob, ...]:
    """The blobs, in order. One digest with two sizes is a lie about one of them."""
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
        raise ValueError(f"names {descriptor.digest[:140]!r}, which is no sha256: or sha512: digest") from None
