"""What a supernode is asked of registries.

A peer: ``GET /api/v1/registry/manifests?registry=&repository=&reference=[&order=]``, answered by a
:class:`ManifestAnswer` with 200. ``order`` is the key of an image that this node was ordered to pull: its own
credentials count, for its own digest and what that names.

The operator: ``POST /api/v1/registry/resolve`` with a :class:`Resolve`, answered by a :class:`Resolved` with 200, also
where the registry refuses. Any other status: nothing is known then.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pantala_protocol.images import ImageBlob

RESOLVE: Final = "/api/v1/registry/resolve"

PATH: Final = "/api/v1/registry/manifests"

AUTHORIZATION: Final = "X-Pantala-Registry-Authorization"
"""The header with the ``Authorization`` that containerd showed for the registry, word for word: a secret, not to be
logged, kept or shown to any host but the registry's own. ``Authorization`` itself says who the peer is."""

MAX_MANIFEST: Final = 4 * 1024 * 1024
"""Bytes of a manifest, as registries themselves have it."""


class ManifestAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A manifest or an index that the registry lets this client read; or, with no ``body``, that it does not."""

    digest: str = ""
    """Of ``body``."""
    media_type: str = ""
    body: bytes = b""
    challenges: tuple[str, ...] = ()
    """Without ``body``: the registry's own ``WWW-Authenticate`` headers, unchanged. None: it has no such manifest."""


class Resolve(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is this image now, and what is it made of? The registry is asked, whatever was remembered of a tag."""

    image: str
    """A normal reference, by tag or digest."""
    platforms: tuple[str, ...]
    """For which the blobs are wanted: ``linux/amd64``."""
    credentials: tuple[str, ...] = ()
    """Pull secrets (``.dockerconfigjson``), the first ones first."""

    def __repr__(self) -> str:
        return f"<Resolve {self.image}>"


class Resolved(msgspec.Struct, frozen=True, omit_defaults=True):
    """A registry's word on an image."""

    digest: str = ""
    """What the reference names: an index, or a manifest. Empty: it could not be told, for ``reason``."""
    platforms: dict[str, tuple[ImageBlob, ...]] = {}
    """Configuration and layers by platform; one that the image is not made for has no entry."""
    reason: str = ""
    """CamelCase, as the registry client's errors have it."""
    message: str = ""
