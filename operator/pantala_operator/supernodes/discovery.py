"""Finds the supernodes that should run: by a list of URLs, or by their StatefulSet's replicas."""

import asyncio
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import structlog

from pantala_operator.errors import ClusterError
from pantala_operator.events import OperatorEvents, ReplicasFound
from pantala_operator.ports import ClusterAPI
from pantala_operator.resources.workloads import StatefulSet
from pantala_protocol.statement import Member

log = structlog.get_logger(__name__)

_INTERVAL = 2.0
"""Seconds between two reads. A supernode that ends waits longer, in case it must hand its tasks over."""

PodURL = Callable[[StatefulSet, str], str]
"""Returns the base URL of the API of the pod with this name."""


def of_urls(urls: Sequence[str]) -> ReplicasFound:
    """The supernodes at these URLs. A single supernode has no name. Several are named by host and port."""
    if len(urls) == 1:
        return ReplicasFound((Member("", urls[0]),))
    return ReplicasFound(tuple(Member(urlsplit(url).netloc.rpartition("@")[2], url) for url in urls))


def of_stateful_set(found: StatefulSet, pod_url: PodURL) -> ReplicasFound:
    """The supernodes of a StatefulSet: ``spec.replicas`` of them stay, and further pods are being removed."""
    spec, name = found.spec, found.metadata.name
    names = [f"{name}-{spec.ordinals.start + number}" for number in range(max(spec.replicas, found.status.replicas))]
    members = tuple(Member(each, pod_url(found, each)) for each in names)
    absent = "" if spec.replicas else f"the StatefulSet {found.metadata.key} is scaled to 0. Scale it to 1 or more"
    return ReplicasFound(members[: spec.replicas], members[spec.replicas :], absent)


def service_url(found: StatefulSet, pod: str) -> str:
    """The base URL of a pod, by its DNS name from the StatefulSet's headless Service."""
    return f"http://{pod}.{found.spec.service_name}.{found.metadata.namespace}:8002"


def secured_url(found: StatefulSet, pod: str) -> str:
    """The base URL of a pod with TLS. The pod's certificate has this name."""
    return "https" + service_url(found, pod).removeprefix("http")


class Discovery:
    """Reads the StatefulSet until cancelled, and publishes ``ReplicasFound``. A failed read changes nothing."""

    def __init__(self, cluster: ClusterAPI, events: OperatorEvents, namespace: str, name: str, pod_url: PodURL) -> None:
        self._cluster = cluster
        self._events = events
        self._namespace = namespace
        self._name = name
        self._pod_url = pod_url
        self.problem = f"the StatefulSet {namespace}/{name} has not been read yet"
        """Why the last read failed. Empty if it succeeded."""

    async def run(self) -> None:
        known = False
        while True:
            try:
                found = await self._cluster.get_stateful_set(self._namespace, self._name)
            except ClusterError as error:
                problem = f"the StatefulSet {self._namespace}/{self._name} cannot be read: {error}"
                if problem != self.problem:
                    log.warning("The number of supernodes cannot be read. The operator retries.", error=problem)
                self.problem = problem
                if not known:
                    self._events.publish(ReplicasFound(absent=problem))
            else:
                known, self.problem = True, ""
                self._events.publish(of_stateful_set(found, self._pod_url))
            await asyncio.sleep(_INTERVAL)
