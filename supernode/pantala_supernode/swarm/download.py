"""One client's download of one task, and what became of its deliveries. Pure.

The name is Dragonfly's. A client of ours is a peer, and its download ends in *deliveries*: one per Task resource that
wants the file at a path of that node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from pantala_protocol.sync import DeliveryState
from pantala_supernode.errors import EmptyValueError, NotFoundError


class DfgetTaskStatus(StrEnum):
    """How far a download is."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    FAILED = "FAILED"
    SUCCESS = "SUCCESS"


@dataclass(slots=True)
class DfgetTask:
    """One download: the key is (client, task)."""

    client: str
    task_id: str
    status: DfgetTaskStatus = DfgetTaskStatus.WAITING
    deliveries: dict[str, DeliveryState] = field(default_factory=dict)
    """By the UID of the Task resource."""


class DfgetTaskManager:
    """All downloads, by client and task."""

    def __init__(self) -> None:
        self._by_client: dict[str, dict[str, DfgetTask]] = {}

    def add(self, client: str, task_id: str) -> DfgetTask:
        """A client shall have a task. Idempotent. Raises :class:`EmptyValueError` without a client or a task."""
        if not client or not task_id:
            raise EmptyValueError("a download needs a client and a task")
        tasks = self._by_client.setdefault(client, {})
        return tasks.setdefault(task_id, DfgetTask(client, task_id))

    def get(self, client: str, task_id: str) -> DfgetTask | None:
        """One download, if it is known."""
        return self._by_client.get(client, {}).get(task_id)

    def known(self, client: str, task_id: str) -> DfgetTask:
        """One download. Raises :class:`EmptyValueError` for no client or task, :class:`NotFoundError`."""
        if not client or not task_id:
            raise EmptyValueError("name a client and a task")
        task = self.get(client, task_id)
        if task is None:
            raise NotFoundError(f"{client[:100]!r} does not download task {task_id[:64]!r}; register it again")
        return task

    def list(self, client: str) -> Iterator[DfgetTask]:
        """All downloads of a client."""
        return iter(tuple(self._by_client.get(client, {}).values()))

    def __iter__(self) -> Iterator[DfgetTask]:
        return (task for tasks in tuple(self._by_client.values()) for task in tuple(tasks.values()))

    def update_status(self, client: str, task_id: str, status: DfgetTaskStatus) -> None:
        """How far a download is. ``SUCCESS`` stays; an unknown download is not made."""
        task = self.get(client, task_id)
        if task is not None and task.status is not DfgetTaskStatus.SUCCESS:
            task.status = status

    def restart(self, client: str, task_id: str) -> None:
        """The task has new content: its download begins anew. What is published stays until it is replaced."""
        task = self.get(client, task_id)
        if task is not None:
            task.status = DfgetTaskStatus.WAITING

    def deliver(self, client: str, task_id: str, uid: str, state: DeliveryState | None) -> None:
        """What a client says of a delivery; ``None``: it is no longer there."""
        task = self.get(client, task_id)
        if task is None:
            return
        if state is None:
            task.deliveries.pop(uid, None)
        else:
            task.deliveries[uid] = state

    def delivery(self, client: str, task_id: str, uid: str) -> DeliveryState | None:
        """What became of a delivery on one client, if anything did."""
        task = self.get(client, task_id)
        return task.deliveries.get(uid) if task else None

    def delete(self, client: str, task_id: str) -> None:
        """The client does not want the task any more. Idempotent."""
        tasks = self._by_client.get(client, {})
        tasks.pop(task_id, None)
        if not tasks:
            self._by_client.pop(client, None)

    def delete_task(self, task_id: str) -> None:
        """Nobody downloads the task any more. Idempotent."""
        for client in tuple(self._by_client):
            self.delete(client, task_id)

    def delete_client(self, client: str) -> None:
        """The client is gone. Idempotent."""
        self._by_client.pop(client, None)
