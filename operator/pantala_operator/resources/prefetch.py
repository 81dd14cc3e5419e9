"""The ImagePrefetch resource, as far as the operator needs it; unknown fields are ignored. Pure."""

import hashlib
from datetime import datetime
from typing import ClassVar, Final, NamedTuple

import msgspec

from pantala_operator.resources.api import LateNode, Metadata, Target
from pantala_operator.resources.conditions import Condition, is_true
from pantala_protocol import image
from pantala_protocol.rules import requests
from pantala_protocol.rules.selection import LabelSelector

_LONGEST_NAME: Final = 253
_DIGITS: Final = 12


class ImageKey(NamedTuple):
    """One wanted image: its full reference and its platform.

    Without a platform, each node gets the image for its own platform.
    """

    reference: str
    platform: str = ""


class SpecImage(msgspec.Struct, frozen=True):
    """An image as the user writes it."""

    image: str
    platform: str = ""


class WorkloadReference(msgspec.Struct, frozen=True):
    """A workload in the same namespace."""

    kind: str
    name: str


class From(msgspec.Struct, frozen=True, rename="camel"):
    """The workloads whose images are wanted. Exactly one field is set."""

    workload_ref: WorkloadReference | None = None
    namespace_selector: LabelSelector | None = None


class PrefetchTarget(Target, frozen=True, rename="camel"):
    """Which nodes get the images."""

    pod_selector: LabelSelector | None = None


Share = int | str
"""A number of nodes, or a percentage of all nodes such as ``10%``."""


class Wave(msgspec.Struct, frozen=True, rename="camel"):
    """A group of nodes that start together."""

    node_selector: dict[str, str] = {}
    nodes: Share | None = None


class Rollout(msgspec.Struct, frozen=True, rename="camel"):
    """How fast, and in which order, nodes start to pull."""

    parallelism: Share | None = None
    per_node: int = 1
    max_failures: Share | None = None
    waves: tuple[Wave, ...] = ()


class PullRetry(msgspec.Struct, frozen=True, rename="camel"):
    """How failed pulls are repeated."""

    limit: int | None = None
    backoff_seconds: int = 10


class Schedule(msgspec.Struct, frozen=True, rename="camel"):
    """When runs start."""

    cron: str
    time_zone: str = "Etc/UTC"


class StartupTaint(msgspec.Struct, frozen=True, rename="camel"):
    """A taint that new nodes have until they have their images."""

    key: str
    deadline_seconds: int = 600


class Retention(msgspec.Struct, frozen=True, rename="camel"):
    """How the images are kept on nodes."""

    pin: bool = False
    byte_budget: str = ""


class PrefetchSpec(msgspec.Struct, frozen=True, rename="camel"):
    """The spec of an ImagePrefetch, as the user writes it."""

    images: tuple[SpecImage, ...] = ()
    source: From | None = msgspec.field(default=None, name="from")
    pull_secrets: tuple[str, ...] = ()
    target: PrefetchTarget = PrefetchTarget()
    rollout: Rollout = Rollout()
    retry: PullRetry = PullRetry()
    timeout_seconds_per_node: int = 600
    active_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None
    schedule: Schedule | None = None
    completion_policy: str = "Once"
    startup_taint: StartupTaint | None = None
    retention: Retention = Retention()
    update_policy: str = "Pin"
    mode: str = "Run"
    suspend: bool = False

    @property
    def votes(self) -> bool:
        """True if the plan has a vote on the startup taint."""
        return self.startup_taint is not None and not self.planning

    @property
    def continuous(self) -> bool:
        """True if nodes that join the cluster later also get the images."""
        return self.completion_policy == "Continuous"

    @property
    def follows(self) -> bool:
        """True if nodes get the new image when its tag moves."""
        return self.update_policy == "Follow"

    @property
    def planning(self) -> bool:
        """True if the operator only reports what it would do."""
        return self.mode == "Plan"


class ImageStatus(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The status of one image."""

    image: str
    platform: str = ""
    digest: str = ""
    latest_digest: str = ""
    resolved_time: datetime | None = None
    task: str = ""
    size: int | None = msgspec.field(default=None, name="bytes")
    desired: int | None = None
    active: int | None = None
    ready: int | None = None
    failed: int | None = None
    progress: str = ""

    @property
    def key(self) -> ImageKey:
        return ImageKey(self.image, self.platform)


class NodeCount(msgspec.Struct, frozen=True):
    """The numbers of selected nodes in each state."""

    desired: int = 0
    ready: int = 0
    active: int = 0
    failed: int = 0
    waiting: int = 0
    unavailable: int = 0
    late: int = 0


class PrefetchBytes(msgspec.Struct, frozen=True, rename="camel"):
    """Bytes of one run: all, received, and received per second."""

    total: int
    fetched: int
    per_second: int


class PullFailure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A failure on one node, or on all nodes if ``node`` is empty."""

    node: str = ""
    reason: str = ""
    image: str = ""
    message: str = ""


class NodeForecast(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What one node would fetch, in mode ``Plan``."""

    node: str
    size: int = msgspec.field(name="bytes")
    images: int = 0
    disk_free: int | None = None
    disk_free_after: int | None = None


class Forecast(msgspec.Struct, frozen=True, rename="camel"):
    """The report of mode ``Plan``."""

    size: int = msgspec.field(name="bytes")
    registry_bytes: int
    nodes: tuple[NodeForecast, ...]
    left_out: tuple[PullFailure, ...]
    nodes_total: int
    left_out_total: int


class PrefetchStatus(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The status of an ImagePrefetch. Only the operator writes it, always as a whole."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
    images: tuple[ImageStatus, ...] = ()
    nodes: NodeCount | None = None
    summary: str = ""
    size: str = ""
    transferred: PrefetchBytes | None = msgspec.field(default=None, name="bytes")
    progress: str = ""
    late: tuple[LateNode, ...] = ()
    failures: tuple[PullFailure, ...] = ()
    plan: Forecast | None = None
    start_time: datetime | None = None
    completion_time: datetime | None = None
    last_schedule_time: datetime | None = None
    next_schedule_time: datetime | None = None
    last_handled_request: str = ""


class ImagePrefetch(msgspec.Struct, frozen=True):
    """One ImagePrefetch resource."""

    kind: ClassVar = "ImagePrefetch"
    plural: ClassVar = "imageprefetches"
    metadata: Metadata
    spec: PrefetchSpec
    status: PrefetchStatus = PrefetchStatus()

    @property
    def is_ready(self) -> bool:
        return is_true(self.status.conditions, "Ready")

    @property
    def requested_at(self) -> str:
        return requests.requested(self.metadata.annotations, self.status.last_handled_request)


def task_name(owner: Metadata, key: ImageKey, digest: str) -> str:
    """The name of an image's Task. The same owner, image, platform and digest always give the same name."""
    suffix = hashlib.sha256("\0".join((owner.uid, *key, digest)).encode()).hexdigest()[:_DIGITS]
    return f"{owner.name[: _LONGEST_NAME - 1 - _DIGITS].rstrip('.-')}-{suffix}"


def is_named_by(owner: Metadata, name: str, reference: str, platform: str) -> bool:
    """True if ``owner`` gives this name to the Task of an image, by its digest and maybe its tag."""
    tagged = reference.partition("@")[0]
    plain = reference if ":" not in tagged.rpartition("/")[2] else tagged
    try:
        digest, key = image.parse(reference).digest, ImageKey(str(image.parse(plain)), platform)
    except ValueError:
        return False
    return bool(digest) and name == task_name(owner, key, digest)
