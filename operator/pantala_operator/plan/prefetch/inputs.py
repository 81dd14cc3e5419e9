"""The planner's input: one object's demand, the state of its previous plan, and the observation. Pure.

An ImagePrefetch and a Task with an image provide the same input, so one pipeline plans both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from pantala_operator.plan.nodes import SourceBytes, Trouble
from pantala_operator.plan.secrets import SecretReading
from pantala_operator.plan.startup_taint import NodeRights
from pantala_operator.plan.targets import ClusterNodes
from pantala_operator.resources.api import Metadata
from pantala_operator.resources.prefetch import (
    ImageKey,
    PrefetchSpec,
    PrefetchStatus,
)
from pantala_operator.resources.status import Obstacle
from pantala_protocol.images import Depth, PullOrder, PullState, RuntimeState
from pantala_protocol.registry import Resolved


@dataclass(frozen=True, slots=True)
class ImageDemand:
    """Which images one object wants on which nodes, and by which rules the nodes pull them."""

    metadata: Metadata
    """The metadata of the ImagePrefetch or Task."""
    request: str
    """The value of the annotation with the user's newest request for a run. Empty without a request."""
    former: PrefetchStatus
    """The status after the previous plan. For a Task, it has only the fields from which a plan continues."""
    spec: PrefetchSpec
    """The spec of the ImagePrefetch, or what it would be for the Task."""
    depth: Depth = Depth.RUNTIME
    itemized: bool = False
    """True if a plan needs the blobs of each image: for the report of mode ``Plan``, or because peers fetch them."""
    owns_tasks: bool = False
    """True if the operator creates a Task for each image."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment, StatefulSet or DaemonSet, even with 0 replicas."""

    kind: str
    namespace: str
    name: str
    template: Mapping[str, Any] = field(default_factory=dict)
    """The ``spec.template`` as JSON from the API server."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The workloads and namespaces from which a demand may take images."""

    workloads: tuple[Workload, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The labels of each namespace, by its name."""
    privileged: bool = False
    """True if the demand may take images from other namespaces."""


@dataclass(frozen=True, slots=True)
class RegistryAnswer:
    """What a registry answered about one image, through a supernode."""

    at: datetime
    resolved: Resolved
    platforms: frozenset[str] = frozenset()
    """The platforms that the question named."""
    tries: int = 1
    """The number of consecutive failures, if this answer is a failure."""


@dataclass(frozen=True, slots=True)
class OwnedTask:
    """An existing Task, as far as the plan of an ImagePrefetch needs it."""

    name: str
    owner: str = ""
    """The UID of the ImagePrefetch for which the operator made the Task. Empty for all other Tasks."""
    image: str = ""
    """The Task's ``spec.source.image``."""
    platform: str = ""


class GivenOrder(NamedTuple):
    """An order to a node, and the time when it was given, in seconds since the epoch."""

    order: PullOrder
    at: int


Pulls = Mapping[str, Mapping[str, PullState]]
"""The reported pulls: name of the image's Task -> node -> state."""
Orders = Mapping[str, Mapping[str, GivenOrder]]
"""The given orders: name of the image's Task -> node -> order."""


@dataclass(frozen=True, slots=True)
class ObservedImages:
    """What the operator has observed about one object, besides the resource itself."""

    cluster: ClusterNodes = field(default_factory=ClusterNodes)
    around: Surroundings = field(default_factory=Surroundings)
    secrets: Mapping[str, SecretReading] = field(default_factory=dict)
    """The Secrets of the object's namespace that were read, by name."""
    answers: Mapping[ImageKey, RegistryAnswer] = field(default_factory=dict)
    tasks: tuple[OwnedTask, ...] = ()
    """All Tasks of the object's namespace."""
    pulls: Pulls = field(default_factory=dict)
    """The reported pulls. After a supernode's restart, older reports count for nodes that have not reported again."""
    orders: Orders = field(default_factory=dict)
    """The orders of the previous plan, if this process made a plan before."""
    runtimes: Mapping[str, RuntimeState] = field(default_factory=dict)
    """The nodes' container runtimes, by node."""
    unsurveyed: frozenset[str] = frozenset()
    """The nodes that will soon report which blobs they have. Mode ``Plan`` waits for them."""
    reported: bool = False
    """True if all nodes that can report their pulls have done so."""
    may_cancel: bool = False
    """True if running pulls may be cancelled before every node has reported. Unsafe only right after the operator's
    restart: a silent node may have images that the operator does not know."""
    away: str = ""
    """Why no supernode answers. Empty if a supernode answers."""
    cut: Mapping[str, Obstacle] = field(default_factory=dict)
    """Why the statement lacks images or their credentials, by the name of the Task. It changes only the status."""
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    """Why nodes get too few bytes of the images, by node."""
    moved: SourceBytes | None = None
    """The bytes of a Task's image so far. ``None``: not known."""
    rights: NodeRights = field(default_factory=NodeRights)
    """What the operator may change at nodes."""
    former: PrefetchStatus | None = None
    """A Task's :attr:`ImageDemand.former` after the previous plan, if this process made a plan before."""
