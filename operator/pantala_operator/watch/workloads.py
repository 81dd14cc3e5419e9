"""Lists workloads, namespaces and pods repeatedly, while an ImagePrefetch takes images from them."""

import asyncio
from collections.abc import Mapping, Set
from typing import Any

import structlog

from pantala_operator.errors import ClusterError, ClusterForbiddenError
from pantala_operator.events import OperatorEvents, WorkloadsChanged
from pantala_operator.plan.prefetch.inputs import Surroundings
from pantala_operator.plan.targets import Pod
from pantala_operator.ports import Clock, ClusterAPI
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.throttle import Throttle

log = structlog.get_logger(__name__)

_NAMESPACES, _PODS = "Namespace", "Pod"
_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
ListScope = tuple[str, str]
"""A kind and a namespace; an empty namespace means all."""

_SHARE = 0.005
"""The share of time for one list: a list that takes 25 ms is made every 5 s, and a longer list less often."""
_SOONEST, _LATEST = 5.0, 30.0
"""The least and the most seconds between two lists of the same scope."""
_FAILED = 5.0
"""Seconds until a failed list is tried again; the former list is used meanwhile."""
_TURN = 0.5


class WorkloadLists:
    """The last list of each scope, and the part of it that an ImagePrefetch may use."""

    def __init__(self, home: str) -> None:
        """``home``: the operator's own namespace. Only ImagePrefetches there may use workloads of other namespaces."""
        self._home = home
        self._lists: dict[ListScope, Any] = {}

    def needs(self, prefetch: ImagePrefetch) -> frozenset[ListScope]:
        """The lists that an ImagePrefetch needs."""
        source, namespace = prefetch.spec.source, prefetch.metadata.namespace
        wanted: set[ListScope] = set()
        if source is not None and source.workload_ref is not None:
            wanted.add((source.workload_ref.kind, namespace))
        elif source is not None and source.namespace_selector is not None and self.is_privileged(prefetch):
            wanted.update((kind, "") for kind in (*_WORKLOADS, _NAMESPACES))
        if prefetch.spec.target.pod_selector is not None:
            wanted.add((_PODS, namespace))
        return frozenset(wanted)

    def are_read(self, prefetch: ImagePrefetch) -> bool:
        """True if all lists that ``prefetch`` needs were read."""
        return self.needs(prefetch) <= self._lists.keys()

    def surroundings(self, prefetch: ImagePrefetch) -> Surroundings:
        """The workloads and namespaces that ``prefetch`` may take images from."""
        found = {kind: self._lists.get((kind, namespace), ()) for kind, namespace in self.needs(prefetch)}
        workloads = tuple(each for kind in _WORKLOADS for each in found.get(kind, ()))
        return Surroundings(workloads, dict(found.get(_NAMESPACES, ())), self.is_privileged(prefetch))

    def pods(self, namespace: str) -> tuple[Pod, ...] | None:
        """The running pods of a namespace. ``None``: the operator may not list them."""
        found: tuple[Pod, ...] | None = self._lists.get((_PODS, namespace), ())
        return found

    def update(self, scope: ListScope, found: tuple[Any, ...] | None) -> bool:
        """Store a list. Returns True if it differs from the previous list of this scope."""
        changed = self._lists.get(scope) != found
        self._lists[scope] = found
        return changed

    def forget(self, keep: Set[ListScope]) -> None:
        """Forget the lists of all other scopes."""
        for scope in self._lists.keys() - keep:
            del self._lists[scope]

    def is_privileged(self, prefetch: ImagePrefetch) -> bool:
        """True if ``prefetch`` is in the operator's own namespace."""
        return bool(self._home) and prefetch.metadata.namespace == self._home


class WorkloadWatch:
    """Makes the lists that the observed ImagePrefetches need. Publishes ``WorkloadsChanged`` when a list differs."""

    def __init__(
        self,
        cluster: ClusterAPI,
        clock: Clock,
        lists: WorkloadLists,
        prefetches: Mapping[str, ImagePrefetch],
        events: OperatorEvents,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._lists = lists
        self._prefetches = prefetches
        self._events = events
        self._due: dict[ListScope, float] = {}
        self._throttle = Throttle(clock)

    async def run(self) -> None:
        while True:
            await self.turn()
            await asyncio.sleep(_TURN)

    async def turn(self) -> None:
        """Make the lists that are due, and forget those that no ImagePrefetch needs."""
        wanted = {need for each in self._prefetches.values() for need in self._lists.needs(each)}
        for need in self._due.keys() - wanted:
            del self._due[need]
        self._lists.forget(wanted)
        now = self._clock.monotonic()
        for need in sorted(need for need in wanted if self._due.get(need, 0.0) <= now):
            await self._list(need)

    async def _list(self, need: ListScope) -> None:
        began = self._clock.monotonic()
        try:
            changed = self._lists.update(need, await self._read(*need))
        except ClusterError as error:
            if self._throttle.passes(need, type(error)):
                log.warning(
                    "A list of workloads for an ImagePrefetch failed. The operator retries.",
                    kind=need[0], namespace=need[1] or "all", error=str(error),
                )  # fmt: skip
            self._due[need] = self._clock.monotonic() + _FAILED
            return
        ended = self._clock.monotonic()
        self._due[need] = ended + min(max(_SOONEST, (ended - began) / _SHARE), _LATEST)
        if changed:
            self._events.publish(WorkloadsChanged())

    async def _read(self, kind: str, namespace: str) -> tuple[Any, ...] | None:
        """Make one list, sorted, so that equal lists compare equal."""
        if kind == _NAMESPACES:
            return tuple(sorted((await self._cluster.list_namespaces()).items()))
        if kind == _PODS:
            try:
                return tuple(sorted(await self._cluster.list_pods(namespace), key=repr))
            except ClusterForbiddenError:
                return None
        workloads = await self._cluster.list_workloads(kind, namespace)
        return tuple(sorted(workloads, key=lambda each: (each.namespace, each.name)))
