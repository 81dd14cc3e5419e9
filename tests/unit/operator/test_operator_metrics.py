"""The operator's metrics count events, and read the observation."""

from prometheus_client import generate_latest

from pantala_operator.events import OperatorEvents, StatementTaken, WriteEnded
from pantala_operator.metrics import OperatorMetrics
from pantala_operator.watch.observation import Observation


def test_events_are_counted_and_objects_are_read() -> None:
    known, events = Observation(), OperatorEvents()
    metrics = OperatorMetrics(known, events)
    events.publish(StatementTaken("supernode-0"))
    for _ in range(2):
        events.publish(WriteEnded("uid"))
    text = generate_latest(metrics.registry).decode()
    for line in (
        "pantala_operator_statements_total 1.0",
        "pantala_operator_reports_total 0.0",
        "pantala_operator_writes_total 2.0",
        'pantala_operator_objects{kind="Task"} 0.0',
        'pantala_operator_supernodes{answers="true"} 0.0',
    ):
        assert line in text
