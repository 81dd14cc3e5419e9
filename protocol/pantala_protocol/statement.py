"""What operator and supernode say to each other: the full set of wanted tasks, and what became of them.

``PUT /api/v1/statement`` takes a :class:`Statement` and answers a :class:`StatementReceipt`;
``GET /api/v1/changes?boot=&since=&wait=`` answers :class:`Changes`, held open until there is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from pantala_protocol.images import PullState, RuntimeState, WantedImage


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """One supernode."""

    name: str
    """Its pod's name: it stays when the pod starts anew, and so do its volume and its tasks."""
    url: str
    """Base URL of its API, for operator, peers and the other supernodes."""
    leaving: bool = False
    """It gives its tasks away and takes none; those who speak with it still do."""


class Membership(msgspec.Struct, frozen=True):
    """All supernodes, as the operator sees them; it tells the supernodes, and they tell the peers."""

    revision: int
    """Grows with each change, also over a restart of the operator: of two the greater one holds."""
    members: tuple[Member, ...]

    def owner(self, task_id: str) -> Member | None:
        """The member that a task belongs to; ``None`` if there is none that stays."""
        staying = {member.name: member for member in self.members if not member.leaving}
        name = owner_among(task_id, staying)
        return None if name is None else staying[name]

    def member(self, name: str) -> Member | None:
        """The member of that name."""
        return next((member for member in self.members if member.name == name), None)


def owner_among(task_id: str, names: Iterable[str]) -> str | None:
    """Whose a task is, by rendezvous hash: one more name takes its own share from all, and nothing else moves."""
    return max(names, key=lambda name: (hashlib.sha256(f"{task_id} {name}".encode()).digest(), name), default=None)


class WantedTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """One Task resource, as far as the supernode needs it. Several may name the same task ID: one copy, one read."""

    uid: str
    """The Task resource's UID: the key of reports and deliveries."""
    name: str
    """``namespace/name``, for logs."""
    task_id: str
    url: str
    headers: dict[str, str] = {}
    """Sent to the origin, and to no other host. Kept in memory only."""
    digest: str = ""
    """``sha256:`` or ``sha512:`` that the whole must have; empty: whatever the origin sends."""
    path: str = ""
    """Where peers publish the file, relative to their root; empty: the file stays on the supernode."""
    peers: tuple[str, ...] = ()
    """The nodes that shall have the file."""
    priority: int = 0
    """Higher goes first where work competes."""
    suspended: bool = False
    """Keep what is there, fetch and give nothing more."""
    attempt: str = ""
    """A new value asks for a new try after a failure, and starts the count of ``retry_limit`` anew."""
    retry_limit: int | None = None
    """How many times a passing failure of the origin is tried again; ``None``: for as long as it takes."""


class Statement(msgspec.Struct, frozen=True):
    """All that is wanted of one supernode. What is no longer stated is dropped after a grace period."""

    revision: Annotated[int, Meta(ge=1, lt=1 << 53)]
    """Chosen by the operator; told back in :class:`Changes`, so that it knows when to state again."""
    tasks: tuple[WantedTask, ...] = ()
    membership: Membership | None = None
    """All supernodes there are; ``None``: this is the only one."""
    member: str = ""
    """The name among them of the supernode that is spoken to."""
    images: tuple[WantedImage, ...] = ()
    """All images that nodes shall have, the same to every supernode."""
    survey: tuple[str, ...] = ()
    """Digests of blobs of which all nodes shall say whether their runtime has them."""


class StatementReceipt(msgspec.Struct, frozen=True):
    """The supernode took a statement."""

    boot: str
    revision: int


class CDNStatus(StrEnum):
    """A task's copy on the supernode, in Dragonfly's words."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    FAILED = "FAILED"
    SUCCESS = "SUCCESS"
    SOURCE_ERROR = "SOURCE_ERROR"


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong, in a closed vocabulary (:class:`pantala_protocol.reasons.Reason`) and in words."""

    reason: str
    message: str
    final: bool = False
    """Nothing is tried again until the wanted task's ``attempt`` changes."""
    peer: str = ""
    """The node it concerns; empty: the supernode."""


class TaskReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one wanted task."""

    uid: str
    task_id: str
    attempt: str = ""
    """The ``attempt`` this report speaks of."""
    cdn_status: CDNStatus = CDNStatus.WAITING
    length: int | None = None
    digest: str = ""
    """``sha256:`` of the whole; known once it is cached."""
    piece_size: int = 0
    pieces_total: int | None = None
    pieces_cached: int = 0
    origin_bytes: int = 0
    """Body bytes read from the origin for this task since its copy was begun, whoever asked."""
    supernode_bytes: int = 0
    """Bytes that peers took from the supernode."""
    peer_bytes: int = 0
    """Bytes that peers took from each other."""
    failure: Failure | None = None
    """Of the origin's fetch; passing or final."""
    ready_peers: tuple[str, ...] = ()
    active_peers: tuple[str, ...] = ()
    """Connected, and at it."""
    failures: tuple[Failure, ...] = ()
    """At most 10 of the wanted peers' own failures."""
    failed_peers: int = 0


class PeerReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """One peer as its supernode sees it."""

    name: str
    connected: bool
    address: str = ""
    port: int = 0
    zone: str = ""
    version: str = ""
    cache_bytes: int = 0
    tasks: int = 0
    uploads: int = 0
    """Pieces being taken from it now."""
    succeeded: int = 0
    """Pieces that others took from it, checked by them."""
    failed: int = 0
    pulls: dict[str, PullState] = {}
    """How far the images are that the node has orders for, by key, as it said itself."""
    runtime: RuntimeState | None = None
    """``None``: it has not said anything of it."""


class Changes(msgspec.Struct, frozen=True, omit_defaults=True):
    """What changed since ``since``; everything, if the supernode started anew since."""

    boot: str
    version: int
    """Pass it as ``since`` next time."""
    revision: int = 0
    """Of the statement in force; 0: none since this boot, so state again."""
    full: bool = False
    """All there is, not only what changed."""
    tasks: tuple[TaskReport, ...] = ()
    gone: tuple[str, ...] = ()
    """UIDs that are no longer wanted and whose drop is complete on the supernode."""
    peers: tuple[PeerReport, ...] = ()
