"""All writes to the API server: the latest plan wins, one request per object, a bounded number at once.

Nothing is kept after a failure but when to come again: the object is planned anew from what is known then.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import structlog

from pantala_operator.errors import ClusterConflictError, ClusterError, ClusterNotFoundError, ClusterUnavailableError
from pantala_operator.events import OperatorEvents, WriteEnded
from pantala_operator.plan.peer import PeerPlan
from pantala_operator.plan.task import Notice, TaskPlan
from pantala_operator.ports import Clock, ClusterAPI
from pantala_operator.resources import conditions
from pantala_operator.resources.api import PeerResource, PeerStatus, TaskResource
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.watch.observation import Observation

log = structlog.get_logger(__name__)

_AT_ONCE = 8
"""Requests under way at once."""
_SETTLING = 1.0
"""Seconds a finished Task may take to be finished again after an edit, before it is called unfinished."""
_PEER_INTERVAL = 30.0
"""Seconds between two writes of one Peer's numbers."""
_LONGEST_PAUSE = 8.0
"""Seconds between two tries, at most."""

Job = Callable[[], Awaitable[None]]


class Writer:
    """Holds what is to be written, by Task UID or ``peer/<name>``, until it is written."""

    def __init__(
        self,
        cluster: ClusterAPI,
        observation: Observation,
        events: OperatorEvents,
        clock: Clock,
        progress_interval: float,
    ) -> None:
        """``progress_interval``: seconds between two writes of one status that tell progress only."""
        self._cluster = cluster
        self._known = observation
        self._events = events
        self._clock = clock
        self._interval = progress_interval
        self._pending: dict[str, tuple[float, Job]] = {}
        self._queue: list[tuple[float, str]] = []
        self._busy: set[str] = set()
        self._written: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._closed_until = 0.0
        self._complaint = ""
        self._signal = asyncio.Event()

    def write(self, task: TaskResource, plan: TaskPlan) -> None:
        """Write what a plan says of a Task, when its time has come."""
        uid, now = task.metadata.uid, self._clock.monotonic()
        if plan.delete:
            self.submit(uid, now, partial(self._delete_task, task))
        elif plan.status == task.status:
            self.drop(uid)
        elif conditions.differ(task.status.conditions, plan.status.conditions):
            due = now + _SETTLING if plan.settling else now
            self.submit(uid, due, partial(self._apply_task, task, plan))
        else:
            self.submit(uid, self.progress_at(uid), partial(self._apply_task, task, plan))

    def drop(self, key: str) -> None:
        """What was to be written need not be any more."""
        self._pending.pop(key, None)

    def progress_at(self, key: str) -> float:
        """When progress of an object may be written again."""
        return self._written.get(key, -self._interval) + self._interval

    def wrote(self, key: str) -> None:
        """An object was written."""
        self._written[key] = self._clock.monotonic()

    async def tell(self, about: TaskResource | ImagePrefetch, notices: Iterable[Notice]) -> None:
        """Write Events; one that cannot be written is lost."""
        for notice in notices:
            try:
                await self._cluster.create_event(
                    about,
                    warning=notice.warning,
                    reason=notice.reason,
                    message=notice.message,
                    now=self._clock.now(),
                )
            except ClusterError as error:
                self._complain(error)

    def forget(self, uid: str) -> None:
        """The Task is gone."""
        for kept in (self._pending, self._written, self._failures, self._not_before):
            kept.pop(uid, None)

    async def run(self) -> None:
        """Write, for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._signal.clear()
                pause = self._start(group)
                try:
                    async with asyncio.timeout(pause):
                        await self._signal.wait()
                except TimeoutError:
                    pass

    def submit(self, key: str, due: float, job: Job) -> None:
        """Do a job at ``due`` (monotonic) unless a newer one of that key comes before; after a failure, later."""
        if key in self._busy:
            return  # It is planned anew as soon as the request under way has ended.
        due = max(due, self._not_before.get(key, due))
        if key in self._pending:
            due = min(due, self._pending[key][0])
        self._pending[key] = (due, job)
        heapq.heappush(self._queue, (due, key))
        self._signal.set()

    def _start(self, group: asyncio.TaskGroup) -> float | None:
        """Start what is due. Returns the seconds until something else may be; ``None``: when signalled."""
        now = self._clock.monotonic()
        if now < self._closed_until:
            return self._closed_until - now
        while self._queue and len(self._busy) < _AT_ONCE:
            due, key = self._queue[0]
            if key not in self._pending or self._pending[key][0] != due:
                heapq.heappop(self._queue)  # Superseded.
                continue
            if due > now:
                return due - now
            heapq.heappop(self._queue)
            _, job = self._pending.pop(key)
            self._busy.add(key)
            group.create_task(self._run(key, job))
        return None

    async def _run(self, key: str, job: Job) -> None:
        try:
            await job()
        except ClusterError as error:
            self._failed(key, error)
        except Exception as error:  # One object's fault must not end the writing of all others.
            log.exception("A write failed in an unexpected way; please report it", key=key)
            self._failed(key, ClusterError(repr(error)))
        else:
            self._failures.pop(key, None)
            self._not_before.pop(key, None)
        finally:
            self._busy.discard(key)
            self._signal.set()
            self._events.publish(WriteEnded(key))

    def _failed(self, key: str, error: ClusterError) -> None:
        self._complain(error)
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(2.0 ** (failures - 1), _LONGEST_PAUSE)
        self._not_before[key] = self._clock.monotonic() + pause
        if isinstance(error, ClusterUnavailableError):
            self._closed_until = self._clock.monotonic() + pause

    def _complain(self, error: ClusterError) -> None:
        """Log once per change: an outage concerns thousands of objects in the same way."""
        if str(error) != self._complaint:
            self._complaint = str(error)
            log.warning("The API server did not take a write; it is tried again", error=str(error))

    async def _apply_task(self, task: TaskResource, plan: TaskPlan) -> None:
        try:
            written = await self._cluster.apply_task_status(task, plan.status)
        except (ClusterConflictError, ClusterNotFoundError):
            await self._read_again(task)
            return
        self.wrote(task.metadata.uid)
        self._known.tasks.update(written)
        await self.tell(task, plan.notices)

    async def _delete_task(self, task: TaskResource) -> None:
        try:
            await self._cluster.delete_task(task)
        except (ClusterConflictError, ClusterNotFoundError):
            await self._read_again(task)
        else:
            self._known.tasks.remove(task)

    async def _read_again(self, task: TaskResource) -> None:
        try:
            fresh = await self._cluster.get_task(task.metadata.namespace, task.metadata.name)
        except ClusterNotFoundError:
            self._known.tasks.remove(task)
        else:
            if fresh.metadata.uid != task.metadata.uid:
                self._known.tasks.remove(task)
            self._known.tasks.update(fresh)
            self._events.publish(WriteEnded(fresh.metadata.uid))

    def write_peer(self, name: str, there: PeerResource | None, plan: PeerPlan) -> None:
        key, now = f"peer/{name}", self._clock.monotonic()
        if plan.create:
            self.submit(key, now, partial(self._create_peer, name))
        elif plan.delete and there is not None:
            self.submit(key, now, partial(self._delete_peer, there))
        elif there is None or plan.status is None or plan.status == there.status:
            self._pending.pop(key, None)
        else:
            changed = conditions.differ(there.status.conditions, plan.status.conditions)
            due = now if changed else self._written.get(key, -_PEER_INTERVAL) + _PEER_INTERVAL
            self.submit(key, due, partial(self._apply_peer, there, plan.status))

    async def _create_peer(self, name: str) -> None:
        self._known.peers.update(await self._cluster.create_peer(name))

    async def _apply_peer(self, there: PeerResource, status: PeerStatus) -> None:
        try:
            written = await self._cluster.apply_peer_status(there, status)
        except (ClusterConflictError, ClusterNotFoundError):
            return  # Watching or the next list tells what it is by now.
        self._written[f"peer/{there.metadata.name}"] = self._clock.monotonic()
        self._known.peers.update(written)

    async def _delete_peer(self, there: PeerResource) -> None:
        try:
            await self._cluster.delete_peer(there)
        except (ClusterConflictError, ClusterNotFoundError):
            return
        self._known.peers.remove(there)
