"""Fakes: an API server and a clock in memory, for tests. They keep the promises of the ports, faults included."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from pantala_operator.errors import ClusterConflictError, ClusterError, ClusterForbiddenError, ClusterNotFoundError
from pantala_operator.plan.prefetch.images import Workload
from pantala_operator.plan.prefetch.reach import Pod
from pantala_operator.resources.api import API_VERSION, Node, PeerResource, PeerStatus, Secret, TaskResource, TaskStatus
from pantala_operator.resources.prefetch import ImagePrefetch, PrefetchStatus
from pantala_operator.resources.workloads import Namespace, PodBody, StatefulSet, WorkloadBody
from pantala_operator.watch.kinds import ServedKinds
from pantala_operator.watch.observation import ResourceInbox

Body = dict[str, Any]
_KINDS = ("tasks", "nodes", "peers", "imageprefetches", "secrets", "statefulsets", "deployments", "daemonsets")
_WATCHED = frozenset(_KINDS[:4])


class MemoryClock:
    """A :class:`pantala_operator.ports.Clock` that stands still until told to go on."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        """Begin at ``start``."""
        self._start = start
        self._elapsed = 0.0

    def advance(self, seconds: float) -> None:
        """Go on."""
        self._elapsed += seconds

    def now(self) -> datetime:
        """See :class:`pantala_operator.ports.Clock`."""
        return (self._start + timedelta(seconds=self._elapsed)).replace(microsecond=0)

    def monotonic(self) -> float:
        """See :class:`pantala_operator.ports.Clock`."""
        return 1000.0 + self._elapsed


class MemoryCluster:
    """A :class:`pantala_operator.ports.ClusterAPI`; tests put objects in with :meth:`put` and :meth:`remove`."""

    def __init__(self) -> None:
        """Begin empty, with all kinds served and everything allowed."""
        self.objects: dict[str, dict[str, Body]] = {kind: {} for kind in (*_KINDS, "namespaces", "pods")}
        self.events: list[tuple[str, str, str]] = []
        """(object, ``Normal`` or ``Warning``, reason) in the order they were written."""
        self.writes: list[str] = []
        """Keys of objects written by the operator, in order."""
        self.missing: list[str] = []
        """What :meth:`missing_kinds` answers."""
        self.outage: ClusterError | None = None
        """Raised by every call while it is set."""
        self.forbidden: set[str] = set()
        """Names of calls that are refused."""
        self._inbox: ResourceInbox | None = None
        self._version = 0

    def put(self, kind: str, body: Body, *, watched: bool = True) -> Body:
        """Create or replace an object, as a user does; ``watched=False``: watching misses it."""
        body = deepcopy(body)
        metadata = body["metadata"]
        key = _key(metadata)
        former = self.objects[kind].get(key)
        metadata["resourceVersion"] = self._next()
        if former is None:
            metadata.setdefault("uid", f"uid-{self._version}")
            metadata.setdefault("generation", 1)
            metadata.setdefault("creationTimestamp", f"2026-01-01T00:00:{self._version % 60:02d}Z")
        else:
            for name in ("uid", "creationTimestamp"):
                metadata[name] = former["metadata"][name]
            changed = former.get("spec") != body.get("spec")
            metadata["generation"] = former["metadata"]["generation"] + changed
            body.setdefault("status", former.get("status", {}))
        self.objects[kind][key] = body
        if watched:
            self._tell(kind, "MODIFIED" if former else "ADDED", body)
        return body

    def remove(self, kind: str, key: str, *, watched: bool = True) -> None:
        """Delete an object."""
        body = self.objects[kind].pop(key)
        body["metadata"]["resourceVersion"] = self._next()
        if watched:
            self._tell(kind, "DELETED", body)

    def task(self, key: str) -> TaskResource:
        """One Task as it is now."""
        return msgspec.convert(self.objects["tasks"][key], TaskResource)

    def prefetch(self, key: str) -> ImagePrefetch:
        """One ImagePrefetch as it is now."""
        return msgspec.convert(self.objects["imageprefetches"][key], ImagePrefetch)

    async def watch(self, inbox: ResourceInbox, kinds: ServedKinds) -> None:
        """Put everything there is, then everything that happens, into ``inbox`` until cancelled."""
        await kinds.served()
        inbox.begin()
        self._inbox = inbox
        for kind, objects in self.objects.items():
            for body in objects.values():
                self._tell(kind, None, body)
        try:
            await asyncio.Event().wait()
        finally:
            self._inbox = None

    async def close(self) -> None:
        """See :class:`pantala_operator.ports.ClusterAPI`."""

    async def missing_kinds(self) -> list[str]:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        self._check("missing_kinds")
        return self.missing

    async def list_tasks(self) -> list[TaskResource]:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        return self._list("tasks", TaskResource)

    async def list_nodes(self) -> list[Node]:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        return self._list("nodes", Node)

    async def list_peers(self) -> list[PeerResource]:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        return self._list("peers", PeerResource)

    async def list_prefetches(self) -> list[ImagePrefetch]:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        if "imageprefetches.pantala.dev" in self.missing:
            raise ClusterNotFoundError("the server could not find the requested resource")
        return self._list("imageprefetches", ImagePrefetch)

    async def list_workloads(self, kind: str, namespace: str) -> list[Workload]:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        return [
            Workload(kind, each.metadata.namespace, each.metadata.name, each.spec.template)
            for each in self._list(f"{kind.lower()}s", WorkloadBody)
            if namespace in ("", each.metadata.namespace)
        ]

    async def list_namespaces(self) -> dict[str, dict[str, str]]:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        return {each.metadata.name: each.metadata.labels for each in self._list("namespaces", Namespace)}

    async def list_pods(self, namespace: str) -> list[Pod]:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        found = self._list("pods", PodBody)
        return [
            Pod(each.spec.node_name, each.metadata.labels) for each in found if each.metadata.namespace == namespace
        ]

    async def get_prefetch(self, namespace: str, name: str) -> ImagePrefetch:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        self._check("get_prefetch")
        return msgspec.convert(self._get("imageprefetches", f"{namespace}/{name}"), ImagePrefetch)

    async def apply_prefetch_status(self, prefetch: ImagePrefetch, status: PrefetchStatus) -> ImagePrefetch:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        self._check("apply_prefetch_status")
        body = self._apply_status("imageprefetches", prefetch.metadata.key, prefetch, status)
        return msgspec.convert(body, ImagePrefetch)

    async def delete_prefetch(self, prefetch: ImagePrefetch) -> None:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        self._check("delete_prefetch")
        self._delete("imageprefetches", prefetch)

    async def apply_task(self, body: Mapping[str, Any]) -> TaskResource:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        self._check("apply_task")
        return msgspec.convert(self.put("tasks", dict(body)), TaskResource)

    async def remove_taint(self, node: str, key: str) -> Node:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        self._check("remove_taint")
        body = deepcopy(self._get("nodes", node))
        body["spec"]["taints"] = [taint for taint in body["spec"].get("taints", ()) if taint["key"] != key]
        return msgspec.convert(self.put("nodes", body), Node)

    async def get_task(self, namespace: str, name: str) -> TaskResource:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        self._check("get_task")
        return msgspec.convert(self._get("tasks", f"{namespace}/{name}"), TaskResource)

    async def get_secret(self, namespace: str, name: str) -> Secret:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        self._check("get_secret")
        return msgspec.convert(self._get("secrets", f"{namespace}/{name}"), Secret)

    async def get_stateful_set(self, namespace: str, name: str) -> StatefulSet:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        self._check("get_stateful_set")
        return msgspec.convert(self._get("statefulsets", f"{namespace}/{name}"), StatefulSet)

    async def apply_task_status(self, task: TaskResource, status: TaskStatus) -> TaskResource:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        self._check("apply_task_status")
        return msgspec.convert(self._apply_status("tasks", task.metadata.key, task, status), TaskResource)

    async def delete_task(self, task: TaskResource) -> None:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        self._check("delete_task")
        self._delete("tasks", task)

    async def create_peer(self, name: str) -> PeerResource:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        self._check("create_peer")
        self.writes.append(f"peer/{name}")
        if name not in self.objects["peers"]:
            self.put("peers", {"apiVersion": API_VERSION, "kind": "Peer", "metadata": {"name": name}})
        return msgspec.convert(self.objects["peers"][name], PeerResource)

    async def apply_peer_status(self, peer: PeerResource, status: PeerStatus) -> PeerResource:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        self._check("apply_peer_status")
        return msgspec.convert(self._apply_status("peers", peer.metadata.key, peer, status), PeerResource)

    async def delete_peer(self, peer: PeerResource) -> None:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        self._check("delete_peer")
        self._delete("peers", peer)

    async def create_event(
        self, about: TaskResource | ImagePrefetch, *, warning: bool, reason: str, message: str, now: datetime
    ) -> None:
        """See :class:`pantala_operator.ports.ClusterAPI`."""
        self._check("create_event")
        self.events.append((about.metadata.key, "Warning" if warning else "Normal", reason))

    def _check(self, call: str) -> None:
        if self.outage is not None:
            raise self.outage
        if call in self.forbidden:
            raise ClusterForbiddenError(f"{call} is forbidden")

    def _list(self, kind: str, into: type[Any]) -> list[Any]:
        self._check(f"list_{kind}")
        return [msgspec.convert(body, into) for body in self.objects[kind].values()]

    def _get(self, kind: str, key: str) -> Body:
        if key not in self.objects[kind]:
            raise ClusterNotFoundError(f"{kind} {key} not found")
        return self.objects[kind][key]

    def _apply_status(
        self,
        kind: str,
        key: str,
        read: TaskResource | PeerResource | ImagePrefetch,
        status: TaskStatus | PeerStatus | PrefetchStatus,
    ) -> Body:
        body = self._get(kind, key)
        if body["metadata"]["resourceVersion"] != read.metadata.resource_version:
            raise ClusterConflictError(f"{key} changed")
        told = msgspec.to_builtins(status)
        if body.get("status") != told:
            self.writes.append(key)
            body["status"] = told
            body["metadata"]["resourceVersion"] = self._next()
            self._tell(kind, "MODIFIED", body)
        return body

    def _delete(self, kind: str, read: TaskResource | PeerResource | ImagePrefetch) -> None:
        body = self._get(kind, read.metadata.key)
        if body["metadata"]["uid"] != read.metadata.uid:
            raise ClusterConflictError(f"{read.metadata.key} is another one")
        self.remove(kind, read.metadata.key)

    def _next(self) -> str:
        self._version += 1
        return str(self._version)

    def _tell(self, kind: str, event: str | None, body: Body) -> None:
        if self._inbox is not None and kind in _WATCHED:
            self._inbox.put(kind, event, deepcopy(body))


def _key(metadata: Body) -> str:
    return f"{metadata['namespace']}/{metadata['name']}" if "namespace" in metadata else str(metadata["name"])
