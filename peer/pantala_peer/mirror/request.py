"""Parses containerd's requests to the mirror: the part of the OCI distribution API for pulls. Pure."""

import re
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

from pantala_peer.mirror.errors import MirrorError
from pantala_protocol import digest, image
from pantala_protocol.image import ImageRepository

_PATH = re.compile(r"/v2/(.+)/(manifests|blobs)/([^/]+)", re.ASCII)
_RANGE = re.compile(r"bytes[ \t]*=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.ASCII | re.IGNORECASE)
_MAX_PATH = 1024
"""The longest path in characters. A path with a repository and a digest has at most about 400 characters."""
_PROBE = "probe/"


@dataclass(frozen=True, slots=True)
class ManifestRequest:
    """A request for a manifest or an index, by digest or by tag."""

    repository: ImageRepository
    reference: str

    @property
    def by_tag(self) -> bool:
        return ":" not in self.reference


@dataclass(frozen=True, slots=True)
class BlobRequest:
    """A request for a blob: a configuration or a layer."""

    repository: ImageRepository
    digest: str


MirrorRequest: TypeAlias = ManifestRequest | BlobRequest | None
"""A parsed request. ``None`` is a request for ``/v2/``, which checks that a server is a registry."""


def parse_path(raw_path: str, registry: str) -> MirrorRequest:
    """Parse a percent-encoded path. ``registry`` is containerd's query ``ns``. Raises :class:`MirrorError`."""
    path = unquote(raw_path) if len(raw_path) <= _MAX_PATH else ""
    match = _PATH.fullmatch(path)
    if match is None and path not in ("/v2", "/v2/"):
        raise MirrorError("the request's path is not in the API of registries; use /v2/ and its subpaths")
    try:
        image.check_registry(registry)
        return _read(ImageRepository(registry, match[1]), match[2], match[3]) if match else None
    except ValueError as error:
        raise MirrorError(str(error)) from None


def _read(repository: ImageRepository, kind: str, reference: str) -> ManifestRequest | BlobRequest:
    image.check_repository(repository.name)
    if kind == "blobs":
        return BlobRequest(repository, str(digest.parse(reference)))
    if ":" in reference:
        digest.parse(reference)
    else:
        image.check_tag(reference)
    return ManifestRequest(repository, reference)


class ProbeResult(NamedTuple):
    """A probe that reached the mirror. It shows that containerd uses the peer's ``hosts.toml``.

    A probe is a pull of an image that does not exist. The mirror answers 404.
    """

    node: str
    """The node's name in the request."""
    at: float
    """Monotonic seconds."""


def probed_node(raw_path: str) -> str | None:
    """The node in the path of a probe. ``None`` for other requests.

    A probe is a pull of ``localhost:PORT/probe/<node>:1``. This image does not exist.
    """
    match = _PATH.fullmatch(unquote(raw_path)) if len(raw_path) <= _MAX_PATH else None
    if match is None or not match[1].startswith(_PROBE) or match.group(2, 3) != ("manifests", "1"):
        return None
    return match[1].removeprefix(_PROBE)


class ByteRange(NamedTuple):
    """The bytes ``[start, end)``."""

    start: int
    end: int


class UnsatisfiableError(ValueError):
    """The content does not have any of the requested bytes."""


def parse_range(header: str | None, length: int) -> ByteRange | None:
    """Parse a ``Range`` header (RFC 9110, section 14). ``None`` means the whole content, also for an invalid header.

    Several ranges at once also mean the whole content, as the RFC permits. Raises :class:`UnsatisfiableError`.
    """
    match = _RANGE.fullmatch(header) if header else None
    if match is None or match.group(1, 2) == ("", ""):
        return None
    first, last = match.group(1, 2)
    if not first:
        start, end = max(0, length - int(last)), length
    else:
        start, end = int(first), min(int(last) + 1, length) if last else length
        if last and int(last) < start:
            return None
    if start >= end:
        raise UnsatisfiableError(f"the requested range has none of the blob's {length} bytes")
    return ByteRange(start, end)
