"""A manifest or an index as a registry gave it, with its digest checked. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from pantala_protocol import digest as digests
from pantala_supernode.registry import manifest
from pantala_supernode.registry.errors import InvalidAnswerError, InvalidManifestError
from pantala_supernode.registry.manifest import ImageIndex, ImageManifest


@dataclass(frozen=True, slots=True)
class ManifestDocument:
    """A manifest's very bytes."""

    digest: str
    """Of ``body``; true."""
    media_type: str
    """One of :data:`pantala_supernode.registry.manifest.MEDIA_TYPES`."""
    body: bytes = field(repr=False)

    def parse(self, what: str) -> ImageIndex | ImageManifest:
        """What it says. Raises :class:`InvalidManifestError`."""
        try:
            return manifest.parse(self.media_type, self.body)
        except ValueError as error:
            raise InvalidManifestError.of(what, f"its manifest {error}") from None


def check(body: bytes, content_type: str, said: str, what: str) -> ManifestDocument:
    """The document in ``body`` if it has the digest that was ``said``; empty: whatever it has (sha256).

    Raises :class:`InvalidManifestError`.
    """
    expected = digests.parse(digest(said, what)) if said else None
    running = digests.new(expected.algorithm if expected else "sha256")
    running.update(body)
    found = f"{running.name}:{running.hexdigest()}"
    if expected is not None and found != str(expected):
        raise InvalidManifestError.of(what, f"its content has the digest {found}, not {expected}")
    try:
        return ManifestDocument(found, manifest.media_type(content_type, body), body)
    except ValueError as error:
        raise InvalidManifestError.of(what, f"its manifest {error}") from None


def digest(text: str, what: str) -> str:
    """The digest that a registry says. Raises :class:`InvalidAnswerError`."""
    try:
        return str(digests.parse(text.strip()))
    except ValueError:
        raise InvalidAnswerError.of(what, "the registry names what is no sha256: or sha512: digest") from None
