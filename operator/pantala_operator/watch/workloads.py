"""Lists workloads, namespaces and pods while an ImagePrefetch follows them, and again from time to time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from pantala_operator.errors import ClusterError
from pantala_operator.events import OperatorEvents, WorkloadsChanged
from pantala_operator.plan.prefetch.inputs import Surroundings, Workload
from pantala_operator.plan.targets import Pod
from pantala_operator.ports import Clock, ClusterAPI
from pantala_operator.resources.prefetch import ImagePrefetch

log = structlog.get_logger(__name__)

NAMESPACES, PODS = "Namespace", "Pod"
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
ListScope = tuple[str, str]
"""A kind and a namespace; an empty namespace means all."""

_SHARE = 0.005
"""Share of the time spent on one list: a list of 25 ms is made every 5 s, a longer one less often."""
_SOONEST, _LATEST = 5.0, 30.0
"""Seconds between two lists of the same scope, at least and at most."""
_FAILED = 5.0
"""Seconds until a failed list is tried again; the former list is used meanwhile."""
_TURN = 0.5


@dataclass
class WorkloadLists:
    """The last list of each scope."""

    workloads: dict[ListScope, tuple[Workload, ...]] = field(default_factory=dict)
    pods: dict[ListScope, tuple[Pod, ...]] = field(default_factory=dict)
    namespaces: dict[str, dict[str, str]] | None = None

    def has(self, need: ListScope) -> bool:
        if need[0] == NAMESPACES:
            return self.namespaces is not None
        return need in (self.pods if need[0] == PODS else self.workloads)

    def of(self, prefetch: ImagePrefetch, own: str) -> Surroundings:
        """What an ImagePrefetch may follow. ``own``: the operator's own namespace."""
        wanted = needs(prefetch, own)
        found = tuple(each for need in wanted for each in self.workloads.get(need, ()))
        return Surroundings(found, self.namespaces or {}, privileged=_privileged(prefetch, own))

    def forget(self, keep: Iterable[ListScope]) -> None:
        """Drop all scopes but these."""
        kept = set(keep)
        self.workloads = {need: found for need, found in self.workloads.items() if need in kept}
        self.pods = {need: found for need, found in self.pods.items() if need in kept}
        if (NAMESPACES, "") not in kept:
            self.namespaces = None


def needs(prefetch: ImagePrefetch, own: str) -> tuple[ListScope, ...]:
    """The lists that an ImagePrefetch needs: no more than it may see."""
    spec, namespace = prefetch.spec, prefetch.metadata.namespace
    wanted: list[ListScope] = []
    if spec.source is not None and spec.source.workload_ref is not None:
        wanted.append((spec.source.workload_ref.kind, namespace))
    elif spec.source is not None and spec.source.namespace_selector is not None and _privileged(prefetch, own):
        wanted += [(kind, "") for kind in WORKLOADS]
        wanted.append((NAMESPACES, ""))
    if spec.target.pod_selector is not None:
        wanted.append((PODS, namespace))
    return tuple(wanted)


def _privileged(prefetch: ImagePrefetch, own: str) -> bool:
    return bool(own) and prefetch.metadata.namespace == own


class WorkloadWatch:
    """Lists what the observed ImagePrefetches follow, and publishes ``WorkloadsChanged`` when a list differs."""

    def __init__(
        self,
        cluster: ClusterAPI,
        clock: Clock,
        lists: WorkloadLists,
        prefetches: Mapping[str, ImagePrefetch],
        events: OperatorEvents,
        home: str,
    ) -> None:
        """``home``: the operator's own namespace."""
        self._cluster = cluster
        self._clock = clock
        self._lists = lists
        self._prefetches = prefetches
        self._events = events
        self._home = home
        self._due: dict[ListScope, float] = {}
        self._complaints: dict[ListScope, str] = {}

    async def run(self) -> None:
        while True:
            await self.turn()
            await asyncio.sleep(_TURN)

    async def turn(self) -> None:
        """List what is due, and forget what no ImagePrefetch needs."""
        wanted = {need for each in self._prefetches.values() for need in needs(each, self._home)}
        for need in self._due.keys() - wanted:
            del self._due[need]
        self._lists.forget(wanted)
        now = self._clock.monotonic()
        for need in sorted(need for need in wanted if self._due.get(need, 0.0) <= now):
            await self._list(need)

    async def _list(self, need: ListScope) -> None:
        began = self._clock.monotonic()
        try:
            changed = await self._read(need)
        except ClusterError as error:
            if self._complaints.get(need) != str(error):
                self._complaints[need] = str(error)
                log.warning(
                    "A list that an ImagePrefetch needs failed. It is tried again.",
                    kind=need[0], namespace=need[1] or "all", error=str(error),
                )  # fmt: skip
            self._due[need] = self._clock.monotonic() + _FAILED
            return
        self._complaints.pop(need, None)
        ended = self._clock.monotonic()
        self._due[need] = ended + min(max(_SOONEST, (ended - began) / _SHARE), _LATEST)
        if changed:
            self._events.publish(WorkloadsChanged())

    async def _read(self, need: ListScope) -> bool:
        kind, namespace = need
        lists = self._lists
        first = not lists.has(need)
        if kind == NAMESPACES:
            labels = await self._cluster.list_namespaces()
            changed = labels != lists.namespaces
            lists.namespaces = labels
        elif kind == PODS:
            pods = tuple(sorted(await self._cluster.list_pods(namespace), key=lambda pod: (pod.node, str(pod.labels))))
            changed = pods != lists.pods.get(need)
            lists.pods[need] = pods
        else:
            found = tuple(sorted(await self._cluster.list_workloads(kind, namespace), key=_name))
            changed = found != lists.workloads.get(need)
            lists.workloads[need] = found
        return changed or first


def _name(workload: Workload) -> tuple[str, str]:
    return workload.namespace, workload.name
