"""The ports of the operator: the API server, the supernodes and the clock, as protocols."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from pantala_operator.plan.prefetch.inputs import Workload
from pantala_operator.plan.targets import Pod
from pantala_operator.resources.api import Metadata, Node, PeerResource, PeerStatus, Secret, TaskResource, TaskStatus
from pantala_operator.resources.conditions import Verdict
from pantala_operator.resources.lease import LeaseResource
from pantala_operator.resources.prefetch import ImagePrefetch, PrefetchStatus
from pantala_operator.resources.sources import SourcePolicy, SourcePolicyStatus
from pantala_operator.resources.status import Notice
from pantala_operator.resources.workloads import StatefulSet
from pantala_protocol.console.progress import Progress
from pantala_protocol.registry import Resolve, Resolved
from pantala_protocol.statement import Changes, Statement, StatementReceipt

Resource = TaskResource | Node | PeerResource | ImagePrefetch | SourcePolicy
"""A resource of a kind that the operator watches."""
R = TypeVar("R", bound=Resource)
ResourceStatus = TaskStatus | PeerStatus | PrefetchStatus | SourcePolicyStatus


class DataKind(StrEnum):
    """A kind of object with named values. The value is its plural name."""

    SECRET = "secrets"  # noqa: S105 - the name of a resource
    CONFIG_MAP = "configmaps"


class ClusterAPI(Protocol):
    """The API server. Each call ends within its timeout. It may raise a ``ClusterError``."""

    async def missing_kinds(self) -> list[str]:
        """Names of our custom resources that the API server does not serve."""
        ...

    async def list_all(self, kind: type[R]) -> list[R]:
        """All resources of a kind. Raises ``ClusterNotFoundError`` while the kind is not served."""
        ...

    async def list_workloads(self, kind: str, namespace: str) -> list[Workload]:
        """List the objects of ``kind``: Deployment, StatefulSet or DaemonSet.

        An empty namespace means all namespaces.
        """
        ...

    async def list_namespaces(self) -> dict[str, dict[str, str]]:
        """The labels of all namespaces, by name."""
        ...

    async def list_pods(self, namespace: str) -> list[Pod]:
        """The running pods of a namespace."""
        ...

    async def read(self, resource: R) -> R:
        """Read the present state of the resource with this kind, namespace and name."""
        ...

    async def read_data(self, kind: DataKind, namespace: str, name: str) -> Secret:
        """Read a Secret or a ConfigMap, both in the same form. Only a Secret's values are in base64."""
        ...

    async def write_data(self, kind: DataKind, found: Metadata, data: Mapping[str, str | None]) -> None:
        """Set values. ``None`` removes one. Raises ``ClusterConflictError`` if the object changed since it was read.

        A replica that does not lead may do this, too, because it must sign certificates before it can lead.
        """
        ...

    async def read_document(self, path: str) -> Mapping[str, Any]:
        """Read a JSON document of the API server, such as the keys that verify tokens."""
        ...

    async def get_stateful_set(self, namespace: str, name: str) -> StatefulSet: ...

    async def apply(self, kind: type[R], body: Mapping[str, Any]) -> R:
        """Create the resource, or set the fields that are in ``body`` (server-side apply)."""
        ...

    async def apply_status(self, resource: R, status: ResourceStatus) -> R:
        """Replace the status. Raises ``ClusterConflictError`` if the resource has changed since it was read."""
        ...

    async def delete(self, resource: R) -> R | None:
        """Delete the resource. If another program's finalizer delays the deletion, returns the resource.

        Raises ``ClusterConflictError`` if it has changed, or another resource has its name.
        """
        ...

    async def remove_taint(self, node: str, key: str) -> Node:
        """Remove a Node's taints with this key. Raises ``ClusterConflictError`` if the Node changes meanwhile."""
        ...

    async def set_images_ready(self, node: Node, verdict: Verdict, now: datetime) -> Node:
        """Set the condition ``pantala.dev/ImagesReady`` of a Node."""
        ...

    async def create_event(
        self, about: TaskResource | ImagePrefetch | PeerResource, notice: Notice, now: datetime
    ) -> None: ...

    async def read_lease(self, metadata: Metadata) -> LeaseResource:
        """Read the Lease with this namespace and name."""
        ...

    async def write_lease(self, lease: LeaseResource) -> LeaseResource:
        """Replace the Lease, or create it if its metadata has no resource version.

        Raises ``ClusterConflictError`` if it has changed since it was read.
        """
        ...

    async def close(self) -> None: ...


class SupernodeAPI(Protocol):
    """One supernode. Each call ends within its timeout. It may raise a ``SupernodeCallError``."""

    async def state(self, statement: Statement) -> StatementReceipt:
        """Send a statement. It replaces all tasks and images that the supernode should have."""
        ...

    async def changes(self, boot: str, since: int, wait: float) -> Changes:
        """The changes since version ``since`` of the process ``boot``.

        If there are none, the supernode waits ``wait`` seconds for a change.
        """
        ...

    async def progress(self) -> Progress | None:
        """Which downloads are unfinished, and how fast they are.

        ``None``: an older supernode does not have the route.
        """
        ...

    async def resolve(self, question: Resolve) -> Resolved:
        """Let the supernode ask a registry for an image's digest, platforms and blobs."""
        ...

    async def close(self) -> None: ...


class HealthProbe(Protocol):
    """Asks the health ports of peers."""

    async def answers(self, name: str, host: str) -> bool:
        """True if the peer ``name`` at the address ``host`` answers at its health port in time."""
        ...

    async def close(self) -> None: ...


class Clock(Protocol):
    """A source of time."""

    def now(self) -> datetime:
        """The current time in UTC, without fractions of a second, as Kubernetes writes times."""
        ...

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back, from any start."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC).replace(microsecond=0)

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)  # it also counts while the machine sleeps
