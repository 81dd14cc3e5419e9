"""The metrics of one supernode. Labels come from closed lists and never hold a URL, an address or an ID.

Most values are read from the supernode's parts when metrics are requested, so the parts need no code for metrics.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter, Histogram
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from pantala_pieces.scrub import Scrub
from pantala_pieces.transfer.upload.sender import PieceSender
from pantala_process.metrics import OTHER, Family, new_registry
from pantala_protocol.reasons import Reason
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

_STATUSES = tuple(str(status) for status in range(100, 600))
"""The values of an HTTP status."""

EXCHANGES: Final = Family(
    "pantala_exchanges_total", "counter", "Peers' requests for exchanges, with repetitions.", "Do peers send requests?"
)
SCHEDULING: Final = Family(
    "pantala_scheduling_seconds", "histogram", "Time to decide which pieces one peer gets.",
    "Is the supernode's scheduler slow?",
)  # fmt: skip
ANSWERS: Final = Family(
    "pantala_http_answers_total", "counter", "Answers of the HTTP API, by HTTP status.",
    "Does the supernode refuse requests or fail?", {"status": _STATUSES},
)  # fmt: skip
FAILURES: Final = Family(
    "pantala_fetch_failures_total", "counter", "Failures to fetch from an origin, by reason.",
    "Why do files not arrive from their origins?", {"reason": (*Reason, OTHER)},
)  # fmt: skip
TASKS: Final = Family(
    "pantala_tasks", "gauge", "Tasks, by the state of the supernode's copy.",
    "How many tasks wait, are fetched, are complete, or failed?", {"cdn_status": tuple(CDNStatus)},
)  # fmt: skip
DFGET: Final = Family(
    "pantala_dfget_tasks", "gauge", "Downloads of Dragonfly's clients, by state.",
    "How many clients of Dragonfly download now?", {"status": tuple(DfgetTaskStatus)},
)  # fmt: skip
PEERS: Final = Family(
    "pantala_peers", "gauge", "Peers, by whether they are connected.",
    "Do all peers reach this supernode?", {"connected": ("true", "false")},
)  # fmt: skip
SERVED: Final = Family(
    "pantala_served_bytes_total", "counter", "Bytes that peers received, by sender.",
    "How many bytes do peers send each other, and how many does the supernode send?", {"by": ("supernode", "peer")},
)  # fmt: skip
HELD: Final = Family(
    "pantala_held_exchanges", "gauge", "Exchanges that the supernode holds.", "How many peers have nothing to do?"
)
QUEUED: Final = Family(
    "pantala_queued_fetches", "gauge", "Files that wait for a free place at their origins.",
    "Do files wait because too many are fetched at once?",
)  # fmt: skip
UPLOADS: Final = Family(
    "pantala_uploads", "gauge", "Pieces that the supernode sends now.", "How busy is the supernode's link?"
)
SENT: Final = Family(
    "pantala_sent_bytes_total", "counter", "Bytes of pieces that the supernode sent.",
    "How many bytes per second leave the supernode?",
)  # fmt: skip
ORIGIN: Final = Family(
    "pantala_origin_bytes_total", "counter", "Bytes of files that were read from origins.",
    "How many bytes do the origins send, and how many does Pantala save them?",
)  # fmt: skip
USES: Final = Family(
    "pantala_cache_uses_total", "counter", "New orders for files, by what the volume had.",
    "How often is a file already on the volume?", {"found": tuple(CopyUse)},
)  # fmt: skip
EVICTIONS: Final = Family(
    "pantala_evictions_total", "counter", "Copies that were removed from the volume, by cause.",
    "Is the volume too small?", {"cause": tuple(EvictionCause)},
)  # fmt: skip
DAMAGED: Final = Family(
    "pantala_damaged_files_total", "counter", "Damaged files on the volume that the scrub has found.",
    "Does the supernode's disk lose bytes?",
)  # fmt: skip
MANIFESTS: Final = Family(
    "pantala_manifests_total", "counter", "Manifests that nodes requested, by outcome.",
    "Do registries answer the supernode?", {"outcome": tuple(ManifestOutcome)},
)  # fmt: skip
VOLUME: Final = Family(
    "pantala_volume_bytes", "gauge",
    "Size of the volume, its free bytes, and the part of them that stays free (headroom).",
    "How full is the volume, and when must it grow?", {"part": ("size", "free", "headroom")},
)  # fmt: skip
COPIES: Final = Family(
    "pantala_copies_bytes", "gauge", "Bytes of all copies on the volume.", "How much of the volume do copies use?"
)
FAMILIES: Final = (
    TASKS, QUEUED, FAILURES, ORIGIN, SERVED, SENT, UPLOADS, VOLUME, COPIES, USES, EVICTIONS, DAMAGED, PEERS,
    EXCHANGES, HELD, SCHEDULING, ANSWERS, MANIFESTS, DFGET,
)  # fmt: skip
"""All families of a supernode, in the order of the reference page."""


class Metrics:
    """The metrics of one supernode, in their own Prometheus registry."""

    def __init__(self) -> None:
        self.registry = new_registry("supernode")
        self.exchanges = Counter(EXCHANGES.base, EXCHANGES.text, registry=self.registry)
        self.scheduling = Histogram(SCHEDULING.name, SCHEDULING.text, buckets=_SECONDS, registry=self.registry)
        self._answers = Counter(ANSWERS.base, ANSWERS.text, ["status"], registry=self.registry)
        self._by_status: dict[int, Counter] = {}
        self._failures = Counter(FAILURES.base, FAILURES.text, ["reason"], registry=self.registry)

    def answered(self, status: int) -> None:
        counter = self._by_status.get(status)
        if counter is None:
            counter = self._by_status[status] = self._answers.labels(str(status))
        counter.inc()

    def on_copy(self, task: Task, before: Copy) -> None:
        failure = task.copy.failure
        if failure is not None and failure is not before.failure:
            self._failures.labels(FAILURES.known("reason", failure.reason)).inc()


@dataclass(frozen=True, slots=True)
class StateCollector(Collector):
    """Computes the metrics that show the current state of the supernode's parts."""

    managers: Managers
    downloads: Callable[[], Iterable[DfgetTaskStatus]]
    """Returns the states of the downloads of Dragonfly's clients."""
    waiting: HeldExchanges
    cdn: CDNManager
    pieces: PieceSender
    manifests: ManifestService
    janitor: Janitor
    scrub: Scrub
    supernode: Supernode

    def collect(self) -> Iterator[Metric]:
        managers, cdn, pieces, progress = self.managers, self.cdn, self.pieces, self.managers.progress
        yield _tally(TASKS, (task.copy.status for task in managers.tasks))
        yield _tally(DFGET, self.downloads())
        yield _tally(PEERS, (str(peer.connected).lower() for peer in managers.peers))
        yield SERVED.values({"supernode": progress.supernode_bytes, "peer": progress.peer_bytes})
        yield HELD.value(len(self.waiting))
        yield QUEUED.value(cdn.gate.queue)
        yield UPLOADS.value(pieces.log.uploads)
        yield SENT.value(pieces.log.bytes_sent)
        yield ORIGIN.value(cdn.worker.origin_bytes)
        yield USES.values(cdn.worker.uses)
        yield EVICTIONS.values(self.janitor.evictions | {EvictionCause.DROPPED: self.supernode.dropped})
        yield DAMAGED.value(self.scrub.damaged)
        yield MANIFESTS.values(self.manifests.outcomes)
        yield COPIES.value(sum(file.held for file in cdn.copies.store))
        if (usage := self.janitor.usage) is not None:
            yield VOLUME.values({"size": usage.total, "free": usage.free, "headroom": usage.headroom})


def _tally(family: Family, found: Iterable[str]) -> Metric:
    """A gauge that counts ``found`` by value."""
    return family.values(Tally(found))
