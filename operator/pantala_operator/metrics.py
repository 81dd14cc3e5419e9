"""The metrics of the operator. Labels come from closed lists and never hold a name, a URL or an address."""

from collections import Counter as Tally
from collections.abc import Iterator
from typing import Any, Final

from prometheus_client import Counter
from prometheus_client.core import Metric

from pantala_operator.control.write_queue import WriteQueue
from pantala_operator.events import OperatorEvents, StatementTaken, SupernodeReported
from pantala_operator.plan.peer import PeerCondition
from pantala_operator.plan.prefetch.status import PrefetchCondition
from pantala_operator.ports import Clock
from pantala_operator.resources.conditions import ConditionStatus, ConditionType
from pantala_operator.term import Term
from pantala_operator.watch.observation import Collection, Observation
from pantala_process import metrics
from pantala_process.metrics import OTHER, Family
from pantala_protocol.reasons import Reason

PROGRESS_REASONS: Final = (
    "Accepted", "AsResolved", "Cached", "Connected", "Disconnected", "Distributed", "Distributing", "Fetching",
    "ImagesMissing", "ImagesPresent", "Invalid", "Listed", "MirrorDisabled", "NodesUnavailable", "NotConfigured",
    "NotEvicted", "NotListed", "NotWanted", "NothingWanted", "Pending", "Pinned", "Planned", "Prefetched", "Probed",
    "Progressing", "Resolved", "Resolving", "RuntimeTooOld", "Scheduled", "Suspended", "Synchronized", "TagMoved",
    "Waiting",
)  # fmt: skip
"""The reasons of conditions that are not failures. :class:`Reason` has the reasons of failures."""

_KINDS = ("Task", "ImagePrefetch", "Peer", "SourcePolicy")
_REASONS = (*sorted({*Reason, *PROGRESS_REASONS}), OTHER)

LEADS: Final = Family(
    "pantala_operator_leads", "gauge", "1 if this replica of the operator leads, else 0.", "Does any operator work?"
)
OBJECTS: Final = Family(
    "pantala_operator_objects", "gauge", "Kubernetes objects, by kind.",
    "How large is the installation?", {"kind": (*_KINDS, "Node")},
)  # fmt: skip
CONDITIONS: Final = Family(
    "pantala_operator_conditions", "gauge", "Conditions of resources, by kind, type, status and reason.",
    "How many Tasks, ImagePrefetches and Peers are not well, and why?",
    {
        "kind": _KINDS,
        "type": tuple(sorted({*ConditionType, *PrefetchCondition, *PeerCondition, "Accepted", OTHER})),
        "status": tuple(ConditionStatus),
        "reason": _REASONS,
    },
)  # fmt: skip
LATE: Final = Family(
    "pantala_operator_late_nodes", "gauge",
    "Late nodes of each Task and ImagePrefetch, and the failed nodes that a status names, by reason.",
    "Which troubles keep nodes from their files and images?", {"reason": _REASONS},
)  # fmt: skip
SUPERNODES: Final = Family(
    "pantala_operator_supernodes", "gauge", "Supernodes, by whether they answer the operator.",
    "Is a supernode down?", {"answers": ("true", "false")},
)  # fmt: skip
REPORT_AGE: Final = Family(
    "pantala_operator_report_age_seconds", "gauge",
    "Seconds since the oldest of the supernodes' last reports. It is below 30 while all supernodes answer.",
    "How old is the information in the status?",
)  # fmt: skip
STATEMENTS: Final = Family(
    "pantala_operator_statements_total", "counter", "Statements that supernodes accepted.",
    "Do supernodes receive the desired state?",
)  # fmt: skip
REPORTS: Final = Family(
    "pantala_operator_reports_total", "counter", "Reports that supernodes sent.", "Do supernodes report?"
)
WRITES: Final = Family(
    "pantala_operator_writes_total", "counter", "Writes to the API server, by result.",
    "Does the API server take the operator's writes?", {"result": ("done", "failed")},
)  # fmt: skip
QUEUE: Final = Family(
    "pantala_operator_queued_writes", "gauge", "Writes that are planned but have not begun.",
    "Is the operator behind with its writes?",
)  # fmt: skip
LAG: Final = Family(
    "pantala_operator_write_lag_seconds", "gauge", "Seconds by which the oldest planned write is overdue.",
    "How late is the status in the API server?",
)  # fmt: skip
FAMILIES: Final = (
    LEADS, OBJECTS, CONDITIONS, LATE, SUPERNODES, REPORT_AGE, STATEMENTS, REPORTS, WRITES, QUEUE, LAG,
)  # fmt: skip
"""All families of the operator, in the order of the reference page."""


