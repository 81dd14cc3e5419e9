"""Images on nodes: the operator's wanted images, the orders for each node, and the reports of nodes.

The operator sends all images to *every* supernode, and each supernode passes them on to its peers. So a node receives
its orders even if some supernodes do not answer. The orders with the greatest revision are in force. A node reports to
every supernode with which it has a session.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from pantala_protocol.rules import text
from pantala_protocol.rules.fields import UNKNOWN, Count, Id, Key, SmallCount, WireWord

MAX_PULLS: Final = 8192
"""The most images of which a node can report the states."""
MAX_SURVEY: Final = 1 << 16
"""The most blobs of a survey on which a node can report."""
Digest = Annotated[str, Meta(max_length=135)]
"""The digest of a blob, as text. The longest has ``sha512:`` and 128 digits."""


class Depth(WireWord):
    """How far the nodes must bring an ordered image."""

    RUNTIME = "Runtime"
    """Into the node's container runtime."""
    PEER = "Peer"
    """Only into the peer's cache, as blobs."""
    UNKNOWN = UNKNOWN
    """A depth of a newer version. This version cannot carry out the order."""


class ImageBlob(msgspec.Struct, frozen=True):
    """A configuration or a layer in the registry."""

    digest: Id
    size: Count


class PullOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """An order to a node: pull the image once for each pair of ``run`` and ``number``, and then keep it.

    When a statement no longer contains the order, a running pull is cancelled.
    """

    run: Id
    """The ID of the ImagePrefetch's run."""
    number: Count = 1
    """The number of the pull in that run. A greater one asks for another attempt."""
    timeout: Count = 600
    """Seconds that the pull may take."""


class OrderGroup(msgspec.Struct, frozen=True):
    """The nodes that have the same order."""

    order: PullOrder
    nodes: str
    """Ranges of positions in :attr:`pantala_protocol.statement.Statement.nodes`."""


class WantedImage(msgspec.Struct, frozen=True, omit_defaults=True):
    """One image that nodes must have."""

    key: Key
    """``namespace/name`` of its Task. It identifies the image everywhere."""
    image: Key
    """``registry/repository[:tag]@digest``. The digest identifies the image. With a tag, the runtime must also know it
    as ``registry/repository:tag``, because pods use that name."""
    depth: Depth = Depth.RUNTIME
    pin: bool = False
    """True if the runtime must protect the image from the kubelet's garbage collection."""
    credentials: tuple[str, ...] = ()
    """The texts of pull secrets (``.dockerconfigjson``), in the sequence in which to try them. Only the supernode uses
    them, for the image's registry. It keeps them in memory only, and does not send them to peers. Empty in a message
    that has ``secrets`` instead."""
    secrets: tuple[SmallCount, ...] = ()
    """The positions of the pull secrets in :attr:`pantala_protocol.statement.Statement.pull_secrets`."""
    blobs: dict[str, tuple[ImageBlob, ...]] = {}
    """The image's blobs by platform. Only at depth ``Peer``, else empty."""
    platforms: dict[str, str] = {}
    """The platform of each node in ``orders``. Only at depth ``Peer``, else empty."""
    orders: dict[str, PullOrder] = {}
    """The orders to pull the image, by the node's name. Empty in a message with numbers."""
    order_groups: tuple[OrderGroup, ...] = ()
    """The same orders in a message with numbers."""
    platform_nodes: dict[str, str] = {}
    """The nodes of each platform in a message with numbers: ``platforms`` the other way round."""

    def __repr__(self) -> str:
        return f"<WantedImage {self.key} {self.image}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("key", self.key), ("image", self.image)]


class NodeOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """One image that one node must have."""

    key: Key
    image: Key
    """The image, in the form of :attr:`WantedImage.image`."""
    order: PullOrder
    depth: Depth = Depth.RUNTIME
    pin: bool = False
    blobs: tuple[ImageBlob, ...] = ()
    """The blobs that the peer must fetch. Only at depth ``Peer``, else empty."""


class NodeOrders(msgspec.Struct, frozen=True, omit_defaults=True):
    """All orders for a node about images. Other pulls are cancelled, and their images are not kept."""

    revision: Count
    """The revision of the operator's statement. If supernodes send different revisions, the greatest is in force."""
    pulls: tuple[NodeOrder, ...] = ()
    survey: tuple[str, ...] = ()
    """Digests of blobs. The node must report which of them its runtime has."""
    unchanged: tuple[Key, ...] = ()
    """Keys of images whose former orders stay, if the node has any. The supernode does not know these orders."""


class PullPhase(WireWord):
    """How far a node is with an ordered image."""

    PULLING = "Pulling"
    READY = "Ready"
    FAILED = "Failed"
    GONE = "Gone"
    """The image was ready, and then something other than the peer has removed it from the node."""
    UNKNOWN = UNKNOWN
    """A phase of a newer version. It counts as ``PULLING``."""


class PullState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node's report about one ordered image."""

    phase: PullPhase
    since: Count
    """When the phase began, in seconds since the epoch by the node's clock."""
    run: Id = ""
    number: Count = 1
    """The :attr:`PullOrder.number` that this report is about."""
    fetched: Count = 0
    """Bytes that the runtime (or the cache, at depth ``Peer``) has received in this pull."""
    reason: str = ""
    """The reason of the last failure, in CamelCase. Empty: none."""
    message: str = ""
    gone: Annotated[tuple[Count, ...], Meta(max_length=1000)] = ()
    """When the peer found the image missing, oldest first, in seconds since the epoch."""

    def __post_init__(self) -> None:
        text.clean_failure(self)


class RuntimeState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node's container runtime, as its peer reports it."""

    name: str = ""
    version: str = ""
    """``name`` and ``version`` are empty if the runtime does not answer, or if the node has no runtime helper."""
    mirror: bool | None = None
    """True if a test pull has reached this node's mirror. ``None``: not known."""
    message: str = ""
    """Why the runtime does not use the mirror or does not answer, and what to do."""
    pins: bool | None = None
    """True if the runtime protects pinned images. ``None``: not known yet."""
    disk_free: Count | None = None
    """Free bytes on the images' file system, in steps of 64 MiB."""
    blobs: Annotated[dict[Digest, bool], Meta(max_length=MAX_SURVEY)] = {}
    """Whether the runtime has the blob, for each digest in :attr:`NodeOrders.survey`."""

    def __post_init__(self) -> None:
        text.clean_fields(self, name=text.NAME, version=text.NAME, message=text.MESSAGE)
