"""The metrics of one supernode. Labels come from closed lists and never hold a URL, an address or an ID.

Most values are read from the parts of the supernode for each request, so the parts need no code for metrics.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pantala_pieces.scrub import Scrub
from pantala_pieces.transfer.upload.sender import PieceSender
from pantala_process.metrics import new_registry
from pantala_protocol.statement import CDNStatus
from pantala_supernode.cdn.copy_state import CopyUse
from pantala_supernode.cdn.manager import CDNManager
from pantala_supernode.images.manifests import ManifestOutcome, ManifestService
from pantala_supernode.supernode import Supernode
from pantala_supernode.swarm.download import DfgetTaskStatus
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.sync.session import HeldExchanges
from pantala_supernode.tasks.copy import Copy
from pantala_supernode.tasks.task import Task
from pantala_supernode.volume.eviction import EvictionCause
from pantala_supernode.volume.janitor import Janitor

_SECONDS = (0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.1)
"""The buckets of the scheduling histogram in seconds. One decision takes some tens of microseconds."""


class Metrics:
    """The metrics of one supernode, in their own Prometheus registry."""

    def __init__(self) -> None:
        self.registry = new_registry("supernode")
        self.exchanges = Counter("pantala_exchanges", "Requests of peers for news and work.", registry=self.registry)
        text = "Time to decide which pieces one peer gets."
        self.scheduling = Histogram("pantala_scheduling_seconds", text, buckets=_SECONDS, registry=self.registry)
        self._answers = Counter("pantala_http_answers", "Answers of the HTTP API.", ["status"], registry=self.registry)
        text = "Failures to fetch from an origin."
        self._by_status: dict[int, Counter] = {}
        self._failures = Counter("pantala_fetch_failures", text, ["reason"], registry=self.registry)

    def answered(self, status: int) -> None:
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[status] = self._answers.labels(str(status))
        counter.inc()

    def on_copy(self, task: Task, before: Copy) -> None:
        failure = task.copy.failure
        if failure is not None and failure is not before.failure:
            self._failures.labels(failure.reason).inc()


@dataclass(frozen=True, slots=True)
class StateCollector(Collector):
    """Computes the metrics that show the present state of the supernode's parts."""

    managers: Managers
    waiting: HeldExchanges
    cdn: CDNManager
    pieces: PieceSender
    manifests: ManifestService
    janitor: Janitor
    scrub: Scrub
    supernode: Supernode

    def collect(self) -> Iterator[Metric]:
        managers, cdn, pieces = self.managers, self.cdn, self.pieces
        statuses = (task.copy.status for task in managers.tasks)
        yield _by("pantala_tasks", "Tasks by the status of the supernode's copy.", "cdn_status", CDNStatus, statuses)
        downloads = (download.status for download in managers.dfget_tasks)
        yield _by("pantala_dfget_tasks", "Downloads by status.", "status", DfgetTaskStatus, downloads)
        peers = (str(peer.connected).lower() for peer in managers.peers)
        yield _by("pantala_peers", "Peers by whether they are connected.", "connected", ("true", "false"), peers)
        progress = managers.progress
        served = {"supernode": progress.supernode_bytes, "peer": progress.peer_bytes}
        yield _counter("pantala_served_bytes", "Bytes that peers received, by sender.", "by", served, served)
        yield GaugeMetricFamily("pantala_held_exchanges", "Peers that wait for news or work.", len(self.waiting))
        yield GaugeMetricFamily("pantala_queued_fetches", "Files that wait for a free download slot.", cdn.gate.queue)
        yield GaugeMetricFamily("pantala_uploads", "Pieces that the supernode is sending.", pieces.uploads)
        yield CounterMetricFamily("pantala_sent_bytes", "Bytes of pieces that the supernode sent.", pieces.bytes_sent)
        yield CounterMetricFamily("pantala_origin_bytes", "Bytes of files read from origins.", cdn.worker.origin_bytes)
        text = "Newly wanted files, by what the volume had."
        yield _counter("pantala_cache_uses", text, "found", CopyUse, cdn.worker.uses)
        evictions = self.janitor.evictions | {EvictionCause.DROPPED: self.supernode.dropped}
        yield _counter("pantala_evictions", "Copies removed from the volume.", "cause", EvictionCause, evictions)
        text = "Damaged files on the volume that the scrub has found."
        yield CounterMetricFamily("pantala_damaged_files", text, self.scrub.damaged)
        outcomes = self.manifests.outcomes
        yield _counter("pantala_manifests", "Manifests requested by nodes.", "outcome", ManifestOutcome, outcomes)


def _counter(name: str, text: str, label: str, known: Iterable[str], counts: Mapping[Any, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value in known:
        family.add_metric([value], counts.get(value, 0))
    return family


def _by(name: str, text: str, label: str, known: Iterable[str], found: Iterable[str]) -> GaugeMetricFamily:
    """A gauge that counts ``found`` by value. Each of the ``known`` values has a sample, even if it is 0."""
    tally, family = Tally(found), GaugeMetricFamily(name, text, labels=[label])
    for value in known:
        family.add_metric([str(value)], tally[value])
    return family
