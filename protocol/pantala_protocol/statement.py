"""The interface between operator and supernode: all wanted tasks, and the reports about them.

``PUT /api/v1/statement`` takes a :class:`Statement` and answers a :class:`StatementReceipt`. ``GET
/api/v1/changes?boot=&since=&wait=`` answers :class:`Changes`. The supernode holds it until something changes.
"""

import hashlib
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from pantala_protocol.images import PullState, RuntimeState, WantedImage
from pantala_protocol.rules import text
from pantala_protocol.rules.fields import (
    UNKNOWN,
    Count,
    Id,
    Key,
    Name,
    Number,
    PieceSize,
    Port,
    SmallCount,
    Url,
    WireWord,
)

MAX_STATEMENT: Final = 64 * 1024 * 1024
"""The most bytes of a statement in JSON. A supernode refuses a larger one as a whole."""
MAX_CLOCK_SKEW: Final = 5
"""Seconds by which clocks may differ before Pantala reports the difference."""


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """One replica."""

    name: str
    """The name of the replica's pod. It is the same after a restart of the pod, like the volume and the tasks."""
    url: str
    """The base URL of the replica's API, which the operator, peers and other replicas use."""
    leaving: bool = False
    """True while the replica hands its tasks over: it owns no task, but peers still have sessions with it."""


class Membership(msgspec.Struct, frozen=True):
    """All replicas. The operator sends this to the supernodes, and they send it to the peers."""

    revision: Count
    """A number that grows with each change, also after restarts of the operator. The greatest revision is in force."""
    members: tuple[Member, ...]

    def owner(self, task_id: str) -> Member | None:
        """The member that owns a task. ``None`` if all members are leaving."""
        staying = {member.name: member for member in self.members if not member.leaving}
        name = owner_among(task_id, staying)
        return None if name is None else staying[name]

    def member(self, name: str) -> Member | None:
        return next((member for member in self.members if member.name == name), None)


def owner_among(task_id: str, names: Iterable[str]) -> str | None:
    """The owner of a task by rendezvous hashing. A new replica takes about equally many tasks from each old replica."""
    return max(names, key=lambda name: (hashlib.sha256(f"{task_id} {name}".encode()).digest(), name), default=None)


class WantedTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """One Task resource, as the supernode needs it. Resources with the same task ID share one copy."""

    uid: Id
    """The Task resource's UID, which is the key of reports and deliveries."""
    name: Key
    """``namespace/name``, for logs."""
    task_id: Id
    url: Url
    headers: dict[str, str] = {}
    """Headers for the origin only, as in :mod:`pantala_protocol.rules.headers`. They are kept only in memory. Empty in
    a message that has ``header_set`` instead."""
    header_set: SmallCount | None = None
    """The position of the Task's headers in :attr:`Statement.header_sets`."""
    digest: Id = ""
    """The required ``sha256:`` or ``sha512:`` of the file. Empty: any content."""
    path: str = ""
    """The path of the file below the peers' root folder. Empty: the file stays on the supernode."""
    peers: tuple[str, ...] = ()
    """The nodes that must have the file, by name. Empty in a message with numbers, which has ``node_set`` instead."""
    node_set: SmallCount | None = None
    """The position of the Task's nodes in :attr:`Statement.node_sets`."""
    priority: Number = 0
    """Tasks with a higher priority are fetched first."""
    suspended: bool = False
    """True if supernode and peers must keep their pieces, but fetch no more pieces."""
    attempt: str = ""
    """A new value asks for another attempt after a failure, and resets the count of ``retry_limit``."""
    retry_limit: Count | None = None
    """How many more attempts may follow temporary failures of the origin. ``None``: no limit."""
    trace: Id = ""
    """The context of the attempt's trace, as in the header ``traceparent``. Empty: traces are off."""

    @property
    def namespace(self) -> str:
        """The namespace of the Task resource."""
        return self.name.partition("/")[0]


class SourceRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sources that an administrator allows. A connection is covered if its host, its address and its port match.

    Empty ``hosts``, ``networks`` or ``ports`` match everything. Either ``hosts`` or ``networks`` has an entry, or both.
    """

    name: str
    """The name of the SourcePolicy, or of the flag."""
    hosts: tuple[str, ...] = ()
    """Patterns as in :func:`pantala_protocol.rules.sources.matches`."""
    networks: tuple[str, ...] = ()
    """Networks in CIDR notation."""
    ports: tuple[int, ...] = ()
    authorities: str = ""
    """Certificate authorities for ``hosts`` in PEM, in addition to the supernode's own authorities."""
    max_bytes: int | None = None
    """The largest file that the rule allows. ``None``: any size."""


