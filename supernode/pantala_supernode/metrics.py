"""The metrics of one supernode. Labels come from closed lists and never hold a URL, an address or an ID.

Most values are read from the parts of the supernode when the metrics are rendered, so the work itself counts nothing.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pantala_pieces.server import PieceServer
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
"""Bounds of the scheduling histogram. One decision takes some tens of microseconds."""


class Metrics:
    """One supernode's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = new_registry("supernode")
        self.exchanges = Counter("pantala_exchanges", "Exchanges with peers that began.", registry=self.registry)
        self.scheduling = Histogram(
            "pantala_scheduling_seconds",
            "Time to decide which pieces one peer gets.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._answers = Counter("pantala_http_answers", "Answers of the API.", ["status"], registry=self.registry)
        self._answers_by_status: dict[int, Counter] = {}
        self._failures = Counter(
            "pantala_fetch_failures", "Failures to fetch from an origin.", ["reason"], registry=self.registry
        )

    def add(self, collector: Collector) -> None:
        """Add a collector, which is read with each rendering."""
        self.registry.register(collector)

    def answered(self, status: int) -> None:
        counter = self._answers_by_status.get(status)
        if counter is None:
            counter = self._answers_by_status[status] = self._answers.labels(str(status))
        counter.inc()

    def on_copy(self, task: Task, before: Copy) -> None:
        """Count a new failure of a copy."""
        failure = task.copy.failure
        if failure is not None and failure is not before.failure:
            self._failures.labels(failure.reason).inc()


class StateCollector(Collector):
    """Reads the state of a supernode's parts."""

    def __init__(
        self,
        managers: Managers,
        waiting: HeldExchanges,
        cdn: CDNManager,
        pieces: PieceServer,
        manifests: ManifestService,
        janitor: Janitor,
        supernode: Supernode,
    ) -> None:
        self._managers = managers
        self._waiting = waiting
        self._cdn = cdn
        self._pieces = pieces
        self._manifests = manifests
        self._janitor = janitor
        self._supernode = supernode

    def collect(self) -> Iterator[Metric]:
        managers, cdn, pieces = self._managers, self._cdn, self._pieces
        yield _by(
            "pantala_tasks",
            "Tasks by their copy's status.",
            "cdn_status",
            CDNStatus,
            (task.copy.status for task in managers.tasks),
        )
        yield _by(
            "pantala_dfget_tasks",
            "Downloads by status.",
            "status",
            DfgetTaskStatus,
            (download.status for download in managers.dfget_tasks),
        )
        yield _by(
            "pantala_peers",
            "Peers by whether they are connected.",
            "connected",
            ("true", "false"),
            (str(peer.connected).lower() for peer in managers.peers),
        )
        served = CounterMetricFamily("pantala_served_bytes", "Bytes that peers took and verified.", labels=["by"])
        served.add_metric(["supernode"], managers.progress.supernode_bytes)
        served.add_metric(["peer"], managers.progress.peer_bytes)
        yield served
        yield GaugeMetricFamily("pantala_held_exchanges", "Peers that wait.", len(self._waiting))
        yield GaugeMetricFamily("pantala_queued_fetches", "Copies that wait for their turn.", cdn.gate.queue)
        yield GaugeMetricFamily("pantala_uploads", "Pieces that the supernode is sending.", pieces.uploads)
        yield CounterMetricFamily("pantala_sent_bytes", "Bytes of pieces that the supernode sent.", pieces.bytes_sent)
        yield CounterMetricFamily("pantala_origin_bytes", "Bytes of body read from origins.", cdn.worker.origin_bytes)
        uses = CounterMetricFamily(
            "pantala_cache_uses", "Newly wanted files, by what the volume had.", labels=["found"]
        )
        for use in CopyUse:
            uses.add_metric([use], cdn.worker.uses.get(use, 0))
        yield uses
        evictions = CounterMetricFamily("pantala_evictions", "Copies removed from the volume.", labels=["cause"])
        removed = self._janitor.evictions | {EvictionCause.DROPPED: self._supernode.dropped}
        for cause in EvictionCause:
            evictions.add_metric([cause], removed.get(cause, 0))
        yield evictions
        manifests = CounterMetricFamily("pantala_manifests", "Manifests requested by nodes.", labels=["outcome"])
        for outcome in ManifestOutcome:
            manifests.add_metric([outcome], self._manifests.outcomes[outcome])
        yield manifests


def _by(name: str, text: str, label: str, known: Iterable[str], found: Iterable[str]) -> GaugeMetricFamily:
    """How many of each known value, also if there is none."""
    tally, family = Tally(found), GaugeMetricFamily(name, text, labels=[label])
    for value in known:
        family.add_metric([str(value)], tally[value])
    return family
