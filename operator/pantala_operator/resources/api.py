"""The resources the operator reads and writes, as far as it needs them; unknown fields are passed over. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from pantala_operator.resources.conditions import Condition

GROUP = "pantala.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
REQUESTED_AT = f"{GROUP}/requested-at"
"""Annotation: a new value asks for a new try."""


class OwnerReference(msgspec.Struct, frozen=True):
    """Who an object belongs to."""

    kind: str
    uid: str
    controller: bool = False


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """What every object carries."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()

    @property
    def controller(self) -> OwnerReference | None:
        """Who has made it and looks after it."""
        return next((each for each in self.owner_references if each.controller), None)

    @property
    def key(self) -> str:
        """``namespace/name``, or the name alone."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class TaskSource(msgspec.Struct, frozen=True):
    """Where the bytes come from: exactly one is set."""

    url: str = ""
    image: str = ""
    platform: str = ""


class SecretReference(msgspec.Struct, frozen=True):
    """A Secret in the Task's namespace."""

    name: str


class HeadersFrom(msgspec.Struct, frozen=True, rename="camel"):
    """Where the request headers come from."""

    secret_ref: SecretReference


class Toleration(msgspec.Struct, frozen=True):
    """As in a pod."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class Target(msgspec.Struct, frozen=True, rename="camel"):
    """Which nodes get the file; everything empty: all of them."""

    node_selector: dict[str, str] = {}
    names: tuple[str, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    count: int | None = None
    percentage: int | None = None


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often a passing failure is tried again."""

    limit: int | None = None


class TaskRetention(msgspec.Struct, frozen=True):
    """What is done to keep an image."""

    pin: bool = False


class TaskSpec(msgspec.Struct, frozen=True, rename="camel"):
    """What is wanted."""

    source: TaskSource
    headers_from: HeadersFrom | None = None
    pull_secrets: tuple[str, ...] = ()
    digest: str = ""
    filter_query_params: tuple[str, ...] = ()
    depth: str = "Peer"
    target: Target = Target()
    path: str = ""
    retention: TaskRetention = TaskRetention()
    retry: RetryPolicy = RetryPolicy()
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    priority: int = 0
    suspend: bool = False

    @property
    def to_peers(self) -> bool:
        """Whether nodes get the file; else it stays on the supernode."""
        return self.depth != "Supernode"

    @property
    def is_image(self) -> bool:
        """Whether an image is wanted, on nodes: it comes by their runtimes or mirrors, not as a file."""
        return bool(self.source.image) and self.to_peers


class PieceCount(msgspec.Struct, frozen=True):
    """How many pieces there are, and how many of them the supernode has."""

    total: int
    cached: int


class PeerCount(msgspec.Struct, frozen=True):
    """How many nodes shall have the file, have it, are at it, failed."""

    desired: int
    ready: int
    active: int
    failed: int


class ByteCount(msgspec.Struct, frozen=True, rename="camel"):
    """Body bytes moved, by where they came from."""

    origin: int
    from_supernode: int
    from_peers: int
    distributed: int


class NodeFailure(msgspec.Struct, frozen=True):
    """What went wrong on one node."""

    node: str
    reason: str
    message: str


class TaskStatus(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What became of it; the operator alone writes it, always as a whole."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    task_id: str = msgspec.field(default="", name="taskID")
    cdn_status: str = ""
    path: str = ""
    content_length: int | None = None
    size: str = ""
    digest: str = ""
    piece_size: int = 0
    pieces: PieceCount | None = None
    peers: PeerCount | None = None
    summary: str = ""
    transferred: ByteCount | None = msgspec.field(default=None, name="bytes")
    failures: tuple[NodeFailure, ...] = ()
    start_time: datetime | None = None
    completion_time: datetime | None = None
    last_handled_request: str = ""


class TaskResource(msgspec.Struct, frozen=True):
    """One Task resource."""

    metadata: Metadata
    spec: TaskSpec
    status: TaskStatus = TaskStatus()

    @property
    def attempt(self) -> str:
        """Changes with each edit of the spec and with each request for a new try."""
        return f"{self.metadata.generation}/{self.requested_at}"

    @property
    def requested_at(self) -> str:
        """The user's word for the newest try; empty: none was asked for."""
        return self.metadata.annotations.get(REQUESTED_AT, "")


class Taint(msgspec.Struct, frozen=True):
    """As on a node."""

    key: str
    effect: str
    value: str = ""


class NodeSpec(msgspec.Struct, frozen=True):
    """What keeps work away from a node."""

    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


class Node(msgspec.Struct, frozen=True):
    """One Node."""

    metadata: Metadata
    spec: NodeSpec = NodeSpec()


class PeerSpec(msgspec.Struct, frozen=True):
    """What an administrator says of a peer."""

    unschedulable: bool = False


class PeerCache(msgspec.Struct, frozen=True):
    """What a peer's cache holds."""

    used: int = msgspec.field(name="bytes", default=0)
    tasks: int = 0


class PeerRuntime(msgspec.Struct, frozen=True):
    """The container runtime on a peer's node."""

    name: str
    version: str


class PeerStatus(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One peer as its supernode sees it."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    address: str = ""
    zone: str = ""
    version: str = ""
    cache: PeerCache | None = None
    uploads: int = 0
    succeeded: int = 0
    failed: int = 0
    runtime: PeerRuntime | None = None


class PeerResource(msgspec.Struct, frozen=True):
    """One Peer resource, named as its node."""

    metadata: Metadata
    spec: PeerSpec = PeerSpec()
    status: PeerStatus = PeerStatus()


class Secret(msgspec.Struct, frozen=True):
    """A Secret; values are base64."""

    metadata: Metadata
    data: dict[str, str] = {}


def read_task(body: Mapping[str, Any]) -> TaskResource:
    """Read a Task from the API server's JSON. Raises :class:`msgspec.ValidationError`."""
    return msgspec.convert(body, TaskResource)


def read_node(body: Mapping[str, Any]) -> Node:
    """Read a Node. Raises :class:`msgspec.ValidationError`."""
    return msgspec.convert(body, Node)


def read_peer(body: Mapping[str, Any]) -> PeerResource:
    """Read a Peer. Raises :class:`msgspec.ValidationError`."""
    return msgspec.convert(body, PeerResource)


def newer(one: Metadata, other: Metadata) -> bool:
    """Whether ``one`` was read later than ``other``, of the same object.

    Resource versions are decimal and grow in every API server that keeps its state in etcd; those that are not are
    taken as they come.
    """
    mine, theirs = one.resource_version, other.resource_version
    return not (mine.isdecimal() and theirs.isdecimal()) or int(mine) > int(theirs)
