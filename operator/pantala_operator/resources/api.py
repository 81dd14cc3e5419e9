"""Tasks, Peers, Nodes and Secrets, as far as the operator needs them. Unknown fields are ignored. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Self, TypeVar

import msgspec

from pantala_operator.resources.conditions import Condition, is_true
from pantala_protocol.rules import quantity, requests
from pantala_protocol.rules.selection import Taint, Toleration

GROUP = "pantala.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
ALLOW = f"{GROUP}/allow"
"""The label with which the owner of a Secret allows its use."""
HOSTS = f"{GROUP}/hosts"
"""The annotation of a Secret with headers that lists the hosts that may receive them."""
ZONE = "topology.kubernetes.io/zone"
"""The label of a Node with its zone."""
IMAGES_READY = f"{GROUP}/ImagesReady"
"""The condition of a Node that other controllers may wait for."""
T = TypeVar("T")


class OwnerReference(msgspec.Struct, frozen=True, rename="camel"):
    """The owner of an object."""

    api_version: str
    kind: str
    uid: str
    controller: bool = False


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """Every object's metadata."""

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
        return next((each for each in self.owner_references if each.controller), None)

    @property
    def key(self) -> str:
        """``namespace/name``, or the name of an object without a namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class TaskSource(msgspec.Struct, frozen=True):
    """Where the bytes come from: a URL or an image."""

    url: str = ""
    image: str = ""
    platform: str = ""


class SecretReference(msgspec.Struct, frozen=True):
    """A Secret in the Task's namespace."""

    name: str


class HeadersFrom(msgspec.Struct, frozen=True, rename="camel"):
    """The source of the request headers."""

    secret_ref: SecretReference


class Target(msgspec.Struct, frozen=True, rename="camel"):
    """Which nodes get the file. An empty target means all nodes."""

    node_selector: dict[str, str] = {}
    names: tuple[str, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    count: int | None = None
    percentage: int | None = None

    @property
    def is_limited(self) -> bool:
        """True if only some of the matching nodes get the file."""
        return self.count is not None or self.percentage is not None


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often a temporary failure is tried again."""

    limit: int | None = None


class TaskRetention(msgspec.Struct, frozen=True):
    """How an image is kept on nodes."""

    pin: bool = False


class TaskSpec(msgspec.Struct, frozen=True, rename="camel"):
    """The spec of a Task, as the user writes it."""

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
    timeout_seconds_per_node: int | None = None
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    priority: int = 0
    suspend: bool = False

    @property
    def to_peers(self) -> bool:
        """True if nodes get the file; otherwise it stays on the supernode."""
        return self.depth != "Supernode"

    @property
    def is_image(self) -> bool:
        """True if nodes pull an image by their runtimes or mirrors, instead of getting a file."""
        return bool(self.source.image) and self.to_peers


class PieceCount(msgspec.Struct, frozen=True):
    """The number of all pieces, and of the pieces that the supernode has."""

    total: int
    cached: int


class PeerCount(msgspec.Struct, frozen=True):
    """The number of nodes that should have the file, and the numbers of nodes in each state."""

    desired: int
    ready: int
    active: int
    failed: int
    waiting: int = 0
    late: int = 0


class ByteCount(msgspec.Struct, frozen=True, rename="camel"):
    """Bytes of the file that were transferred, by their source."""

    origin: int
    from_supernode: int
    from_peers: int
    distributed: int
    origin_size: str = ""

    @classmethod
    def of(cls, origin: int, supernode: int, peers: int) -> Self:
        return cls(origin, supernode, peers, supernode + peers, quantity.render(origin))


class NodeFailure(msgspec.Struct, frozen=True):
    """The failure of one node."""

    node: str
    reason: str
    message: str


class LateNode(msgspec.Struct, frozen=True):
    """A node that makes too little progress."""

    node: str
    reason: str
    message: str
    since: datetime


class TaskStatus(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The state of a Task. Only the operator writes it, always as a whole."""

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
    progress: str = ""
    late: tuple[LateNode, ...] = ()
    failures: tuple[NodeFailure, ...] = ()
    start_time: datetime | None = None
    completion_time: datetime | None = None
    last_handled_request: str = ""


class TaskResource(msgspec.Struct, frozen=True):
    """One Task resource."""

    kind: ClassVar = "Task"
    plural: ClassVar = "tasks"
    metadata: Metadata
    spec: TaskSpec
    status: TaskStatus = TaskStatus()

    @property
    def attempt(self) -> str:
        """A text that changes with each edit of the spec and with each request for a new attempt."""
        return f"{self.metadata.generation}/{self.requested_at}"

    @property
    def is_ready(self) -> bool:
        return is_true(self.status.conditions, "Ready")

    @property
    def requested_at(self) -> str:
        return requests.requested(self.metadata.annotations, self.status.last_handled_request)


class NodeSpec(msgspec.Struct, frozen=True):
    """The part of a Node's spec that keeps pods away from the node."""

    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


class NodeCondition(msgspec.Struct, frozen=True):
    """One condition of a Node. The kubelet writes most of them."""

    type: str
    status: str
    reason: str = ""
    message: str = ""


class NodeStatus(msgspec.Struct, frozen=True):
    """The conditions of a Node."""

    conditions: tuple[NodeCondition, ...] = ()


class Node(msgspec.Struct, frozen=True):
    """One Node."""

    kind: ClassVar = "Node"
    plural: ClassVar = "nodes"
    metadata: Metadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def zone(self) -> str:
        """The zone that the cloud or the administrator gave to the node. Empty: none."""
        return self.metadata.labels.get(ZONE, "")

    @property
    def images_ready(self) -> NodeCondition | None:
        """The condition that the operator writes."""
        return next((each for each in self.status.conditions if each.type == IMAGES_READY), None)


class PeerSpec(msgspec.Struct, frozen=True):
    """The spec of a Peer, as an administrator writes it."""

    unschedulable: bool = False


class PeerCache(msgspec.Struct, frozen=True):
    """The content of a peer's cache."""

    used: int = msgspec.field(name="bytes", default=0)
    tasks: int = 0
    size: str = ""


class PeerRuntime(msgspec.Struct, frozen=True):
    """The container runtime on a peer's node."""

    name: str
    version: str


class PeerStatus(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The status of a Peer, as the supernodes report it."""

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
    """A Peer. It has the name of its node."""

    kind: ClassVar = "Peer"
    plural: ClassVar = "peers"
    metadata: Metadata
    spec: PeerSpec = PeerSpec()
    status: PeerStatus = PeerStatus()


class Secret(msgspec.Struct, frozen=True):
    """A Secret. Its values are encoded in base64."""

    metadata: Metadata
    data: dict[str, str] = {}


def newer(one: Metadata, other: Metadata) -> bool:
    """True if ``one`` is a newer version of the object than ``other``.

    Resource versions are decimal and grow in every API server that stores its state in etcd. Other versions count as
    newer.
    """
    mine, theirs = one.resource_version, other.resource_version
    return not (mine.isdecimal() and theirs.isdecimal()) or int(mine) > int(theirs)


def parse(body: Mapping[str, Any], kind: type[T]) -> T:
    """Read an object from the API server, or raise ``msgspec.ValidationError``. Ignores a status that is not valid.

    Another version of the operator may have written that status. The next plan writes it again.
    """
    try:
        return msgspec.convert(body, kind)
    except msgspec.ValidationError:
        return msgspec.convert({key: value for key, value in body.items() if key != "status"}, kind)
