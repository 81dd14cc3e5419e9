"""Writes the newest planned state of each object to the API server."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import msgspec
from cachetools import LRUCache

from pantala_operator.control.write_queue import WriteQueue
from pantala_operator.errors import ClusterConflictError, ClusterError, ClusterNotFoundError
from pantala_operator.events import OperatorEvents, ResourceChanged, StatusWritten
from pantala_operator.plan import peer
from pantala_operator.ports import Clock, ClusterAPI, R, Resource, ResourceStatus
from pantala_operator.resources import conditions
from pantala_operator.resources.api import Node, PeerResource, TaskResource, TaskSpec
from pantala_operator.resources.conditions import Verdict
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.resources.sources import SourcePolicy
from pantala_operator.resources.status import Notice, notices
from pantala_operator.throttle import Throttle
from pantala_operator.watch.observation import Observation
from pantala_protocol.rules.requests import requested

SETTLING = 1.0
"""Seconds that a finished Task has to finish again after an edit, before its status says that it is unfinished."""
CATCHING_UP = 4.0
"""Seconds that a new operator has to learn which nodes are late, before a status says that no node is late."""
_PEER_INTERVAL = 30.0
"""Seconds between two writes of one Peer's numbers."""
_CHILDREN = 20_000
"""The Tasks of ImagePrefetches whose last apply is remembered."""

Planned = TaskResource | PeerResource | ImagePrefetch | SourcePolicy


class _LastWrite(NamedTuple):
    at: float
    """Monotonic seconds."""
    version: str
    """The version of the written object."""
    status: int
    """The hash of the status."""