class Statement(msgspec.Struct, frozen=True):
    """All wanted tasks of one supernode. Other tasks are dropped after a grace period."""

    revision: Annotated[int, Meta(ge=1, lt=1 << 53)]
    """The statement's number. :class:`Changes` repeats it, so the operator notices a lost statement."""
    tasks: tuple[WantedTask, ...] = ()
    membership: Membership | None = None
    """All replicas. ``None``: this supernode is the only replica."""
    member: str = ""
    """The name of the receiving supernode in the membership."""
    images: tuple[WantedImage, ...] = ()
    """All images that nodes must have. Every supernode receives the same list."""
    unchanged: tuple[Key, ...] = ()
    """Keys of images that are wanted, but that the operator does not know completely yet. Their former orders stay."""
    survey: tuple[str, ...] = ()
    """Digests of blobs. All nodes must report which of them their runtime has."""
    sources: tuple[SourceRule, ...] = ()
    """The accepted SourcePolicies. Without them, a supernode reads only public addresses and those of its flags."""
    epoch: Annotated[int, Meta(ge=0, lt=1 << 31)] = 0
    """The term of the leading operator. A supernode refuses an epoch older than any before. 0: no operator leads."""
    nodes: tuple[str, ...] = ()
    """The nodes' names. The number of a node is its position here. See :mod:`pantala_protocol.nodes.numbers`."""
    node_sets: tuple[str, ...] = ()
    """The distinct sets of nodes, as ranges of numbers, such as ``0-3,7``."""
    header_sets: tuple[dict[str, str], ...] = ()
    """The distinct headers of tasks."""
    pull_secrets: tuple[str, ...] = ()
    """The distinct texts of the images' pull secrets."""
    zones: dict[Name, Name] = {}
    """The zones of nodes, by the node's name. The supernode uses them for peers that do not report their zone."""


class StatementReceipt(msgspec.Struct, frozen=True):
    """The answer of a supernode that has accepted a statement."""

    boot: Id
    revision: Count


class CDNStatus(WireWord):
    """The state of a task's copy on the supernode. The names are Dragonfly's. Pantala never sets ``SOURCE_ERROR``."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    FAILED = "FAILED"
    SUCCESS = "SUCCESS"
    SOURCE_ERROR = "SOURCE_ERROR"
    UNKNOWN = UNKNOWN
    """A status of a newer version. The resource keeps the last status that is known."""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A failure with a :class:`pantala_protocol.reasons.Reason` and a message."""

    reason: str
    message: str
    final: bool = False
    """True if no other attempt follows until :attr:`WantedTask.attempt` changes."""
    peer: Name = ""
    """The node on which it failed. Empty: it failed on the supernode."""

    def __post_init__(self) -> None:
        text.clean_failure(self, "InternalError", always=True)


class TaskReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """The report about one wanted task."""

    uid: Id
    task_id: Id
    attempt: Url = ""
    """The :attr:`WantedTask.attempt` that this report is about."""
    cdn_status: CDNStatus = CDNStatus.WAITING
    length: Count | None = None
    digest: Annotated[str, Meta(max_length=135)] = ""
    """``sha256:`` of the file. Empty until the supernode has the whole file."""
    piece_size: PieceSize = 0
    pieces_total: Count | None = None
    pieces_cached: Count = 0
    origin_bytes: Count = 0
    """Bytes of bodies that all replicas together have read from the origin for this copy."""
    supernode_bytes: Count = 0
    """Bytes that peers received from the supernode."""
    peer_bytes: Count = 0
    """Bytes that peers received from each other."""
    failure: Failure | None = None
    """Why the supernode could not fetch the file in its last try. ``None``: no failure."""
    ready_peers: tuple[str, ...] = ()
    """The wanted peers that have the file, by name. Empty in a message with numbers."""
    active_peers: tuple[str, ...] = ()
    """The wanted peers that are connected and do not have the whole file yet. Empty in a message with numbers."""
    ready: str = ""
    """The wanted peers that have the file, as ranges of positions in :attr:`Changes.nodes`, such as ``0-3,7``."""
    active: SmallCount | None = None
    """How many wanted peers are connected and do not have the whole file yet. ``None``: see ``active_peers``."""
    failures: tuple[Failure, ...] = ()
    """Failures of the wanted peers, at most 10 of them."""
    failed_peers: SmallCount = 0


class PeerReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """The supernode's report about one peer."""

    name: Name
    connected: bool
    address: Annotated[str, Meta(max_length=56)] = ""
    port: Port = 0
    zone: str = ""
    version: str = ""
    cache_bytes: Count = 0
    tasks: Count = 0
    uploads: Count = 0
    """The number of pieces that the peer sends now."""
    succeeded: Count = 0
    """The number of pieces that other peers received from this peer and verified."""
    failed: Count = 0
    pulls: dict[str, PullState] = {}
    """The states of the images that the node must have, by the key of the image."""
    runtime: RuntimeState | None = None
    """The state of the node's container runtime. ``None``: the peer has not reported it."""
    clock_ahead: int | None = None
    """By how many seconds the node's clock is ahead of the cluster's. Negative: it is behind. ``None``: not known."""

    def __post_init__(self) -> None:
        text.clean_fields(self, zone=text.NAME, version=text.LABEL)


class Changes(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that changed after the version ``since`` in the request, or everything if the supernode has restarted."""

    boot: Id
    version: Count
    """The operator sends it as ``since`` in its next request."""
    revision: Count = 0
    """The revision of the statement in force. 0: the supernode has just started, and needs a statement."""
    full: bool = False
    """True if this contains the reports about all tasks and peers. False: only about changed tasks and peers."""
    tasks: tuple[TaskReport, ...] = ()
    gone: tuple[str, ...] = ()
    """UIDs of tasks that are not wanted any more and that the supernode has dropped."""
    peers: tuple[PeerReport, ...] = ()
    nodes: tuple[str, ...] = ()
    """The names of the nodes to which the reports refer by number."""
    epoch: int = 0
    """The greatest epoch that the supernode has accepted."""
    numbers: bool = False
    """True if the supernode understands statements that refer to nodes by number."""
    credentials: bool = False
    """True if the supernode understands statements that name each header set and each pull secret once."""
