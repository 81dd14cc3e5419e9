"""Fakes of the API server and of the clock. tests/controlplane/test_cluster_port.py compares them with the real one."""

import asyncio
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from pantala_operator.adapters.kubernetes import pod, workload
from pantala_operator.errors import ClusterConflictError, ClusterError, ClusterForbiddenError, ClusterNotFoundError
from pantala_operator.plan.prefetch.inputs import Workload
from pantala_operator.plan.targets import Pod
from pantala_operator.ports import DataKind, R, ResourceStatus
from pantala_operator.resources.api import IMAGES_READY, Metadata, Node, PeerResource, Secret, TaskResource
from pantala_operator.resources.conditions import Verdict
from pantala_operator.resources.lease import LeaseResource
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.resources.status import Notice
from pantala_operator.resources.workloads import ForeignObject, StatefulSet
from pantala_operator.watch.kinds import ServedKinds
from pantala_operator.watch.observation import KINDS, ResourceInbox

Body = dict[str, Any]
_KINDS = (*KINDS, "secrets", "statefulsets", "deployments", "daemonsets", "configmaps", "namespaces", "pods")


class MemoryClock:
    """A :class:`pantala_operator.ports.Clock` that only :meth:`advance` moves."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0

    def advance(self, seconds: float) -> None:
        self._elapsed += seconds

    def now(self) -> datetime:
        return (self._start + timedelta(seconds=self._elapsed)).replace(microsecond=0)

    def monotonic(self) -> float:
        return 1000.0 + self._elapsed


class MemoryCluster:
    """A :class:`pantala_operator.ports.ClusterAPI`; users act by :meth:`put` and :meth:`remove`."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Body]] = {kind: {} for kind in _KINDS}
        self.events: list[tuple[str, str, str]] = []
        """The Events as (object, ``Normal`` or ``Warning``, reason), in the order they were written."""
        self.writes: list[str] = []
        """The keys of the objects that the operator has written, in order."""
        self.missing: list[str] = []
        """The CRDs that are not installed."""
        self.documents: dict[str, Mapping[str, Any]] = {}
        """Documents of the API server by their path, such as the keys that verify tokens."""
        self.outage: ClusterError | None = None
        """Raised by every call while it is set."""
        self.forbidden: set[str] = set()
        """The calls that are forbidden, as verb and resource: ``list tasks``."""
        self.leases: dict[str, LeaseResource] = {}
        self._inboxes: list[ResourceInbox] = []
        self._version = 0

    def put(self, kind: str, body: Body, *, watched: bool = True) -> Body:
        """Create or replace an object, as a user does. ``watched=False``: the watch misses it."""
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
            self._notify(kind, "MODIFIED" if former else "ADDED", body)
        return body

    def remove(self, kind: str, key: str, *, watched: bool = True) -> None:
        body = self.objects[kind].pop(key)
        body["metadata"]["resourceVersion"] = self._next()
        if watched:
            self._notify(kind, "DELETED", body)

    def task(self, key: str) -> TaskResource:
        return msgspec.convert(self.objects["tasks"][key], TaskResource)

    def prefetch(self, key: str) -> ImagePrefetch:
        return msgspec.convert(self.objects["imageprefetches"][key], ImagePrefetch)

    async def watch(self, inbox: ResourceInbox, kinds: ServedKinds) -> None:
        """Put all objects, and then all changes, into ``inbox`` until cancelled."""
        await kinds.served()
        inbox.begin()
        self._inboxes.append(inbox)
        for kind, objects in self.objects.items():
            for body in objects.values():
                self._notify(kind, None, body)
        try:
            await asyncio.Event().wait()
        finally:
            self._inboxes.remove(inbox)

    async def close(self) -> None: ...

    async def missing_kinds(self) -> list[str]:
        self._check("get kinds")
        return self.missing

    async def list_all(self, kind: type[R]) -> list[R]:
        if f"{kind.plural}.pantala.dev" in self.missing:
            raise ClusterNotFoundError("the server could not find the requested resource")
        return self._list(kind.plural, kind)

    async def list_workloads(self, kind: str, namespace: str) -> list[Workload]:
        found = self._list(f"{kind.lower()}s", ForeignObject)
        return [workload(kind, each) for each in found if namespace in ("", each.metadata.namespace)]

    async def list_namespaces(self) -> dict[str, dict[str, str]]:
        return {each.metadata.name: each.metadata.labels for each in self._list("namespaces", ForeignObject)}

    async def list_pods(self, namespace: str) -> list[Pod]:
        return [pod(each) for each in self._list("pods", ForeignObject) if each.metadata.namespace == namespace]

    async def read(self, resource: R) -> R:
        plural = resource.plural
        self._check(f"get {plural}")
        return msgspec.convert(self._get(plural, resource.metadata.key), type(resource))

    async def apply(self, kind: type[R], body: Mapping[str, Any]) -> R:
        plural, key = kind.plural, _key(body["metadata"])
        self._check(f"patch {plural}")
        former = self.objects[plural].get(key)
        known = body["metadata"].get("resourceVersion")
        if former is not None and known not in (None, former["metadata"]["resourceVersion"]):
            raise ClusterConflictError(f"{key} changed")
        if former is None or any(former.get(name) != value for name, value in body.items() if name != "metadata"):
            self.writes.append(f"{plural}/{key}")
            former = self.put(plural, {**deepcopy(former or {}), **body})
        return msgspec.convert(former, kind)

    async def apply_status(self, resource: R, status: ResourceStatus) -> R:
        plural, key = resource.plural, resource.metadata.key
        self._check(f"patch {plural}/status")
        body = self._get(plural, key)
        if body["metadata"]["resourceVersion"] != resource.metadata.resource_version:
            raise ClusterConflictError(f"{key} changed")
        wanted = msgspec.to_builtins(status)
        if body.get("status") != wanted:
            self.writes.append(key)
            body["status"] = wanted
            body["metadata"]["resourceVersion"] = self._next()
            self._notify(plural, "MODIFIED", body)
        return msgspec.convert(body, type(resource))

    async def delete(self, resource: R) -> R | None:
        plural, key = resource.plural, resource.metadata.key
        self._check(f"delete {plural}")
        body = self._get(plural, key)
        there = body["metadata"]
        if (there["uid"], there["resourceVersion"]) != (resource.metadata.uid, resource.metadata.resource_version):
            raise ClusterConflictError(f"{key} is another one, or has changed")
        if "finalizers" not in there:
            self.remove(plural, key)
            return None
        if "deletionTimestamp" not in there:
            body = self.put(plural, {**body, "metadata": {**there, "deletionTimestamp": "2026-01-01T00:00:00Z"}})
        return msgspec.convert(body, type(resource))

    async def remove_taint(self, node: str, key: str) -> Node:
        self._check("patch nodes")
        body = deepcopy(self._get("nodes", node))
        body["spec"]["taints"] = [taint for taint in body["spec"].get("taints", ()) if taint["key"] != key]
        return msgspec.convert(self.put("nodes", body), Node)

    async def set_images_ready(self, node: Node, verdict: Verdict, now: datetime) -> Node:
        self._check("patch nodes/status")
        body = deepcopy(self._get("nodes", node.metadata.name))
        conditions = body.setdefault("status", {}).setdefault("conditions", [])
        conditions[:] = [each for each in conditions if each["type"] != IMAGES_READY]
        conditions.append({"type": IMAGES_READY, **verdict._asdict()})
        return msgspec.convert(self.put("nodes", body), Node)

    async def read_data(self, kind: DataKind, namespace: str, name: str) -> Secret:
        self._check(f"get {kind}")
        return msgspec.convert(self._get(kind, f"{namespace}/{name}"), Secret)

    async def write_data(self, kind: DataKind, found: Metadata, data: Mapping[str, str | None]) -> None:
        self._check(f"patch {kind}")
        body = self._get(kind, found.key)
        if body["metadata"]["resourceVersion"] != found.resource_version:
            raise ClusterConflictError(f"{found.key} changed")
        merged = body.get("data", {}) | data
        body["data"] = {name: value for name, value in merged.items() if value is not None}
        body["metadata"]["resourceVersion"] = self._next()
        self.writes.append(f"{kind}/{found.key}")

    async def read_document(self, path: str) -> Mapping[str, Any]:
        self._check(f"get {path}")
        return self.documents[path]

    async def get_stateful_set(self, namespace: str, name: str) -> StatefulSet:
        self._check("get statefulsets")
        return msgspec.convert(self._get("statefulsets", f"{namespace}/{name}"), StatefulSet)

    async def create_event(
        self, about: TaskResource | ImagePrefetch | PeerResource, notice: Notice, now: datetime
    ) -> None:
        self._check("create events")
        self.events.append((about.metadata.key, "Warning" if notice.warning else "Normal", notice.reason))

    async def read_lease(self, metadata: Metadata) -> LeaseResource:
        self._check("get leases")
        if metadata.key not in self.leases:
            raise ClusterNotFoundError(f"leases {metadata.key} not found")
        return self.leases[metadata.key]

    async def write_lease(self, lease: LeaseResource) -> LeaseResource:
        self._check("update leases")
        key = lease.metadata.key
        known = self.leases[key].metadata.resource_version if key in self.leases else ""
        if lease.metadata.resource_version != known:
            raise ClusterConflictError(f"{key} changed")
        metadata = msgspec.structs.replace(lease.metadata, resource_version=self._next())
        self.leases[key] = msgspec.structs.replace(lease, metadata=metadata)
        return self.leases[key]

    def _check(self, call: str) -> None:
        if self.outage is not None:
            raise self.outage
        if call in self.forbidden:
            raise ClusterForbiddenError(f"{call} is forbidden")

    def _list(self, kind: str, into: type[Any]) -> list[Any]:
        self._check(f"list {kind}")
        return [msgspec.convert(body, into) for body in self.objects[kind].values()]

    def _get(self, kind: str, key: str) -> Body:
        if key not in self.objects[kind]:
            raise ClusterNotFoundError(f"{kind} {key} not found")
        return self.objects[kind][key]

    def _next(self) -> str:
        self._version += 1
        return str(self._version)

    def _notify(self, kind: str, event: str | None, body: Body) -> None:
        for inbox in self._inboxes if kind in KINDS else ():
            inbox.put(kind, event, deepcopy(body))


def _key(metadata: Body) -> str:
    return f"{metadata['namespace']}/{metadata['name']}" if "namespace" in metadata else str(metadata["name"])
