"""Writes the newest planned state of each object to the API server, with a limited number of requests at once.

A failed write is dropped. The writer keeps only the earliest time of the next attempt, and the object is planned again.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
import structlog
from cachetools import LRUCache

from pantala_operator.errors import (
    ClusterConflictError,
    ClusterError,
    ClusterNotFoundError,
    ClusterUnavailableError,
)
from pantala_operator.events import LeadershipChanged, OperatorEvents, ResourceChanged, StatusWritten, WriteEnded
from pantala_operator.plan import peer
from pantala_operator.ports import Clock, ClusterAPI, R, Resource, ResourceStatus
from pantala_operator.resources import conditions
from pantala_operator.resources.api import Node, PeerResource, TaskResource, TaskSpec
from pantala_operator.resources.conditions import Verdict
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.resources.sources import SourcePolicy
from pantala_operator.resources.status import Notice, notices
from pantala_operator.term import Term
from pantala_operator.throttle import Throttle
from pantala_operator.watch.observation import Observation
from pantala_process.backoff import doubled, pause_until
from pantala_protocol.rules.requests import requested

log = structlog.get_logger(__name__)

_AT_ONCE = 8
"""Requests under way at once."""
SETTLING = 1.0
"""Seconds that a finished Task has to finish again after an edit, before its status says that it is unfinished."""
CATCHING_UP = 4.0
"""Seconds that a new operator has to learn which nodes are late, before a status says that no node is late."""
_PEER_INTERVAL = 30.0
"""Seconds between two writes of one Peer's numbers."""
_CHILDREN = 20_000
"""The Tasks of ImagePrefetches whose last apply is remembered."""
_LONGEST_PAUSE = 8.0
"""The longest pause after a failed write, in seconds."""
_REPEATED: Final = 2 * _LONGEST_PAUSE
"""Seconds after which a failed write was not repeated, so that its failures do not count any more."""

Job = Callable[[], Awaitable[None]]
Planned = TaskResource | PeerResource | ImagePrefetch | SourcePolicy


class _Failures(NamedTuple):
    """The failed writes of one object since its last success: how many, and the times of the first and the last."""

    number: int
    first: float
    last: float


