"""The HTTP interface by which peers and the operator ask registries through a supernode.

A peer sends ``GET /api/v1/registry/manifests?registry=&repository=&reference=[&order=]``. The answer is a
:class:`ManifestAnswer` with 200. ``order`` is the key of an ordered image. The supernode then uses that order's
credentials, but only for the image's own manifests.

A peer sends ``GET /api/v1/registry/blobs?registry=&repository=&digest=[&order=]`` for each client, before it sends the
client a byte of a blob. The supernode holds the request for some seconds, until it knows whether the client has a right
to the blob. The answer is a :class:`BlobAnswer` with 200.

The operator sends ``POST /api/v1/registry/resolve`` with a :class:`Resolve`. The answer is a :class:`Resolved` with
200, also if the registry rejects the request. Another status means that the registry's answer is not known.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pantala_protocol.images import ImageBlob
from pantala_protocol.rules import text

RESOLVE: Final = "/api/v1/registry/resolve"

PATH: Final = "/api/v1/registry/manifests"

BLOBS: Final = "/api/v1/registry/blobs"

AUTHORIZATION: Final = "X-Pantala-Registry-Authorization"
"""The header in which a peer passes on containerd's ``Authorization`` for the registry. It is a secret: never log or
store it, or send it to another host. The usual ``Authorization`` header has the peer's own token."""

MAX_MANIFEST: Final = 4 * 1024 * 1024
"""Bytes of a manifest, at most. Registries have the same limit."""


class ManifestAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A manifest or an index. ``body`` is empty if the client may not read the manifest, or if it does not exist."""

    digest: str = ""
    """The digest of ``body``."""
    media_type: str = ""
    body: bytes = b""
    challenges: tuple[str, ...] = ()
    """Without ``body``: the registry's ``WWW-Authenticate`` headers, unchanged (see
    :mod:`pantala_protocol.rules.headers`). Empty: the manifest does not exist."""


class BlobAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether a client may read a blob. Without ``generation``, the client may not read it, or not yet."""

    generation: str = ""
    """The generation of the blob's copy that the client may read."""
    seconds: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    """For how many seconds the client may begin to read the blob."""
    refused: bool = False
    """True if the same request within some minutes would have the same answer."""


class Resolve(msgspec.Struct, frozen=True, omit_defaults=True):
    """Asks for the present digest and the blobs of an image. The supernode asks the registry, not its cache."""

    image: str
    """The name of the image, with a tag or a digest."""
    platforms: tuple[str, ...]
    """The platforms whose blobs are requested, e.g. ``linux/amd64``."""
    credentials: tuple[str, ...] = ()
    """The texts of pull secrets (``.dockerconfigjson``), in the sequence in which to try them."""

    def __repr__(self) -> str:
        return f"<Resolve {self.image}>"


class Resolved(msgspec.Struct, frozen=True, omit_defaults=True):
    """A registry's answer about an image."""

    digest: str = ""
    """The digest of the index or manifest. Empty: not known, see ``reason``."""
    platforms: dict[str, tuple[ImageBlob, ...]] = {}
    """Configuration and layers by platform. A platform without the image has no entry."""
    reason: str = ""
    """Why the registry gave no answer, in CamelCase. Empty: the registry answered."""
    message: str = ""

    def __post_init__(self) -> None:
        text.clean_failure(self)