class Writer:
    """Makes the writes that plans ask for, and decides when each is due."""

    def __init__(
        self,
        queue: WriteQueue,
        cluster: ClusterAPI,
        observation: Observation,
        events: OperatorEvents,
        clock: Clock,
        progress_interval: float,
    ) -> None:
        """``progress_interval``: seconds between two writes of one status that differ in progress only."""
        self._queue = queue
        self._cluster = cluster
        self._observation = observation
        self._events = events
        self._clock = clock
        self._interval = progress_interval
        self._written: dict[str, _LastWrite] = {}
        """The last write of each status."""
        self._announced = Throttle(clock)
        self._applied: LRUCache[str, tuple[int, TaskSpec]] = LRUCache(_CHILDREN)
        """The generation of each ImagePrefetch's Task after the last apply, and the spec that was applied."""

    # Requests for writes.

    def write(
        self,
        resource: Planned,
        status: ResourceStatus,
        *,
        announce: bool = False,
        settling: float = 0.0,
        expired: bool = False,
    ) -> None:
        """Write a status: at once if a condition differs, else at the progress interval.

        ``announce``: write Events for its conditions, too. ``settling``: delay a changed condition by this many
        seconds. ``expired``: delete the resource when the API server has its last conditions.
        """
        key, now, version = _key(resource), self._clock.monotonic(), resource.metadata.resource_version
        last = self._written.get(key)
        # A webhook may change the status, so what the API server has may differ from what was written.
        done = status == resource.status or (last is not None and last[1:] == (version, hash(status)))
        differ = not done and conditions.differ(resource.status.conditions, status.conditions)
        if expired and not differ:
            self.delete(resource)
            return
        if done:
            self.cancel(key)
            return
        interval = _PEER_INTERVAL if isinstance(resource, PeerResource) else self._interval
        earliest = now if last is None else max(now, last.at + interval)
        due = now + settling if differ else earliest
        self._queue.submit(key, partial(self._apply_status, key, resource, status, announce), due)

    def cancel(self, key: str) -> None:
        self._queue.cancel(key)

    def delete(self, resource: Resource, key: str = "") -> None:
        if resource.metadata.deletion_timestamp is None:
            self._queue.submit(key or _key(resource), partial(self._delete, resource))

    def create_peer(self, body: Mapping[str, Any]) -> None:
        self._queue.submit(f"peer/{body['metadata']['name']}", partial(self._apply, PeerResource, body))

    def apply_children(self, bodies: Iterable[Mapping[str, Any]]) -> None:
        """Create an ImagePrefetch's Tasks, or change the Tasks that differ."""
        for body in bodies:
            wanted = msgspec.convert(body, TaskResource)
            key = wanted.metadata.key
            there = self._observation.tasks.items.get(key)
            if there is None:
                self._queue.submit(f"child/{key}", partial(self._apply, TaskResource, body))
            elif not self._is_applied(there, wanted):
                # The version prevents that a plan of another term changes a Task that a newer plan has changed.
                known = {**body, "metadata": {**body["metadata"], "resourceVersion": there.metadata.resource_version}}
                self._queue.submit(f"child/{key}", partial(self._apply, TaskResource, known))

    def _is_applied(self, there: TaskResource, wanted: TaskResource) -> bool:
        """True if ``there`` has the labels, the owners and the spec of ``wanted``.

        A user may add further fields to the spec. To apply ``wanted`` again would not remove them.
        """
        labels, owners = wanted.metadata.labels, wanted.metadata.owner_references
        mine = labels.items() <= there.metadata.labels.items() and set(owners) <= set(there.metadata.owner_references)
        applied = self._applied.get(there.metadata.key)
        return mine and (there.spec == wanted.spec or applied == (there.metadata.generation, wanted.spec))

    def delete_children(self, namespace: str, names: Iterable[str]) -> None:
        for key in (f"{namespace}/{name}" for name in names):
            there = self._observation.tasks.items.get(key)
            if there is not None:
                self.delete(there, f"child/{key}")

    def remove_taints(self, taints: Mapping[str, Iterable[str]]) -> None:
        """Remove startup taints from nodes. ``taints`` maps the key of each taint to the nodes."""
        for key, nodes in sorted(taints.items()):
            for node in sorted(nodes):
                self._queue.submit(f"taint/{node}", partial(self._remove_taint, node, key))

    def set_images_ready(self, verdicts: Mapping[str, Verdict]) -> None:
        """Write the condition ``pantala.dev/ImagesReady`` of the nodes where it differs."""
        for name, verdict in sorted(verdicts.items()):
            node = self._observation.nodes.items.get(name)
            former = node.images_ready if node is not None else None
            if node is not None and (former is None or (former.status, former.reason) != verdict[:2]):
                self._queue.submit(f"node/{name}", partial(self._set_images_ready, node, verdict))

    def forget(self, key: str) -> None:
        """Forget the pending write and the failures of a deleted object."""
        self._written.pop(key, None)
        self._queue.forget(key)

    # The calls to the API server. The observation stores each answer, because the watch may bring it later.

    async def _apply_status(self, key: str, resource: Planned, status: ResourceStatus, announce: bool) -> None:
        try:
            written = await self._cluster.apply_status(resource, status)
        except (ClusterConflictError, ClusterNotFoundError) as error:
            await self._read_again(resource, error)
            return
        self._written[key] = _LastWrite(self._clock.monotonic(), written.metadata.resource_version, hash(status))
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
            if not self._announced.passes(*attempt, each.reason):
                continue
            try:
                await self._cluster.create_event(about, each, self._clock.now())
            except ClusterError as error:
                self._queue.complain(error)

    async def _apply(self, kind: type[R], body: Mapping[str, Any]) -> None:
        try:
            applied = await self._cluster.apply(kind, body)
        except ClusterConflictError as error:
            await self._read_again(msgspec.convert(body, kind), error)
            return
        self._observation.collection(kind).update(applied)
        if isinstance(applied, TaskResource):
            self._applied[applied.metadata.key] = applied.metadata.generation, msgspec.convert(body, TaskResource).spec

    async def _delete(self, resource: Resource) -> None:
        collection = self._observation.collection(type(resource))
        try:
            left = await self._cluster.delete(resource)
        except (ClusterConflictError, ClusterNotFoundError) as error:
            await self._read_again(resource, error)
            return
        if left is None:
            collection.remove(resource)
        else:
            collection.update(left)
            self._events.publish(ResourceChanged(left))

    async def _read_again(self, resource: Resource, refused: ClusterError) -> None:
        """Store the present state. Raises ``refused`` if nothing has changed, so that the next attempt waits."""
        collection = self._observation.collection(type(resource))
        try:
            fresh = await self._cluster.read(resource)
        except ClusterNotFoundError:
            collection.remove(resource)
            if not resource.metadata.uid:
                raise refused from None  # the API server refuses to create it
            return
        if fresh.metadata.resource_version == resource.metadata.resource_version:
            raise refused
        if fresh.metadata.uid != resource.metadata.uid:
            collection.remove(resource)
        collection.update(fresh)
        self._events.publish(ResourceChanged(fresh))

    async def _remove_taint(self, node: str, key: str) -> None:
        with suppress(ClusterNotFoundError):
            self._observation.nodes.update(await self._cluster.remove_taint(node, key))

    async def _set_images_ready(self, node: Node, verdict: Verdict) -> None:
        with suppress(ClusterNotFoundError):
            self._observation.nodes.update(await self._cluster.set_images_ready(node, verdict, self._clock.now()))


def _key(resource: Resource) -> str:
    return resource.metadata.uid if resource.metadata.namespace else f"{resource.kind.lower()}/{resource.metadata.name}"
