"""What a peer asks its supernode of registries: ``GET /api/v1/registry/manifests?registry=&repository=&reference=``.

The answer is a :class:`ManifestAnswer` in JSON with 200, or an error as everywhere: nothing more is known then.
"""

from __future__ import annotations

from typing import Final

import msgspec

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
