"""What the operator needs of the world, as interfaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pantala_operator.resources import Node, Peer, PeerStatus, Secret, StatefulSet, Task, TaskStatus
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


class Cluster(Protocol):
    """The API server. Each call ends within its timeout, and raises a :class:`pantala_operator.errors.ClusterError`."""

    async def missing_kinds(self) -> list[str]:
        """Names of our custom resources that the API server does not serve."""
        ...

    async def list_tasks(self) -> list[Task]:
        """All Tasks of all namespaces."""
        ...

    async def list_nodes(self) -> list[Node]:
        """All Nodes."""
        ...

    async def list_peers(self) -> list[Peer]:
        """All Peers."""
        ...

    async def get_task(self, namespace: str, name: str) -> Task:
        """One Task, fresh."""
        ...

    async def get_secret(self, namespace: str, name: str) -> Secret:
        """One Secret, fresh."""
        ...

    async def get_stateful_set(self, namespace: str, name: str) -> StatefulSet:
        """One StatefulSet, fresh."""
        ...

    async def apply_task_status(self, task: Task, status: TaskStatus) -> Task:
        """Write the whole status. Raises ``ConflictError`` if the Task changed since ``task`` was read."""
        ...

    async def delete_task(self, task: Task) -> None:
        """Delete this Task, and no other that has its name by now (``ConflictError``)."""
        ...

    async def create_peer(self, name: str) -> Peer:
        """Make sure that the Peer is there."""
        ...

    async def apply_peer_status(self, peer: Peer, status: PeerStatus) -> Peer:
        """Write the whole status. Raises ``ConflictError`` if the Peer changed since ``peer`` was read."""
        ...

    async def delete_peer(self, peer: Peer) -> None:
        """Delete this Peer."""
        ...

    async def create_event(self, task: Task, *, warning: bool, reason: str, message: str, now: datetime) -> None:
        """Write an Event that regards ``task``."""
        ...


class Supernode(Protocol):
    """One supernode. Each call ends within its timeout, or raises :class:`pantala_operator.errors.SupernodeError`."""

    async def state(self, statement: Statement) -> StatementReceipt:
        """Say all that is wanted."""
        ...

    async def changes(self, boot: str, since: int, wait: float) -> Changes:
        """What changed since version ``since`` of ``boot``; held open up to ``wait`` seconds while nothing did."""
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


class Inbox(Protocol):
    """Where watch events go; never blocks."""

    def put(self, kind: str, event: str | None, body: Mapping[str, Any]) -> None:
        """An object of ``kind`` (``tasks``, ``nodes``, ``peers``) was seen; ``event`` is ``DELETED`` if it is gone."""
        ...


class Kinds(Protocol):
    """Whether the API server serves our custom resources."""

    async def served(self) -> None:
        """Return once it has said, after this call, that it does."""
        ...

    async def missing(self) -> None:
        """Return once it has said that it does not."""
        ...
