"""What ImagePrefetches have the writer write: their status, their Tasks, and nodes without a startup taint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import msgspec

from pantala_operator.control.writer import Writer
from pantala_operator.errors import ClusterConflictError, ClusterNotFoundError
from pantala_operator.plan.task import Notice
from pantala_operator.ports import Clock, ClusterAPI
from pantala_operator.resources import conditions
from pantala_operator.resources.api import TaskResource
from pantala_operator.resources.prefetch import ImagePrefetch, PrefetchStatus
from pantala_operator.watch.observation import Observation


class PrefetchWriter:
    """Gives the writer jobs; what came of them is observed."""

    def __init__(self, cluster: ClusterAPI, observation: Observation, clock: Clock, writer: Writer) -> None:
        """Write nothing yet."""
        self._cluster = cluster
        self._known = observation
        self._clock = clock
        self._writer = writer

    def write(self, prefetch: ImagePrefetch, status: PrefetchStatus, notices: tuple[Notice, ...]) -> None:
        """Write a status, when its time has come: what is new at once, progress from time to time."""
        uid = prefetch.metadata.uid
        if status == prefetch.status:
            self._writer.drop(uid)
            return
        new = conditions.differ(prefetch.status.conditions, status.conditions)
        due = self._clock.monotonic() if new else self._writer.progress_at(uid)
        self._writer.submit(uid, due, partial(self._apply_status, prefetch, status, notices))

    def delete(self, prefetch: ImagePrefetch) -> None:
        """Delete it: its time is over."""
        self._submit(prefetch.metadata.uid, partial(self._delete, prefetch))

    def bring_up(self, bodies: Iterable[Mapping[str, Any]]) -> None:
        """Apply those Tasks that are not there, or not as they shall be."""
        for body in bodies:
            wanted = msgspec.convert(body, TaskResource)
            key = wanted.metadata.key
            there = self._known.tasks.items.get(key)
            if there is None or not _is_as(there, wanted):
                self._submit(f"child/{key}", partial(self._apply_task, body))

    def take_down(self, namespace: str, names: Iterable[str]) -> None:
        """Delete Tasks that nothing needs any more."""
        for name in names:
            there = self._known.tasks.items.get(f"{namespace}/{name}")
            if there is not None:
                self._submit(f"child/{namespace}/{name}", partial(self._delete_task, there))

    def release(self, taints: Mapping[str, Iterable[str]]) -> None:
        """Take startup taints, by key, off nodes."""
        for key, nodes in sorted(taints.items()):
            for node in sorted(nodes):
                self._submit(f"taint/{node}", partial(self._remove_taint, node, key))

    def _submit(self, key: str, job: partial[Any]) -> None:
        self._writer.submit(key, self._clock.monotonic(), job)

    async def _apply_status(self, prefetch: ImagePrefetch, status: PrefetchStatus, notices: tuple[Notice, ...]) -> None:
        try:
            written = await self._cluster.apply_prefetch_status(prefetch, status)
        except (ClusterConflictError, ClusterNotFoundError):
            await self._read_again(prefetch)
            return
        self._writer.wrote(prefetch.metadata.uid)
        self._known.prefetches.update(written)
        await self._writer.tell(prefetch, notices)

    async def _delete(self, prefetch: ImagePrefetch) -> None:
        try:
            await self._cluster.delete_prefetch(prefetch)
        except (ClusterConflictError, ClusterNotFoundError):
            await self._read_again(prefetch)
        else:
            self._known.prefetches.remove(prefetch)

    async def _read_again(self, prefetch: ImagePrefetch) -> None:
        metadata = prefetch.metadata
        try:
            fresh = await self._cluster.get_prefetch(metadata.namespace, metadata.name)
        except ClusterNotFoundError:
            self._known.prefetches.remove(prefetch)
        else:
            if fresh.metadata.uid != metadata.uid:
                self._known.prefetches.remove(prefetch)
            self._known.prefetches.update(fresh)

    async def _apply_task(self, body: Mapping[str, Any]) -> None:
        self._known.tasks.update(await self._cluster.apply_task(body))

    async def _delete_task(self, there: TaskResource) -> None:
        try:
            await self._cluster.delete_task(there)
        except (ClusterConflictError, ClusterNotFoundError):
            return  # Watching or the next list tells what it is by now.
        self._known.tasks.remove(there)

    async def _remove_taint(self, node: str, key: str) -> None:
        try:
            self._known.nodes.update(await self._cluster.remove_taint(node, key))
        except ClusterNotFoundError:
            return


def _is_as(there: TaskResource, wanted: TaskResource) -> bool:
    """Whether a Task is as its owner wants it; the API server fills in what is not said."""
    labels, owners = wanted.metadata.labels, wanted.metadata.owner_references
    mine = labels.items() <= there.metadata.labels.items() and set(owners) <= set(there.metadata.owner_references)
    return mine and there.spec == wanted.spec
