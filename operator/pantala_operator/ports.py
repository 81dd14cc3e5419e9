"""What the operator needs of the world, as interfaces."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from pantala_operator.plan.prefetch.images import Workload
from pantala_operator.plan.prefetch.reach import Pod
from pantala_operator.resources.api import Node, PeerResource, PeerStatus, Secret, TaskResource, TaskStatus
from pantala_operator.resources.prefetch import ImagePrefetch, PrefetchStatus
from pantala_operator.resources.workloads import StatefulSet
from pantala_protocol.registry import Resolve, Resolved
from pantala_protocol.statement import Changes, Statement, StatementReceipt


@dataclass(frozen=True, slots=True)
class Login:
    """How the API server is reached, for those that bring their own client."""

    server: str
    ca_path: str | None = None
    insecure: bool = False
    token: str | None = None
    certificate_path: str | None = None
    private_key_path: str | None = None
    proxy: str | None = None


class ClusterAPI(Protocol):
    """The API server. Each call ends within its timeout. It may raise a ``ClusterError``."""

    async def missing_kinds(self) -> list[str]:
        """Names of our custom resources that the API server does not serve."""
        ...

    async def list_tasks(self) -> list[TaskResource]:
        """All Tasks of all namespaces."""
        ...

    async def list_nodes(self) -> list[Node]:
        """All Nodes."""
        ...

    async def list_peers(self) -> list[PeerResource]:
        """All Peers."""
        ...

    async def list_prefetches(self) -> list[ImagePrefetch]:
        """All ImagePrefetches. Raises ``NotFoundError`` while their kind is not served."""
        ...

    async def list_workloads(self, kind: str, namespace: str) -> list[Workload]:
        """All of ``kind`` (``Deployment``, ``StatefulSet``, ``DaemonSet``) of a namespace; empty: of all of them."""
        ...

    async def list_namespaces(self) -> dict[str, dict[str, str]]:
        """The labels of all namespaces, by name."""
        ...

    async def list_pods(self, namespace: str) -> list[Pod]:
        """The pods that run in a namespace."""
        ...

    async def get_task(self, namespace: str, name: str) -> TaskResource:
        """One Task, fresh."""
        ...

    async def get_prefetch(self, namespace: str, name: str) -> ImagePrefetch:
        """One ImagePrefetch, fresh."""
        ...

    async def get_secret(self, namespace: str, name: str) -> Secret:
        """One Secret, fresh."""
        ...

    async def get_stateful_set(self, namespace: str, name: str) -> StatefulSet:
        """One StatefulSet, fresh."""
        ...

    async def apply_task_status(self, task: TaskResource, status: TaskStatus) -> TaskResource:
        """Write the whole status. Raises ``ConflictError`` if the Task changed since ``task`` was read."""
        ...

    async def apply_task(self, body: Mapping[str, Any]) -> TaskResource:
        """Make sure that a Task is there as ``body`` says."""
        ...

    async def delete_task(self, task: TaskResource) -> None:
        """Delete this Task, and no other that has its name by now (``ConflictError``)."""
        ...

    async def apply_prefetch_status(self, prefetch: ImagePrefetch, status: PrefetchStatus) -> ImagePrefetch:
        """Write the whole status. Raises ``ConflictError`` if it changed since ``prefetch`` was read."""
        ...

    async def delete_prefetch(self, prefetch: ImagePrefetch) -> None:
        """Delete this ImagePrefetch, and no other that has its name by now (``ConflictError``)."""
        ...

    async def remove_taint(self, node: str, key: str) -> Node:
        """Take the taints of that key off a Node, nothing else. Raises ``ConflictError`` if it changes meanwhile."""
        ...

    async def create_peer(self, name: str) -> PeerResource:
        """Make sure that the Peer is there."""
        ...

    async def apply_peer_status(self, peer: PeerResource, status: PeerStatus) -> PeerResource:
        """Write the whole status. Raises ``ConflictError`` if the Peer changed since ``peer`` was read."""
        ...

    async def delete_peer(self, peer: PeerResource) -> None:
        """Delete this Peer."""
        ...

    async def create_event(
        self, about: TaskResource | ImagePrefetch, *, warning: bool, reason: str, message: str, now: datetime
    ) -> None:
        """Write an Event about an object."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class SupernodeAPI(Protocol):
    """One supernode. Each call ends within its timeout. It may raise a ``SupernodeCallError``."""

    async def state(self, statement: Statement) -> StatementReceipt:
        """Say all that is wanted."""
        ...

    async def changes(self, boot: str, since: int, wait: float) -> Changes:
        """What changed since version ``since`` of ``boot``; held open up to ``wait`` seconds while nothing did."""
        ...

    async def resolve(self, question: Resolve) -> Resolved:
        """Ask an image's registry."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """UTC, in whole seconds, as Kubernetes writes times."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC).replace(microsecond=0)

    def monotonic(self) -> float:
        return time.monotonic()
