"""Workloads, namespaces and pods: listed only while some ImagePrefetch asks for them, and again from time to time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from pantala_operator.errors import ClusterError
from pantala_operator.plan.prefetch.images import Surroundings, Workload
from pantala_operator.plan.prefetch.reach import Pod
from pantala_operator.ports import Clock, ClusterAPI
from pantala_operator.resources.prefetch import ImagePrefetch

log = structlog.get_logger(__name__)

NAMESPACES, PODS = "Namespace", "Pod"
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
ListScope = tuple[str, str]
"""A kind, and a namespace; empty: all of them."""

_SHARE = 0.005
"""Of the time that a list may take: one that takes 25 ms is made every 5 s, a long one rarely."""
_SOONEST, _LATEST = 5.0, 30.0
"""Seconds between two lists of the same, at least and at most."""
_FAILED = 5.0
"""Seconds until a list that failed is tried again; what was read before is used meanwhile."""
_TURN = 0.5


@dataclass
class WorkloadLists:
    """What was listed, by need."""

    workloads: dict[ListScope, tuple[Workload, ...]] = field(default_factory=dict)
    pods: dict[ListScope, tuple[Pod, ...]] = field(default_factory=dict)
    namespaces: dict[str, dict[str, str]] | None = None

    def has(self, need: ListScope) -> bool:
        """Whether it was read."""
        if need[0] == NAMESPACES:
            return self.namespaces is not None
        return need in (self.pods if need[0] == PODS else self.workloads)

    def of(self, prefetch: ImagePrefetch, own: str) -> Surroundings:
        """What an ImagePrefetch may follow; ``own``: the operator's own namespace."""
        wanted = needs(prefetch, own)
        found = tuple(each for need in wanted for each in self.workloads.get(need, ()))
        return Surroundings(found, self.namespaces or {}, privileged=_privileged(prefetch, own))

    def forget(self, keep: Iterable[ListScope]) -> None:
        """Keep only these."""
        kept = set(keep)
        self.workloads = {need: found for need, found in self.workloads.items() if need in kept}
        self.pods = {need: found for need, found in self.pods.items() if need in kept}
        if (NAMESPACES, "") not in kept:
            self.namespaces = None


def needs(prefetch: ImagePrefetch, own: str) -> tuple[ListScope, ...]:
    """What has to be listed for an ImagePrefetch: no more than it may see."""
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
    """Lists until cancelled; ``changed`` is called when something is not what it was."""

    def __init__(
        self,
        cluster: ClusterAPI,
        clock: Clock,
        around: WorkloadLists,
        wanted: Callable[[], frozenset[ListScope]],
        changed: Callable[[], None],
    ) -> None:
        """List nothing yet. ``wanted``: what has to be listed now."""
        self._cluster = cluster
        self._clock = clock
        self._around = around
        self._wanted = wanted
        self._changed = changed
        self._due: dict[ListScope, float] = {}
        self._complaints: dict[ListScope, str] = {}

    async def run(self) -> None:
        """List, for ever."""
        while True:
            await self.turn()
            await asyncio.sleep(_TURN)

    async def turn(self) -> None:
        """List what is due, once; forget what nobody asks for."""
        wanted = self._wanted()
        for need in self._due.keys() - wanted:
            del self._due[need]
        self._around.forget(wanted)
        now = self._clock.monotonic()
        for need in sorted(need for need in wanted if self._due.get(need, 0.0) <= now):
            began = self._clock.monotonic()
            try:
                changed = await self._read(need)
            except ClusterError as error:
                if self._complaints.get(need) != str(error):
                    self._complaints[need] = str(error)
                    kind, namespace = need
                    log.warning(
                        "What an ImagePrefetch follows cannot be listed; it is tried again",
                        kind=kind, namespace=namespace or "all", error=str(error),
                    )  # fmt: skip
                self._due[need] = self._clock.monotonic() + _FAILED
                continue
            self._complaints.pop(need, None)
            ended = self._clock.monotonic()
            self._due[need] = ended + min(max(_SOONEST, (ended - began) / _SHARE), _LATEST)
            if changed:
                self._changed()

    async def _read(self, need: ListScope) -> bool:
        kind, namespace = need
        around = self._around
        first = not around.has(need)
        if kind == NAMESPACES:
            labels = await self._cluster.list_namespaces()
            changed = labels != around.namespaces
            around.namespaces = labels
        elif kind == PODS:
            pods = tuple(sorted(await self._cluster.list_pods(namespace), key=lambda pod: (pod.node, str(pod.labels))))
            changed = pods != around.pods.get(need)
            around.pods[need] = pods
        else:
            found = tuple(sorted(await self._cluster.list_workloads(kind, namespace), key=_name))
            changed = found != around.workloads.get(need)
            around.workloads[need] = found
        return changed or first


def _name(workload: Workload) -> tuple[str, str]:
    return workload.namespace, workload.name
