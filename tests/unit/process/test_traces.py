"""Where spans go: to a collector, which may be silent, or nowhere."""

import sys
import time

import pytest

from pantala_process.tracing.collector import open_traces
from pantala_process.tracing.spans import NOWHERE, Span, context_of


def test_a_silent_collector_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans wait in memory. No call waits for them, and the end of the process waits for a short time only."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    traces = open_traces("peer", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    assert traces.enabled
    began = time.monotonic()
    for number in range(1000):
        traces.record(Span("publish", context_of("uid", str(number)), 1.0, 2.0))
    traces.record(Span("publish", "a newer version's context", 1.0, 2.0))
    assert time.monotonic() - began < 1
    traces.close()
    assert time.monotonic() - began < 8


def test_without_a_collector_traces_go_nowhere() -> None:
    assert NOWHERE is open_traces("peer", {})
    assert not NOWHERE.enabled
    NOWHERE.record(Span("publish", context_of("uid", "1/"), 1.0, 2.0))
    NOWHERE.close()


def test_without_opentelemetry_the_process_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's own operator may set the variable in every pod."""
    monkeypatch.setitem(sys.modules, "pantala_process.tracing.export", None)
    assert NOWHERE is open_traces("peer", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "256"),  # the default batch is larger
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-1"),
    ],
)
def test_the_process_runs_with_variables_that_opentelemetry_refuses(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert NOWHERE is open_traces("peer", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})


def test_each_attempt_has_its_own_trace_and_keeps_it() -> None:
    assert context_of("a", "1/") == context_of("a", "1/")
    assert 3 == len({context_of("a", "1/"), context_of("a", "2/"), context_of("b", "1/")})
