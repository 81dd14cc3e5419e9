"""What a peer and its supernode say to each other: ``POST /api/v1/sync``, repeated, held open while there is nothing.

The peer has at most two exchanges under way: a held one, and a newer one that carries news; the newer one releases the
held one with an empty answer. An exchange whose answer was lost is repeated with the same ``seq`` and gets the same
answer. Everything stated is a state or an idempotent report, so that order and repetition do no harm.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from pantala_protocol.images import NodeOrders, PullState, RuntimeState
from pantala_protocol.statement import Membership

Count = Annotated[int, Meta(ge=0, lt=1 << 53)]
"""What every JSON reader takes for the same whole number (RFC 8259, section 6)."""
Port = Annotated[int, Meta(ge=0, lt=1 << 16)]


class Held(msgspec.Struct, frozen=True):
    """What a peer holds of one task."""

    generation: str
    pieces: str
    """Verified pieces, as ranges."""


class PieceFailure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece that was given and could not be had."""

    task_id: str
    piece: Count
    provider: str
    """The peer's name; empty: the supernode."""
    kind: str
    """``unreachable``, ``stalled``, ``missing``, ``refused``, ``corrupt``, ``local`` (its own disk)."""


class DeliveryStatus(StrEnum):
    """How far one delivery is on a node."""

    PUBLISHED = "Published"
    FAILED = "Failed"


class DeliveryState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of a delivery; ``reason`` is a :class:`pantala_protocol.reasons.Reason`."""

    status: DeliveryStatus
    reason: str = ""
    message: str = ""
    path: str = ""
    """Of which the state speaks: that of a former path says nothing about the present one."""


class Delivery(msgspec.Struct, frozen=True):
    """One Task resource wants the file at one path."""

    uid: str
    path: str
    """Relative to the peer's root."""


class Wanted(msgspec.Struct, frozen=True, omit_defaults=True):
    """A blob that containers' runtime on the peer's node waits for; its task is :func:`task_id.of_blob`'s.

    Where it is spoken to, and how, is the supernode's to know: the peer never asks a registry.
    """

    registry: str
    """As images' names have it: ``docker.io``."""
    repository: str
    digest: str
    """Of the whole blob."""
    position: Count = 0
    """The first byte that is waited for: its piece is urgent."""
    stalls: Count = 0
    """How often nothing came for a long time: whoever was to give the next piece does not."""
    credential: str = ""
    """The ``Authorization`` that the runtime showed for this repository, word for word: a secret. Empty: none."""
    order: str = ""
    """Key of the image that is pulled by order of this supernode's operator: its own credentials count, instead."""

    def __repr__(self) -> str:
        return f"<Wanted {self.registry}/{self.repository}@{self.digest}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("digest", self.digest)]


class Assignment(msgspec.Struct, frozen=True, omit_defaults=True):
    """One task that the peer shall hold."""

    task_id: str
    generation: str
    """Which content this is: pieces of another generation are dropped. Empty: not known yet, keep what is there."""
    piece_size: int = 0
    length: int | None = None
    digest: str = ""
    """``sha256:`` of the whole, once the supernode has it all; before that the file cannot be published."""
    deliveries: tuple[Delivery, ...] = ()
    priority: int = 0


class SyncRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """One peer speaks, for all of its tasks at once."""

    peer: str
    """The node's name."""
    boot: str
    """Chosen at random when the peer's process started."""
    seq: Count
    supernode: str = ""
    """Boot ID of the supernode whose answer came last; empty: none yet."""
    revision: Count = 0
    """Of the assignments that the peer acts on; 0: none."""
    port: Port = 0
    """Where it serves pieces; the address is that of the connection."""
    zone: str = ""
    version: str = ""
    inventory: dict[str, Held] | None = None
    """All it holds, by task ID; present in a process's first exchange, when asked for, and when it became less than
    was said. The answer is not held then: nothing else is said before it is there."""
    done: dict[str, Held] = {}
    """Pieces verified since the last exchange, by task ID."""
    failures: tuple[PieceFailure, ...] = ()
    deliveries: dict[str, DeliveryState | None] = {}
    """What changed since the last exchange, by UID; ``None``: no longer there. Beside an inventory: all there are."""
    wants: dict[str, Wanted] = {}
    """All the blobs of this supernode that its node waits for now, by task ID; one that is not named is not wanted
    any more. Those of the exchange with the greatest ``seq`` hold."""
    images: Count = 0
    """Revision of the orders about images that it acts on; 0: none."""
    pulls: dict[str, PullState] | None = None
    """How far all images are that it has orders for, by key; ``None``: as it said last."""
    runtime: RuntimeState | None = None
    """``None``: as it said last."""
    uploads: Count = 0
    """Pieces that it is sending right now."""
    cache_bytes: Count = 0
    downloads: Count = 4
    """Parallel downloads it runs."""
    upload_slots: Count = 4
    """Pieces that it sends at once, at most."""
    leaving: bool = False
    """It is going down: give it nothing, offer nothing of it."""


class Work(msgspec.Struct, frozen=True, omit_defaults=True):
    """One piece to fetch: which, what it must hash to, and where to get it."""

    task_id: str
    generation: str
    piece: int
    offset: int
    size: int
    sha256: str
    host: str
    port: int
    ticket: str
    provider: str = ""
    """The provider's name, for the report of a failure; empty: the supernode."""
    path: str = ""
    """Where a Dragonfly client serves the piece, wrapped (:mod:`pantala_protocol.geometry`), word for word.
    Empty: the provider is one of ours."""
    wire_size: int = 0
    """Bytes of its wrapped pieces, with ``path``."""


class SyncAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The supernode's word."""

    supernode: str
    """Its boot ID."""
    seq: int
    key: str = ""
    """Hex key with which the peer checks tickets of those who read from it."""
    inventory_wanted: bool = False
    revision: int = 0
    assignments: tuple[Assignment, ...] | None = None
    """All that the peer shall hold; what is not named is dropped. ``None``: as in ``revision``, unchanged."""
    work: tuple[Work, ...] = ()
    membership: Membership | None = None
    """Beside assignments: all supernodes, with each of which the peer shall have an exchange. ``None``: no others."""
    images: NodeOrders | None = None
    """All that the node shall do about images. ``None``: as this supernode said last, or it was told nothing yet."""
