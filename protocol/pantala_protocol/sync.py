"""The exchange between a peer and a supernode: ``POST /api/v1/sync``, as a long poll that the peer repeats.

A peer combines its reports about pieces: it begins at most 15 exchanges a second, or fewer if the supernode demands. It
reports at once if it has hardly any piece left to fetch, or if a program waits. A peer with free download slots has one
exchange that the supernode holds until there is work. A newer exchange releases the held one with an empty answer.

If an exchange fails, the peer repeats it with the same ``seq`` and gets the same answer. Each field is a state or an
idempotent report, so exchanges may arrive twice or in another order.
"""

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from pantala_protocol.images import MAX_PULLS, NodeOrders, PullState, RuntimeState
from pantala_protocol.rules import text
from pantala_protocol.rules.fields import (
    UNKNOWN,
    Count,
    Id,
    Key,
    Name,
    Number,
    PieceNumber,
    PieceSize,
    Port,
    Slots,
    Url,
    WireWord,
)
from pantala_protocol.statement import Membership

MAX_ENTRIES: Final = 1 << 16
"""The most tasks, deliveries or failures in one exchange, because each costs the supernode time. A peer sends the rest
in later exchanges."""

_MANY = Meta(max_length=MAX_ENTRIES)


class HeldPieces(msgspec.Struct, frozen=True):
    """The pieces of one task that a peer holds."""

    generation: Id
    pieces: str
    """The verified pieces, as ranges such as ``"0-3,7"``."""


class PieceFailure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of the peer's work that the peer did not receive."""

    task_id: Id
    piece: PieceNumber
    provider: Key
    """The name of the peer or client that should have sent the piece. Empty: the supernode."""
    kind: Id
    """One of ``unreachable``, ``stalled``, ``missing``, ``refused``, ``corrupt``, ``local`` (the peer's own node)."""
    reason: str = ""
    """The node's own failure, as a :class:`~pantala_protocol.reasons.Reason`. Empty: none, or not known."""
    message: str = ""

    def __post_init__(self) -> None:
        text.clean_failure(self)


class DeliveryStatus(WireWord):
    """The status of a delivery on a node."""

    PUBLISHED = "Published"
    FAILED = "Failed"
    UNKNOWN = UNKNOWN
    """A status of a newer version: neither published nor failed."""


class DeliveryState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of a delivery. ``reason`` is a :class:`pantala_protocol.reasons.Reason`."""

    status: DeliveryStatus
    reason: str = ""
    message: str = ""
    path: Url = ""
    """The path that this state is about. The supernode ignores the state of a path that the Task no longer has."""

    def __post_init__(self) -> None:
        text.clean_failure(self)


class Delivery(msgspec.Struct, frozen=True, omit_defaults=True):
    """A Task resource that wants the file at a path."""

    uid: Id
    path: Url
    """The path of the file, relative to the folder of the peer's published files."""
    trace: Id = ""
    """The :attr:`~pantala_protocol.statement.WantedTask.trace` of the Task."""


class WantedBlob(msgspec.Struct, frozen=True, omit_defaults=True):
    """A blob that the node waits for. Its task ID is :func:`pantala_protocol.task_id.of_blob`.

    Only the supernode asks registries. It knows their addresses and protocols.
    """

    registry: Key
    """The registry, as names of images write it, such as ``docker.io``."""
    repository: Key
    digest: Id
    """The digest of the blob."""
    position: Count = 0
    """The first byte that the blob's readers still need. The supernode gives the piece with this byte first."""
    stalls: Count = 0
    """How often a reader has waited too long for the next piece, because its provider did not send it."""
    credential: str = ""
    """The runtime's ``Authorization`` header for this repository, unchanged. It is a secret. Empty: none."""
    order: Key = ""
    """The key of the ordered image, if an order needs the blob. Then the order's credentials are used."""

    def __repr__(self) -> str:
        return f"<WantedBlob {self.registry}/{self.repository}@{self.digest}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("digest", self.digest)]


class Assignment(msgspec.Struct, frozen=True, omit_defaults=True):
    """One task that the peer must hold."""

    task_id: Id
    generation: Id
    """The peer drops pieces of any other generation. Empty: not known yet, so the peer keeps all pieces."""
    piece_size: PieceSize = 0
    length: Count | None = None
    digest: Id = ""
    """``sha256:`` of the file. Empty until the supernode has the whole file; until then no file is published."""
    deliveries: tuple[Delivery, ...] = ()
    priority: Number = 0


class SyncRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A peer's request in an exchange: what changed on its node since the last exchange."""

    peer: Name
    """The name of the peer, which is the name of its node."""
    boot: Id
    """A random ID of the peer's process."""
    seq: Count
    supernode: Id = ""
    """The boot ID in the supernode's last answer. Empty: the peer has received no answer yet."""
    revision: Count = 0
    """The revision of the assignments in force. 0: none."""
    port: Port = 0
    """The port of the peer's piece server. Its address is the source address of the connection."""
    zone: str = ""
    version: str = ""
    inventory: Annotated[dict[Id, HeldPieces], _MANY] | None = None
    """All pieces that the peer holds, by task ID. The peer sends them in its first exchange, on request, and after it
    lost pieces. The supernode answers at once, because the peer begins no other exchange before the answer."""
    done: Annotated[dict[Id, HeldPieces], _MANY] = {}
    """Pieces that were verified since the last exchange, by task ID."""
    failures: Annotated[tuple[PieceFailure, ...], _MANY] = ()
    deliveries: Annotated[dict[Id, DeliveryState | None], _MANY] = {}
    """States that changed since the last exchange, by UID. With ``inventory``: all. ``None``: no longer published."""
    wants: Annotated[dict[Id, WantedBlob], _MANY] = {}
    """All blobs that this supernode owns and the node waits for now, by task ID. The exchange with the greatest ``seq``
    counts."""
    images: Count = 0
    """The revision of the orders about images in force. 0: none."""
    pulls: Annotated[dict[Key, PullState], Meta(max_length=MAX_PULLS)] | None = None
    """The states of all ordered images, by key. ``None``: unchanged."""
    runtime: RuntimeState | None = None
    """The state of the node's container runtime. ``None``: unchanged since the last exchange."""
    uploads: Count = 0
    """The number of pieces that the peer sends now."""
    cache_bytes: Count = 0
    downloads: Slots = 4
    """The most pieces that the peer fetches at the same time."""
    upload_slots: Slots = 4
    """The most pieces that the peer sends at the same time."""
    window: Slots = 0
    """The most unfinished pieces that the peer can use. It grows with the peer's speed. 0: as many as ``downloads``."""
    clock: Count = 0
    """The node's time when the request was made, in seconds since the epoch. 0: not reported."""
    blake3: bool = False
    """True if the peer knows BLAKE3. A peer of the former version needs ``sha256`` in its work."""
    leaving: bool = False
    """The peer's process ends: the supernode gives it no work, and no longer uses it as a provider."""

    def __post_init__(self) -> None:
        text.clean_fields(self, zone=text.NAME, version=text.LABEL)


class PieceWork(msgspec.Struct, frozen=True, omit_defaults=True):
    """One piece to fetch, with its digest and its provider."""

    task_id: Id
    generation: Id
    piece: PieceNumber
    offset: Count
    size: PieceSize
    host: Name
    port: Port
    ticket: Url
    provider: Key = ""
    """The provider's name, for the report of a failure. Empty: the supernode."""
    certificate: Name = ""
    """The name in the supernode's certificate, if it is the provider. Empty: a peer provides the piece, or no TLS."""
    path: Url = ""
    """The path at which a client of Dragonfly serves the wrapped piece. Empty: the provider is a peer or supernode."""
    wire_size: PieceSize = 0
    """The size of a full wrapped piece in bytes, if ``path`` is set."""
    content: bytes | None = None
    """The bytes of the piece, if it is the whole of a small file. ``None``: fetch the piece from its provider."""
    digest: Id = ""
    """The BLAKE3 digest of the piece in hex. Empty: the supernode is of the former version."""
    sha256: Id = ""
    """The SHA-256 of the piece in hex, if the supernode or the peer is of the former version."""


class SyncAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The supernode's answer: keys, assignments, work and orders."""

    supernode: Id
    """The boot ID of the supernode's process."""
    seq: Count
    key: Id = ""
    """The hex key that the peer checks tickets with."""
    inventory_wanted: bool = False
    revision: Count = 0
    assignments: tuple[Assignment, ...] | None = None
    """All tasks of this supernode that the peer must hold. ``None``: unchanged since the request's ``revision``."""
    work: tuple[PieceWork, ...] = ()
    membership: Membership | None = None
    """Sent with assignments: the replicas with which the peer must have sessions. ``None``: only this supernode."""
    images: NodeOrders | None = None
    """All orders about images. ``None``: they are unchanged, or the supernode does not know them yet."""
    pace: Annotated[float, Meta(ge=0, le=10)] = 0.0
    """The least seconds between two exchanges that only report pieces. Less than the peer's own interval: no limit."""
