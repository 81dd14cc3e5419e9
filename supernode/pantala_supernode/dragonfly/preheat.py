"""Preheats: files that the supernode fetches before a client asks for them. Pure.

A preheat puts a lease on a task before a client requests it. So the CDN fetches the file and keeps it for hours.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import msgspec

from pantala_protocol.statement import CDNStatus
from pantala_supernode.dragonfly.wire import Registration
from pantala_supernode.errors import ConflictError, EmptyValueError, NotFoundError, NotReadyError
from pantala_supernode.tasks.copy import FileSource
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.shares import DRAGONFLY
from pantala_supernode.tasks.task import Lease, LeaseHolder, Task

_LEASE = 6 * 3600.0
"""Seconds that a preheat's lease lasts."""
_KEPT_FOR = timedelta(hours=24)
"""How long the REST API still shows a preheat after its end."""
_MAX_PREHEATS = 10_000


class PreheatStatus(StrEnum):
    """The state of a preheat. FAILED and SUCCESS are final."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    FAILED = "FAILED"
    SUCCESS = "SUCCESS"


class Preheat(msgspec.Struct, omit_defaults=True):
    """The preheat of one file, as the REST API shows it. Its ID is the ID of the task."""

    id: str = msgspec.field(name="ID")
    status: PreheatStatus
    started_at: datetime = msgspec.field(name="startTime")
    finished_at: datetime | None = msgspec.field(name="finishTime", default=None)
    message: str = msgspec.field(name="errorMsg", default="")
    """Why the preheat failed, or why it does not make progress."""


class PreheatManager:
    """All preheats. ``clock`` returns monotonic seconds, ``wall`` seconds since the epoch."""

    def __init__(
        self, leases: LeaseHolder, tasks: TaskManager, *, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._leases = leases
        self._tasks = tasks
        self._clock = clock
        self._wall = wall
        self._preheats: dict[str, Preheat] = {}

    def create(self, registration: Registration) -> Preheat:
        """Begin to fetch a file. Raises :class:`ConflictError` if the file has a preheat that did not fail."""
        task_id = registration.task_id
        former = self._preheats.get(task_id)
        if former is not None and former.status is not PreheatStatus.FAILED:
            raise ConflictError(f"this file already has the preheat {former.id}; read or delete that preheat")
        if former is None and len(self._preheats) >= _MAX_PREHEATS:
            raise NotReadyError("the supernode has too many preheats; delete some of them")
        now, task = self._clock(), self._tasks.get(task_id)
        attempt = task.lease.attempt if task is not None and task.lease is not None else ""
        if task is None or task.copy.given_up:
            attempt = f"preheat:{now:.3f}"
        preheat = self._preheats[task_id] = Preheat(task_id, PreheatStatus.WAITING, self._now())
        source = FileSource(registration.raw_url, registration.headers, attempt=attempt, tenants=frozenset({DRAGONFLY}))
        self._leases.lease(task_id, Lease(source, now + _LEASE))
        self.on_task_changed(task_id)
        return preheat

    def get(self, name: str) -> Preheat:
        """Return a preheat. Raises :class:`EmptyValueError`, :class:`NotFoundError`."""
        if not name:
            raise EmptyValueError("the preheat's ID is empty; name a preheat")
        preheat = self._preheats.get(name)
        if preheat is None:
            raise NotFoundError(f"preheat {name[:64]!r} is not known; list the preheats")
        return preheat

    def __iter__(self) -> Iterator[Preheat]:
        return iter(tuple(self._preheats.values()))

    def delete(self, name: str) -> None:
        """Delete a preheat, and end its lease unless clients fetch the file. Raises the errors of :meth:`get`."""
        preheat = self.get(name)
        del self._preheats[name]
        task = self._tasks.get(name)
        if preheat.finished_at is None and task is not None and not task.fetchers:
            self._leases.end_lease(name, keep=True)

    def on_task_changed(self, task_id: str) -> None:
        preheat = self._preheats.get(task_id)
        if preheat is None or preheat.finished_at is not None:
            return
        preheat.status, preheat.message = _state(self._tasks.get(task_id))
        if preheat.status in (PreheatStatus.FAILED, PreheatStatus.SUCCESS):
            preheat.finished_at = self._now()

    def tick(self) -> None:
        oldest = self._now() - _KEPT_FOR
        for name, preheat in list(self._preheats.items()):
            if preheat.finished_at is not None and preheat.finished_at < oldest:
                del self._preheats[name]

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._wall(), UTC)


def _state(task: Task | None) -> tuple[PreheatStatus, str]:
    if task is None:
        return PreheatStatus.FAILED, "the task was deleted before its copy was complete"
    if task.complete:
        return PreheatStatus.SUCCESS, ""
    copy = task.copy
    message = copy.failure.message if copy.failure is not None else ""
    if copy.given_up:
        return PreheatStatus.FAILED, message
    return (PreheatStatus.WAITING if copy.status is CDNStatus.WAITING else PreheatStatus.RUNNING), message
