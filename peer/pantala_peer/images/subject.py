"""The image of an order, read. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pantala_peer.images.errors import BadOrderError
from pantala_peer.mirror.resource import Repository
from pantala_protocol import image as images


@dataclass(frozen=True, slots=True)
class Subject:
    """``registry/repository[:tag]@digest``."""

    repository: Repository
    pinned: str
    """``registry/repository@digest``."""
    tagged: str
    """``registry/repository:tag``; empty: no tag is wanted."""


def read(text: str) -> Subject:
    """Read an order's image. Raises :class:`BadOrderError`."""
    try:
        reference = images.parse(text)
        name = text.partition("@")[0]
        tagged = str(images.parse(name)) if ":" in name.rpartition("/")[2] else ""
    except ValueError as error:
        raise BadOrderError(f"{error}; correct the image's name") from None
    if not reference.digest:
        raise BadOrderError(f"{text[:140]!r} says no digest: update the operator, or look at its log")
    return Subject(Repository(reference.registry, reference.repository), str(reference), tagged)
