"""Images on nodes: what the operator wants pulled, what a supernode tells each node of it, what the nodes say.

The operator states all images to *every* supernode, and each relays to its peers what concerns them. So whichever
supernodes are away, a node hears its orders, and of two words the one with the greater revision holds. A node tells how
far it is to every supernode that it speaks with.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0, lt=1 << 53)]


class Depth(StrEnum):
    """How far an image goes."""

    RUNTIME = "Runtime"
    """Into the node's container runtime."""
    PEER = "Peer"
    """Its blobs into the peer's cache."""


class ImageBlob(msgspec.Struct, frozen=True):
    """A configuration or a layer, as the registry holds it."""

    digest: str
    size: Count


class PullOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one node shall do about one image: the pull of this number in this run, once; then keep it.

    An order that is no longer stated ends a pull that goes on.
    """

    run: str
    """Tells the orders of one run from those of others."""
    number: Count = 1
    """Of the pull in that run: a greater one asks for another try."""
    timeout: Count = 600
    """Seconds that the pull may take."""


class WantedImage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One image that nodes shall have."""

    key: str
    """Names it everywhere: ``namespace/name`` of its Task."""
    image: str
    """``registry/repository[:tag]@digest``. The digest says which image it is; with a tag, the runtime shall know it by
    ``registry/repository:tag``, too: pods ask by that name."""
    depth: Depth = Depth.RUNTIME
    pin: bool = False
    """The runtime shall keep it from the kubelet's clean-up while this is stated."""
    credentials: tuple[str, ...] = ()
    """Pull secrets (``.dockerconfigjson``), the first ones first. The supernode alone uses them, and keeps them in
    memory only; they go to the image's registry and to no peer."""
    blobs: dict[str, tuple[ImageBlob, ...]] = {}
    """At depth ``Peer``: what a node of each platform fetches."""
    platforms: dict[str, str] = {}
    """At depth ``Peer``: the platforms of the nodes in ``orders``."""
    orders: dict[str, PullOrder] = {}
    """By node."""

    def __repr__(self) -> str:
        return f"<WantedImage {self.key} {self.image}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("key", self.key), ("image", self.image)]


class NodeOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """One image that one node shall have."""

    key: str
    image: str
    """As in :class:`WantedImage`."""
    order: PullOrder
    depth: Depth = Depth.RUNTIME
    pin: bool = False
    blobs: tuple[ImageBlob, ...] = ()
    """At depth ``Peer``: what is to be fetched."""


class NodeOrders(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that a node shall do about images; what is not named is cut, or kept no longer."""

    revision: Count
    """Of the operator's statement that says so: of two, from whichever supernodes, the greater one holds."""
    pulls: tuple[NodeOrder, ...] = ()
    survey: tuple[str, ...] = ()
    """Digests of blobs of which the node shall say whether its runtime has them."""


class PullPhase(StrEnum):
    """How far an image is on a node."""

    PULLING = "Pulling"
    READY = "Ready"
    FAILED = "Failed"
    GONE = "Gone"
    """It was there, and nobody here removed it."""


class PullState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node says of one image that it was ordered to have."""

    phase: PullPhase
    since: Count
    """Seconds since the epoch, by the node's clock."""
    run: str = ""
    number: Count = 1
    """Of the order that this answers."""
    fetched: Count = 0
    """Bytes that came to the runtime (or the cache, at depth ``Peer``) for it in that pull."""
    reason: str = ""
    """Of a failure: CamelCase, as the runtime helper says it."""
    message: str = ""
    gone: tuple[Count, ...] = ()
    """When the runtime was found without it, oldest first; seconds since the epoch."""


class RuntimeState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node's container runtime, as its peer sees it."""

    name: str = ""
    version: str = ""
    """Both empty: it does not answer, or there is no helper that asks it."""
    mirror: bool | None = None
    """Whether it asks this node's mirror, as a pull of a name shows that only the mirror knows. ``None``: not known."""
    message: str = ""
    """Why it does not ask, or does not answer, and what to do."""
    pins: bool | None = None
    """Whether it honours pinning; ``None``: not seen yet."""
    disk_free: Count | None = None
    """Bytes of the file system that images are on, in steps of 64 MiB."""
    blobs: dict[str, bool] = {}
    """Of the digests that were asked for: whether the runtime has them."""
