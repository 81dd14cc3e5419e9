"""What a request asks for: the pull part of the OCI distribution API, as containerd speaks it to a mirror. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote

from pantala_peer.mirror.errors import MirrorError
from pantala_protocol import digest, image

_PATH = re.compile(r"/v2/(.+)/(manifests|blobs)/([^/]+)", re.ASCII)
_LONGEST = 1024
"""Characters of a path: a repository and a digest have some 400."""
_PROBE = "probe/"


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository of one registry."""

    registry: str
    """As images' names have it: ``docker.io``."""
    name: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.name}"


@dataclass(frozen=True, slots=True)
class Base:
    """``/v2/``, to see whether this is a registry."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index, by digest or by tag."""

    repository: Repository
    reference: str

    @property
    def by_tag(self) -> bool:
        """What it names may change."""
        return ":" not in self.reference


@dataclass(frozen=True, slots=True)
class Blob:
    """A config or a layer."""

    repository: Repository
    digest: str


Resource: TypeAlias = Base | Manifest | Blob


def parse(raw_path: str, registry: str) -> Resource:
    """Read a path, as it was sent, and containerd's ``ns``. Raises :class:`MirrorError` for what is no resource."""
    path = unquote(raw_path) if len(raw_path) <= _LONGEST else ""
    match = _PATH.fullmatch(path)
    if match is None and path not in ("/v2", "/v2/"):
        raise MirrorError("it is no path of a registry")
    try:
        image.check_registry(registry)
        return _read(Repository(registry, match[1]), match[2], match[3]) if match else Base()
    except ValueError as error:
        raise MirrorError(str(error)) from None


def _read(repository: Repository, kind: str, reference: str) -> Manifest | Blob:
    image.check_repository(repository.name)
    if kind == "blobs":
        return Blob(repository, str(digest.parse(reference)))
    if ":" in reference:
        digest.parse(reference)
    else:
        image.check_tag(reference)
    return Manifest(repository, reference)


def probed_node(raw_path: str) -> str | None:
    """Whose probe it is: a pull of ``localhost:PORT/probe/<node>:1``, which no registry has. ``None``: it is none."""
    match = _PATH.fullmatch(unquote(raw_path)) if len(raw_path) <= _LONGEST else None
    if match is None or not match[1].startswith(_PROBE) or match.group(2, 3) != ("manifests", "1"):
        return None
    return match[1].removeprefix(_PROBE)
