"""The planner's input: what one object wants, what the plan before left, and what was observed. Pure.

An ImagePrefetch and a Task with an image provide the same input, so one pipeline plans both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from pantala_operator.plan.secrets import SecretReading
from pantala_operator.plan.targets import ClusterNodes
from pantala_operator.resources.api import Metadata, Target
from pantala_operator.resources.conditions import Condition
from pantala_operator.resources.prefetch import (
    From,
    ImageKey,
    ImageStatus,
    LabelSelector,
    Rollout,
    Schedule,
    SpecImage,
    StartupTaint,
)
from pantala_protocol.images import Depth, PullOrder, PullState, RuntimeState
from pantala_protocol.registry import Resolved


@dataclass(frozen=True, slots=True)
class PlanState:
    """What one plan leaves for the next. After a restart of the operator it is read from the object's status."""

    generation: int = 0
    """The newest generation of the object that was planned."""
    request: str = ""
    """The newest request for a run that was planned."""
    started: datetime | None = None
    completed: datetime | None = None
    scheduled: datetime | None = None
    """The newest due time of the schedule that was acted upon."""
    images: tuple[ImageStatus, ...] = ()
    ready: Condition | None = None


@dataclass(frozen=True, slots=True)
class ImageDemand:
    """Which images one object wants on which nodes, and how they get there."""

    metadata: Metadata
    """Of the object."""
    request: str
    """The value of the user's newest request for a run; empty: none."""
    former: PlanState
    images: tuple[SpecImage, ...]
    target: Target
    source: From | None = None
    pull_secrets: tuple[str, ...] = ()
    pod_selector: LabelSelector | None = None
    rollout: Rollout = field(default_factory=Rollout)
    retry_limit: int | None = None
    """Retries of a failed pull; ``None``: without a limit."""
    backoff_seconds: int = 10
    pull_timeout: int = 600
    deadline_seconds: int | None = None
    schedule: Schedule | None = None
    startup_taint: StartupTaint | None = None
    continuous: bool = True
    """Nodes that join later get the images as well."""
    follows: bool = False
    """Nodes get the new image when a tag moves."""
    planning: bool = False
    """Only report what would be done."""
    suspended: bool = False
    pin: bool = False
    byte_budget: int | None = None
    depth: Depth = Depth.RUNTIME
    itemized: bool = False
    """An image is useful only with its blobs known: in a report, and where the peer fetches them."""
    owns_tasks: bool = False
    """The operator creates a Task for each image."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment, StatefulSet or DaemonSet, whatever its replicas."""

    kind: str
    namespace: str
    name: str
    template: Mapping[str, Any] = field(default_factory=dict)
    """``spec.template`` as the API server gives it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The workloads and namespaces that a demand may follow."""

    workloads: tuple[Workload, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels of the namespaces, by name."""
    privileged: bool = False
    """Other namespaces may be followed."""


@dataclass(frozen=True, slots=True)
class RegistryAnswer:
    """What a registry answered about one image, through a supernode."""

    at: datetime
    resolved: Resolved
    platforms: frozenset[str] = frozenset()
    """The platforms in the question."""
    tries: int = 1
    """The number of consecutive failures, if this answer is a failure."""


@dataclass(frozen=True, slots=True)
class OwnedTask:
    """An existing Task, as far as the plan of an ImagePrefetch needs it."""

    name: str
    owner: str = ""
    """UID of the controller in its owner references; empty: none."""
    image: str = ""
    """``spec.source.image``."""
    platform: str = ""


class GivenOrder(NamedTuple):
    """An order to a node, and since when it stands; seconds since the epoch."""

    order: PullOrder
    at: int


Pulls = Mapping[str, Mapping[str, PullState]]
"""The nodes' reports, by the image's task name and the node's name."""
Orders = Mapping[str, Mapping[str, GivenOrder]]
"""The nodes' orders, by the image's task name and the node's name."""


@dataclass(frozen=True, slots=True)
class ObservedImages:
    """What is known besides the object itself."""

    cluster: ClusterNodes = field(default_factory=ClusterNodes)
    around: Surroundings = field(default_factory=Surroundings)
    secrets: Mapping[str, SecretReading] = field(default_factory=dict)
    """The Secrets of the object's namespace that were read, by name."""
    answers: Mapping[ImageKey, RegistryAnswer] = field(default_factory=dict)
    tasks: tuple[OwnedTask, ...] = ()
    """The Tasks of the object's namespace."""
    pulls: Pulls = field(default_factory=dict)
    """After a supernode's restart, a node that has not reported again counts with its report from before."""
    orders: Orders = field(default_factory=dict)
    """The orders of the plan before, if this process made one."""
    runtimes: Mapping[str, RuntimeState] = field(default_factory=dict)
    """The nodes' container runtimes, by node."""
    unsurveyed: frozenset[str] = frozenset()
    """Nodes that will report soon which blobs they have; mode ``Plan`` waits for them."""
    reported: bool = False
    """Every node that can report its pulls has done so."""
    may_cancel: bool = False
    """Running pulls may be cancelled before every node has reported. Unsafe only right after the operator's restart:
    a silent node may have images that the operator does not know of."""
    away: str = ""
    """Why a supernode does not answer; empty: all answer."""
    state: PlanState | None = None
    """What the plan before left, if this process made one."""
