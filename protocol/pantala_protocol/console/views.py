"""The answers of the operator's console, which ``kubectl pantala`` and the web page show.

The console is read-only and listens on the loopback address of the operator's pod. Clients reach it through
``kubectl port-forward``, with the user's own permissions. All times are seconds since the epoch, all rates bytes per
second, measured as :mod:`pantala_protocol.console.progress` says.

| route | answer |
|---|---|
| ``GET /api/v1/console?namespace=&unfinished=&limit=`` | :class:`Console` |
| ``GET /api/v1/console/tasks/NAMESPACE/NAME`` | :class:`TaskDetail` |
| ``GET /api/v1/console/images/NAMESPACE/NAME`` | :class:`TaskDetail` of an ImagePrefetch |
| ``GET /`` | the web page |
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

MOST_TASKS: Final = 20_000
"""The greatest ``limit`` of Tasks and ImagePrefetches."""


class NodePhase(StrEnum):
    """How far a node is with a Task or an ImagePrefetch."""

    READY = "Ready"
    FETCHING = "Fetching"
    WAITING = "Waiting"
    LATE = "Late"
    """The node makes too little progress, and the reason is known. It may recover."""
    FAILED = "Failed"


class Traffic(msgspec.Struct, frozen=True):
    """Bytes so far, and bytes per second, by their source."""

    origin: int = 0
    supernode: int = 0
    peers: int = 0
    origin_rate: int = 0
    supernode_rate: int = 0
    peers_rate: int = 0


class NodeCounts(msgspec.Struct, frozen=True):
    """Nodes by state."""

    desired: int = 0
    ready: int = 0
    fetching: int = 0
    waiting: int = 0
    late: int = 0
    failed: int = 0


class NodeFlow(msgspec.Struct, frozen=True):
    """What one node gets from one provider."""

    provider: str
    """The name of a node or client, or ``supernode``."""
    bytes: int
    rate: int


class NodeView(msgspec.Struct, frozen=True):
    """One node of a Task or an ImagePrefetch."""

    name: str
    state: NodePhase
    zone: str = ""
    bytes: int = 0
    rate: int = 0
    eta: float | None = None
    """Seconds until the node has everything, at its present rate. ``None``: not known."""
    reason: str = ""
    message: str = ""
    action: str = ""
    """What the user can do next, as a sentence."""
    since: float | None = None
    """Since when the node is late or failed."""
    flows: tuple[NodeFlow, ...] = ()


class Cause(msgspec.Struct, frozen=True):
    """One cause why a Task or an ImagePrefetch is not done. There is one for each reason."""

    reason: str
    message: str
    action: str
    evidence: tuple[str, ...] = ()
    """Facts that support the cause, one sentence each."""
    nodes: tuple[str, ...] = ()
    """The nodes concerned, at most ten. Empty: all of them."""
    since: float | None = None


class Moment(msgspec.Struct, frozen=True):
    """One event in the timeline of a Task or an ImagePrefetch."""

    at: float
    reason: str
    message: str


class TaskSummary(msgspec.Struct, frozen=True):
    """One Task or one ImagePrefetch."""

    kind: str
    """``Task`` or ``ImagePrefetch``."""
    namespace: str
    name: str
    ready: str
    """The status of the condition ``Ready``: True, False or Unknown."""
    reason: str
    message: str
    created: float
    image: str = ""
    """The image of a Task for an image. Empty: a file."""
    length: int | None = None
    """The bytes of the file or of all images on one node. ``None``: not known."""
    cached: int = 0
    """The bytes that the supernode has."""
    progress: float | None = None
    """The share of the bytes that have arrived at the supernode and on the nodes, as in the status, from 0 to 1.
    ``None``: not known."""
    eta: float | None = None
    """Seconds until all nodes are ready, at the present rates. ``None``: not known."""
    nodes: NodeCounts = NodeCounts()
    traffic: Traffic = Traffic()


class TaskDetail(msgspec.Struct, frozen=True):
    """One Task or ImagePrefetch with its nodes, the causes of its state, and its timeline."""

    task: TaskSummary
    nodes: tuple[NodeView, ...] = ()
    causes: tuple[Cause, ...] = ()
    timeline: tuple[Moment, ...] = ()


class PeerFinding(msgspec.Struct, frozen=True):
    """One condition of a peer other than ``Ready``."""

    type: str
    status: str
    reason: str
    message: str = ""
    """Empty while the condition is True."""


class PeerView(msgspec.Struct, frozen=True):
    """One peer and its node."""

    name: str
    ready: str
    reason: str
    message: str = ""
    zone: str = ""
    address: str = ""
    version: str = ""
    cache_bytes: int = 0
    tasks: int = 0
    uploads: int = 0
    rate_in: int = 0
    rate_out: int = 0
    clock_ahead: int | None = None
    conditions: tuple[PeerFinding, ...] = ()
    """Whether the runtime uses the mirror, and whether the clock is right."""


class SupernodeState(msgspec.Struct, frozen=True):
    """One supernode."""

    name: str
    answers: bool
    message: str = ""
    volume_bytes: int = 0
    volume_free: int = 0
    origin_rate: int = 0


class Edge(msgspec.Struct, frozen=True):
    """The bytes per second that one provider sends to one node now, for all tasks together."""

    provider: str
    node: str
    rate: int


class Console(msgspec.Struct, frozen=True):
    """The state of the whole installation."""

    at: float
    version: str
    leads: bool
    """True if this replica of the operator leads. Only the leader knows progress."""
    leader: str = ""
    """The name of the leading pod. Empty: this pod leads, or the leader is not known."""
    tasks: tuple[TaskSummary, ...] = ()
    omitted: int = 0
    """How many Tasks and ImagePrefetches ``limit`` left out."""
    peers: tuple[PeerView, ...] = ()
    supernodes: tuple[SupernodeState, ...] = ()
    edges: tuple[Edge, ...] = ()
    traffic: Traffic = Traffic()
    saved: int = 0
    """Bytes that nodes got and that the origins did not have to send again."""