class OperatorMetrics:
    """Counts events, and reads the other figures from the observation when metrics are requested.

    Only the leading replica knows the current conditions and the current lag. So only the leader shows them.
    """

    def __init__(
        self, known: Observation, events: OperatorEvents, term: Term, writes: WriteQueue, clock: Clock
    ) -> None:
        self.registry = metrics.new_registry("operator")
        self._known = known
        self._term = term
        self._writes = writes
        self._clock = clock
        self._reported_at: dict[str, float] = {}
        self._reports = Counter(REPORTS.base, REPORTS.text, registry=self.registry)
        statements = Counter(STATEMENTS.base, STATEMENTS.text, registry=self.registry)
        events.subscribe(StatementTaken, lambda _: statements.inc())
        events.subscribe(SupernodeReported, self._on_report)
        self.registry.register(metrics.Readings(self._read))

    def _on_report(self, event: SupernodeReported) -> None:
        self._reports.inc()
        self._reported_at[event.name] = self._clock.monotonic()

    def _read(self) -> Iterator[Metric]:
        known, writes = self._known, self._writes
        yield LEADS.value(int(self._term.leads))
        sizes = (len(each.items) for each in (known.tasks, known.prefetches, known.peers, known.sources, known.nodes))
        yield OBJECTS.values(dict(zip(OBJECTS.labels["kind"], sizes, strict=True)))
        answering = Tally(not view.silent for view in known.supernodes.views.values())
        yield SUPERNODES.values({"true": answering[True], "false": answering[False]})
        yield WRITES.values({"done": writes.done, "failed": writes.failed})
        if self._term.leads:
            yield CONDITIONS.groups(self._conditions())
            yield LATE.values(self._late())
            yield QUEUE.value(writes.queued)
            yield LAG.value(writes.lag())
            now = self._clock.monotonic()
            ages = [now - self._reported_at[each.name] for each in known.supernodes.members
                    if each.name in self._reported_at]  # fmt: skip
            if ages:
                yield REPORT_AGE.value(max(ages))

    def _conditions(self) -> Tally[tuple[str, ...]]:
        known = self._known
        count: Tally[tuple[str, ...]] = Tally()
        collections: tuple[Collection[Any], ...] = (known.tasks, known.prefetches, known.peers, known.sources)
        for kind, collection in zip(_KINDS, collections, strict=True):
            for resource in collection.items.values():
                count.update((kind, each.type, each.status, each.reason) for each in resource.status.conditions)
        closed: Tally[tuple[str, ...]] = Tally()
        for labels, number in count.items():
            pairs = zip(CONDITIONS.labels, labels, strict=True)
            closed[tuple(CONDITIONS.known(label, value) for label, value in pairs)] += number
        return closed

    def _late(self) -> Tally[str]:
        """The late nodes of each Task and ImagePrefetch, and each failed node once for each reason."""
        known = self._known
        failed: set[tuple[str, str]] = set()
        for task in known.tasks.items.values():
            failed.update((each.node, each.reason) for each in task.status.failures)
        for prefetch in known.prefetches.items.values():
            failed.update((each.node, each.reason) for each in prefetch.status.failures if each.node)
        count = Tally(LATE.known("reason", reason) for _, reason in failed)
        for late in known.late.values():
            for reason, number in late.items():
                count[LATE.known("reason", reason)] += number
        return count
