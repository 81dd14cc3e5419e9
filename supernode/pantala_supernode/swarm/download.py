"""One peer's download of one task, and its deliveries. Pure.

``DfgetTask`` is Dragonfly's name for a download. A peer's download ends in *deliveries*: one for each Task resource
that wants the file at a path on the peer's node.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from pantala_protocol.sync import DeliveryState
from pantala_supernode.errors import EmptyValueError, NotFoundError


class DfgetTaskStatus(StrEnum):
    """The status of a download."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    FAILED = "FAILED"
    SUCCESS = "SUCCESS"


@dataclass(slots=True)
class DfgetTask:
    """One download of a task by one peer."""

    peer: str
    task_id: str
    status: DfgetTaskStatus = DfgetTaskStatus.WAITING
    deliveries: dict[str, DeliveryState] = field(default_factory=dict)
    """The states of the deliveries, by the UID of the Task resource."""


class DfgetTaskManager:
    """The downloads of all peers, by peer and task."""

    def __init__(self) -> None:
        self._by_peer: dict[str, dict[str, DfgetTask]] = {}

    def add(self, peer: str, task_id: str) -> DfgetTask:
        """Add a download, or return the known download. Raises :class:`EmptyValueError` for an empty name."""
        if not peer or not task_id:
            raise EmptyValueError("The name of the peer or the task is empty. A download needs both.")
        tasks = self._by_peer.setdefault(peer, {})
        return tasks.setdefault(task_id, DfgetTask(peer, task_id))

    def get(self, peer: str, task_id: str) -> DfgetTask | None:
        return self._by_peer.get(peer, {}).get(task_id)

    def known(self, peer: str, task_id: str) -> DfgetTask:
        """Return a download. Raises :class:`EmptyValueError` (an empty name) or :class:`NotFoundError`."""
        if not peer or not task_id:
            raise EmptyValueError("The name of the peer or the task is empty. Give both.")
        task = self.get(peer, task_id)
        if task is None:
            raise NotFoundError(f"Peer {peer[:100]!r} does not download task {task_id[:64]!r}. Register it again.")
        return task

    def list(self, peer: str) -> Iterator[DfgetTask]:
        return iter(tuple(self._by_peer.get(peer, {}).values()))

    def __iter__(self) -> Iterator[DfgetTask]:
        return (task for tasks in tuple(self._by_peer.values()) for task in tuple(tasks.values()))

    def update_status(self, peer: str, task_id: str, status: DfgetTaskStatus) -> None:
        """Set the status of a download. Does nothing if the download is unknown or has the status ``SUCCESS``."""
        task = self.get(peer, task_id)
        if task is not None and task.status is not DfgetTaskStatus.SUCCESS:
            task.status = status

    def restart(self, peer: str, task_id: str) -> None:
        """Begin a download again, because the task has new content. Published files stay until they are replaced."""
        task = self.get(peer, task_id)
        if task is not None:
            task.status = DfgetTaskStatus.WAITING

    def deliver(self, peer: str, task_id: str, uid: str, state: DeliveryState | None) -> None:
        """Record the state of a delivery that a peer reports. ``None``: the file is no longer published."""
        task = self.get(peer, task_id)
        if task is None:
            return
        if state is None:
            task.deliveries.pop(uid, None)
        else:
            task.deliveries[uid] = state

    def delivery(self, peer: str, task_id: str, uid: str) -> DeliveryState | None:
        task = self.get(peer, task_id)
        return task.deliveries.get(uid) if task else None

    def delete(self, peer: str, task_id: str) -> None:
        tasks = self._by_peer.get(peer, {})
        tasks.pop(task_id, None)
        if not tasks:
            self._by_peer.pop(peer, None)

    def delete_task(self, task_id: str) -> None:
        for peer in tuple(self._by_peer):
            self.delete(peer, task_id)

    def delete_client(self, peer: str) -> None:
        self._by_peer.pop(peer, None)
