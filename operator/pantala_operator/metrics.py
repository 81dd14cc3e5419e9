"""The metrics of the operator."""

from collections import Counter as Tally
from collections.abc import Iterator

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily, Metric

from pantala_operator.events import OperatorEvents, StatementTaken, SupernodeReported, WriteEnded
from pantala_operator.term import Term
from pantala_operator.watch.observation import Observation
from pantala_process import metrics


class OperatorMetrics:
    """Counts events, and reads the other figures from the observation when metrics are requested."""

    def __init__(self, known: Observation, events: OperatorEvents, term: Term) -> None:
        self.registry = metrics.new_registry("operator")
        self._known = known
        self._term = term
        statements = Counter(
            "pantala_operator_statements", "Statements that supernodes accepted.", registry=self.registry
        )
        reports = Counter("pantala_operator_reports", "Reports that supernodes sent.", registry=self.registry)
        writes = Counter(
            "pantala_operator_writes", "Writes to the API server that succeeded or failed.", registry=self.registry
        )
        events.subscribe(StatementTaken, lambda _: statements.inc())
        events.subscribe(SupernodeReported, lambda _: reports.inc())
        events.subscribe(WriteEnded, lambda _: writes.inc())
        self.registry.register(metrics.Readings(self._read))

    def _read(self) -> Iterator[Metric]:
        known = self._known
        yield GaugeMetricFamily(
            "pantala_operator_leads", "1 if this replica of the operator leads, else 0.", value=int(self._term.leads)
        )
        objects = GaugeMetricFamily("pantala_operator_objects", "Kubernetes objects, by kind.", labels=["kind"])
        objects.add_metric(["Task"], len(known.tasks.items))
        objects.add_metric(["ImagePrefetch"], len(known.prefetches.items))
        objects.add_metric(["Peer"], len(known.peers.items))
        objects.add_metric(["Node"], len(known.nodes.items))
        yield objects
        supernodes = GaugeMetricFamily(
            "pantala_operator_supernodes", "Supernodes, by whether they answer.", labels=["answers"]
        )
        answering = Tally(not view.silent for view in known.supernodes.views.values())
        supernodes.add_metric(["true"], answering[True])
        supernodes.add_metric(["false"], answering[False])
        yield supernodes