class Writer:
    """Holds one write for each object until it is due. See :class:`WriteEnded` for the keys of objects."""

    def __init__(
        self,
        cluster: ClusterAPI,
        observation: Observation,
        events: OperatorEvents,
        clock: Clock,
        progress_interval: float,
        term: Term,
    ) -> None:
        """``progress_interval``: seconds between two writes of one status that differ in progress only."""
        self._cluster = cluster
        self._observation = observation
        self._events = events
        self._clock = clock
        self._interval = progress_interval
        self._term = term
        self._pending: dict[str, tuple[float, Job]] = {}
        self._queue: list[tuple[float, str]] = []
        self._busy: set[str] = set()
        self._written: dict[str, float] = {}
        self._failures: dict[str, _Failures] = {}
        self._not_before: dict[str, float] = {}
        self._closed_until = 0.0
        self._throttle = Throttle(clock)
        self._applied: LRUCache[str, tuple[int, TaskSpec]] = LRUCache(_CHILDREN)
        """The generation of each ImagePrefetch's Task after the last apply, and the spec that was applied."""
        self.done = 0
        """The writes that have succeeded since the start."""
        self.failed = 0
        """The writes that have failed since the start."""
        self._signal = asyncio.Event()
        events.subscribe(LeadershipChanged, self._on_leadership)

    @property
    def queued(self) -> int:
        """The number of planned writes that have not begun."""
        return len(self._pending)

    def lag(self) -> float:
        """The seconds by which the oldest planned write is overdue, or has failed. 0 if no write is late."""
        now = self._clock.monotonic()
        failing = (each.first for each in self._failures.values() if now - each.last <= _REPEATED)
        return now - min([now, *(due for due, _ in self._pending.values()), *failing])

    # Requests for writes.

    def write(
        self, resource: Planned, status: ResourceStatus, *, announce: bool = False, settling: float = 0.0
    ) -> None:
        """Write a status: at once if a condition differs, else at the progress interval.

        ``announce``: write Events for its conditions, too. ``settling``: delay a changed condition by this many
        seconds.
        """
        key, now = _key(resource), self._clock.monotonic()
        if status == resource.status:
            self.cancel(key)
            return
        if conditions.differ(resource.status.conditions, status.conditions):
            due = now + settling
        else:
            interval = _PEER_INTERVAL if isinstance(resource, PeerResource) else self._interval
            due = self._written.get(key, -interval) + interval
        self._submit(key, partial(self._apply_status, key, resource, status, announce), due)

    def cancel(self, key: str) -> None:
        """Drop an object's pending write."""
        self._pending.pop(key, None)

    def delete(self, resource: Resource) -> None:
        self._submit(_key(resource), partial(self._delete, resource))

    def create_peer(self, body: Mapping[str, Any]) -> None:
        self._submit(f"peer/{body['metadata']['name']}", partial(self._apply, PeerResource, body))

    def apply_children(self, bodies: Iterable[Mapping[str, Any]]) -> None:
        """Create an ImagePrefetch's Tasks, or change the Tasks that differ."""
        for body in bodies:
            wanted = msgspec.convert(body, TaskResource)
            key = wanted.metadata.key
            there = self._observation.tasks.items.get(key)
            if there is None:
                self._submit(f"child/{key}", partial(self._apply, TaskResource, body))
            elif not self._is_applied(there, wanted):
                # The version prevents that a plan of another term changes a Task that a newer plan has changed.
                known = {**body, "metadata": {**body["metadata"], "resourceVersion": there.metadata.resource_version}}
                self._submit(f"child/{key}", partial(self._apply, TaskResource, known))

    def _is_applied(self, there: TaskResource, wanted: TaskResource) -> bool:
        """True if ``there`` has the labels, the owners and the spec of ``wanted``.

        A user may add further fields to the spec. To apply ``wanted`` again would not remove them.
        """
        labels, owners = wanted.metadata.labels, wanted.metadata.owner_references
        mine = labels.items() <= there.metadata.labels.items() and set(owners) <= set(there.metadata.owner_references)
        applied = self._applied.get(there.metadata.key)
        return mine and (there.spec == wanted.spec or applied == (there.metadata.generation, wanted.spec))

    def delete_children(self, namespace: str, names: Iterable[str]) -> None:
        """Delete an ImagePrefetch's Tasks."""
        for key in (f"{namespace}/{name}" for name in names):
            there = self._observation.tasks.items.get(key)
            if there is not None:
                self._submit(f"child/{key}", partial(self._delete, there))

    def remove_taints(self, taints: Mapping[str, Iterable[str]]) -> None:
        """Remove startup taints from nodes. ``taints`` maps the key of each taint to the nodes."""
        for key, nodes in sorted(taints.items()):
            for node in sorted(nodes):
                self._submit(f"taint/{node}", partial(self._remove_taint, node, key))

    def set_images_ready(self, verdicts: Mapping[str, Verdict]) -> None:
        """Write the condition ``pantala.dev/ImagesReady`` of the nodes where it differs."""
        for name, verdict in sorted(verdicts.items()):
            node = self._observation.nodes.items.get(name)
            former = node.images_ready if node is not None else None
            if node is not None and (former is None or (former.status, former.reason) != verdict[:2]):
                self._submit(f"node/{name}", partial(self._set_images_ready, node, verdict))

    def forget(self, key: str) -> None:
        """Forget the pending write and the failures of a deleted object."""
        for kept in (self._pending, self._written, self._failures, self._not_before):
            kept.pop(key, None)

    # The time of each write.

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                self._signal.clear()
                pause = self._start(group)
                await pause_until(self._signal, pause)

    def _submit(self, key: str, job: Job, due: float | None = None) -> None:
        """Replace the object's pending job. It runs at ``due`` or now, or after the pause that follows a failure."""
        if key in self._busy:
            return  # the object is planned again when the running request ends
        if due is None:
            due = self._clock.monotonic()
        due = max(due, self._not_before.get(key, due))
        if key in self._pending:
            due = min(due, self._pending[key][0])
        self._pending[key] = (due, job)
        heapq.heappush(self._queue, (due, key))
        self._signal.set()

    def _start(self, group: asyncio.TaskGroup) -> float | None:
        """Start the jobs that are due. Returns the seconds until the next job. ``None``: wait for the signal."""
        now = self._clock.monotonic()
        if not self._term.leads:
            return None
        if now < self._closed_until:
            return self._closed_until - now
        while self._queue and len(self._busy) < _AT_ONCE:
            due, key = self._queue[0]
            if key not in self._pending or self._pending[key][0] != due:
                heapq.heappop(self._queue)  # superseded
                continue
            if due > now:
                return due - now
            heapq.heappop(self._queue)
            _, job = self._pending.pop(key)
            self._busy.add(key)
            group.create_task(self._run(key, job))
        return None

    def _on_leadership(self, _: LeadershipChanged) -> None:
        """Drop all writes that were planned in another term. The loop plans all objects again."""
        self._pending.clear()
        self._queue.clear()
        self._signal.set()

    async def _run(self, key: str, job: Job) -> None:
        try:
            await job()
        except ClusterError as error:
            self._fail(key, error)
        except Exception as error:  # an error with one object must not stop the writes of all other objects
            log.exception("A write failed because of a bug. Please report it.", key=key)
            self._fail(key, ClusterError(repr(error)))
        else:
            self.done += 1
            self._failures.pop(key, None)
            self._not_before.pop(key, None)
        finally:
            self._busy.discard(key)
            self._signal.set()
            self._events.publish(WriteEnded(key))

    def _fail(self, key: str, error: ClusterError) -> None:
        self._complain(error)
        self.failed += 1
        now = self._clock.monotonic()
        former = self._failures.get(key)
        if former is None or now - former.last > _REPEATED:  # It was cancelled meanwhile, or another operator led.
            former = _Failures(0, now, now)
        self._failures[key] = former._replace(number=former.number + 1, last=now)
        self._not_before[key] = now + doubled(1.0, _LONGEST_PAUSE, former.number + 1)
        if isinstance(error, ClusterUnavailableError):
            self._closed_until = self._not_before[key]

    def _complain(self, error: ClusterError) -> None:
        if self._throttle.passes(type(error)):
            log.warning("A write to the API server failed. The operator retries.", error=str(error))

    # The calls to the API server. The observation stores each answer, because the watch may bring it later.

    async def _apply_status(self, key: str, resource: Planned, status: ResourceStatus, announce: bool) -> None:
        try:
            written = await self._cluster.apply_status(resource, status)
        except (ClusterConflictError, ClusterNotFoundError):
            await self._read_again(resource)
            return
        self._written[key] = self._clock.monotonic()
        if self._observation.collection(type(written)).update(written):
            self._events.publish(StatusWritten(written))
        if announce and isinstance(written, PeerResource):
            await self._create_events(written, peer.notices(resource.status.conditions, status.conditions))
        elif announce and isinstance(written, TaskResource | ImagePrefetch):
            await self._create_events(written, notices(resource.status.conditions, status.conditions))

    async def _create_events(self, about: TaskResource | ImagePrefetch | PeerResource, found: Iterable[Notice]) -> None:
        """Write Events. Drop an Event that cannot be written, and an Event that repeats a recent one."""
        metadata = about.metadata
        attempt = metadata.uid, str(metadata.generation), requested(metadata.annotations)
        for each in found:
            if not self._throttle.passes(*attempt, each.reason):
                continue
            try:
                await self._cluster.create_event(about, each, self._clock.now())
            except ClusterError as error:
                self._complain(error)

    async def _apply(self, kind: type[R], body: Mapping[str, Any]) -> None:
        try:
            applied = await self._cluster.apply(kind, body)
        except ClusterConflictError:
            await self._read_again(msgspec.convert(body, kind))
            return
        self._observation.collection(kind).update(applied)
        if isinstance(applied, TaskResource):
            self._applied[applied.metadata.key] = applied.metadata.generation, msgspec.convert(body, TaskResource).spec

    async def _delete(self, resource: Resource) -> None:
        try:
            await self._cluster.delete(resource)
        except (ClusterConflictError, ClusterNotFoundError):
            await self._read_again(resource)
        else:
            self._observation.collection(type(resource)).remove(resource)

    async def _read_again(self, resource: Resource) -> None:
        collection = self._observation.collection(type(resource))
        try:
            fresh = await self._cluster.read(resource)
        except ClusterNotFoundError:
            collection.remove(resource)
            return
        if fresh.metadata.uid != resource.metadata.uid:
            collection.remove(resource)
        collection.update(fresh)
        self._events.publish(ResourceChanged(fresh))

    async def _remove_taint(self, node: str, key: str) -> None:
        try:
            self._observation.nodes.update(await self._cluster.remove_taint(node, key))
        except ClusterNotFoundError:
            return

    async def _set_images_ready(self, node: Node, verdict: Verdict) -> None:
        try:
            written = await self._cluster.set_images_ready(node, verdict, self._clock.now())
        except ClusterNotFoundError:
            return
        self._observation.nodes.update(written)


def _key(resource: Resource) -> str:
    return f"peer/{resource.metadata.name}" if isinstance(resource, PeerResource) else resource.metadata.uid
