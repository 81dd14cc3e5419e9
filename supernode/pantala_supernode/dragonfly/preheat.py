"""Files that are fetched before anybody downloads them, as Dragonfly's API asks for it. Pure.

A preheat is a lease that no client holds: the CDN fetches the file, and whoever wants it within hours finds it there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pantala_protocol.statement import CDNStatus
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import ConflictError, EmptyValueError, NotFoundError, NotReadyError
from pantala_supernode.tasks.copy import FileSource
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.task import Lease, LeaseHolder, Task

_WANTED = 6 * 3600.0
"""Seconds that a preheated file is wanted."""
_REMEMBERED = 24 * 3600.0
"""Seconds that an ended preheat can be asked for."""
_MOST = 10_000


class PreheatStatus(StrEnum):
    """How far it is; it ends with FAILED or SUCCESS."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    FAILED = "FAILED"
    SUCCESS = "SUCCESS"


@dataclass(slots=True)
class Preheat:
    """One file's preheat; its ID is the task's."""

    id: TaskID
    started_at: float
    """Seconds since the epoch."""
    finished_at: float | None = None
    status: PreheatStatus = PreheatStatus.WAITING
    message: str = ""
    """Why it failed, or does not go on."""


@dataclass(frozen=True, slots=True)
class PreheatOrder:
    """What to fetch."""

    task_id: TaskID
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class PreheatManager:
    """All preheats. ``clock`` tells monotonic seconds, ``wall`` seconds since the epoch."""

    def __init__(
        self, leases: LeaseHolder, tasks: TaskManager, *, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._leases = leases
        self._tasks = tasks
        self._clock = clock
        self._wall = wall
        self._preheats: dict[str, Preheat] = {}

    def create(self, order: PreheatOrder) -> Preheat:
        """Have a file fetched. Raises :class:`ConflictError` if it is, or was with success."""
        former = self._preheats.get(order.task_id)
        if former is not None and former.status is not PreheatStatus.FAILED:
            raise ConflictError(f"this file is preheated already, by {former.id}")
        if former is None and len(self._preheats) >= _MOST:
            raise NotReadyError("too many preheats are remembered; delete some")
        now, task = self._clock(), self._tasks.get(order.task_id)
        attempt = task.lease.attempt if task is not None and task.lease is not None else ""
        if task is None or task.copy.given_up:
            attempt = f"preheat:{now:.3f}"
        preheat = self._preheats[order.task_id] = Preheat(order.task_id, self._wall())
        source = FileSource(order.url, order.headers, attempt=attempt)
        self._leases.lease(order.task_id, Lease(source, now + _WANTED))
        self.changed(order.task_id)
        return preheat

    def get(self, name: str) -> Preheat:
        """A preheat. Raises :class:`EmptyValueError`, :class:`NotFoundError`."""
        if not name:
            raise EmptyValueError("name a preheat")
        preheat = self._preheats.get(name)
        if preheat is None:
            raise NotFoundError(f"no preheat is named {name[:64]!r}")
        return preheat

    def __iter__(self) -> Iterator[Preheat]:
        return iter(tuple(self._preheats.values()))

    def delete(self, name: str) -> None:
        """Forget a preheat; one that runs is stopped, unless others want the file. Raises as :meth:`get`."""
        preheat = self.get(name)
        del self._preheats[name]
        task = self._tasks.get(name)
        if preheat.finished_at is None and task is not None and not task.fetchers:
            self._leases.end_lease(name, keep=True)

    def changed(self, task_id: str) -> None:
        """There is news of a task."""
        preheat = self._preheats.get(task_id)
        if preheat is None or preheat.finished_at is not None:
            return
        preheat.status, preheat.message = _state(self._tasks.get(task_id))
        if preheat.status in (PreheatStatus.FAILED, PreheatStatus.SUCCESS):
            preheat.finished_at = self._wall()

    def tick(self) -> None:
        """Forget what ended long ago; to be called now and then."""
        oldest = self._wall() - _REMEMBERED
        for name, preheat in list(self._preheats.items()):
            if preheat.finished_at is not None and preheat.finished_at < oldest:
                del self._preheats[name]


def _state(task: Task | None) -> tuple[PreheatStatus, str]:
    if task is None:
        return PreheatStatus.FAILED, "the task was deleted before it was whole"
    copy = task.copy
    message = copy.failure.message if copy.failure is not None else ""
    if task.complete:
        return PreheatStatus.SUCCESS, ""
    if task.copy.given_up:
        return PreheatStatus.FAILED, message
    return (PreheatStatus.WAITING if copy.status is CDNStatus.WAITING else PreheatStatus.RUNNING), message
