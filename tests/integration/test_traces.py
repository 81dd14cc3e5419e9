"""Traces of real processes, as a collector of OpenTelemetry receives them."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pantala_process.tracing.collector import open_traces
from pantala_process.tracing.spans import NOWHERE, Span, context_of
from testbed.origin import Behaviour, Generated
from tests.support.eventually import eventually
from tests.support.product_stage import MIB, NODES, ProductStage
from tests.support.web_server import web_server

SIZE = 3 * MIB


class Received(NamedTuple):
    """One span."""

    service: str
    name: str
    trace: str
    span: str
    parent: str
    began: int
    ended: int
    failed: str
    attributes: dict[str, str | int]


class Collector:
    """A collector of OpenTelemetry that keeps all spans."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        for resource in ExportTraceServiceRequest.FromString(await request.read()).resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                attributes: dict[str, str | int] = {
                    each.key: each.value.string_value or each.value.int_value for each in span.attributes
                }
                self.spans.append(
                    Received(
                        about["service.name"], span.name, span.trace_id.hex(), span.span_id.hex(),
                        span.parent_span_id.hex(), span.start_time_unix_nano, span.end_time_unix_nano,
                        span.status.message if span.status.code == 2 else "", attributes,
                    )
                )  # fmt: skip
        return web.Response()

    def of(self, task: str) -> list[Received]:
        """All spans of the trace that names a Task."""
        traces = {each.trace for each in self.spans if each.attributes.get("pantala.task") == task}
        return [each for each in self.spans if each.trace in traces]


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """A collector that the environment names, for this process and its children."""
    found = Collector()
    async with web_server(web.post("/v1/traces", found.take)) as port:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
        yield found


@pytest.mark.controlplane
@pytest.mark.timeout(90)
async def test_a_task_is_one_trace_across_all_processes(collector: Collector, tmp_path: Path) -> None:
    async with ProductStage(tmp_path) as stage:
        stage.supernode()
        stage.operator()
        for name in NODES:
            stage.peer(name, "--runtime-socket", "none")
        stage.origin.serve("/file", Generated(SIZE, seed=5))
        stage.origin.serve("/absent", Generated(1, seed=6), always=Behaviour(status=404))
        await stage.apply("good", stage.origin.url("/file"))
        await stage.apply("absent", stage.origin.url("/absent"), retry={"limit": 0})
        await stage.ready("good")
        await stage.says("absent", "SourceNotFound")
        await stage.delete("absent")
        await eventually(
            lambda: (
                len(collector.of("default/good")) == 3 + 2 * len(NODES) and len(collector.of("default/absent")) == 3
            ),
            what=lambda: "\n".join(map(str, collector.spans)),
        )
        spans = collector.of("default/good")
        names = sorted((each.service, each.name) for each in spans)
        nodes = [("pantala-peer", "distribute")] * 3 + [("pantala-peer", "publish")] * 3
        assert [
            ("pantala-operator", "plan"),
            ("pantala-operator", "task"),
            *nodes,
            ("pantala-supernode", "fetch"),
        ] == names
        [first] = [each for each in spans if each.name == "task"]
        assert ("", 3) == (first.parent, first.attributes["pantala.nodes"])
        for each in spans:
            assert each is first or first.span == each.parent
            assert first.began <= each.began <= each.ended <= first.ended, each
            assert "" == each.failed
        task = stage.tasks["good"]["metadata"]
        assert context_of(task["uid"], f"{task['generation']}/") == f"00-{first.trace}-{first.span}-01"
        distributed = [each.attributes for each in spans if each.name == "distribute"]
        assert set(NODES) == {each["pantala.node"] for each in distributed}
        received = [each[f"pantala.bytes_from_{source}"] for each in distributed for source in ("supernode", "peers")]
        assert 3 * SIZE == sum(map(int, received))
        [fetch] = [each for each in spans if each.name == "fetch"]
        assert SIZE == fetch.attributes["pantala.origin_bytes"]
        failed = {each.name: each.failed for each in collector.of("default/absent")}
        assert {"plan": "", "fetch": "SourceNotFound", "task": "SourceNotFound"} == failed


async def test_a_silent_collector_delays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans wait in memory. Nobody waits for them, and the end of the process waits for a short time only."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    traces = open_traces("peer", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
    assert traces.enabled
    began = asyncio.get_running_loop().time()
    for number in range(1000):
        traces.record(Span("publish", context_of("uid", str(number)), 1.0, 2.0))
    traces.record(Span("publish", "a newer version's context", 1.0, 2.0))
    assert asyncio.get_running_loop().time() - began < 1
    await asyncio.to_thread(traces.close)
    assert asyncio.get_running_loop().time() - began < 8


def test_without_a_collector_traces_go_nowhere() -> None:
    assert NOWHERE is open_traces("peer", {})
    assert not NOWHERE.enabled
    NOWHERE.record(Span("publish", context_of("uid", "1/"), 1.0, 2.0))
    NOWHERE.close()


def test_without_opentelemetry_the_process_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's own operator may set the variable in every pod."""
    monkeypatch.setitem(sys.modules, "pantala_process.tracing.export", None)
    assert NOWHERE is open_traces("peer", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1"})


def test_each_attempt_has_its_own_trace_and_keeps_it() -> None:
    assert context_of("a", "1/") == context_of("a", "1/")
    assert 3 == len({context_of("a", "1/"), context_of("a", "2/"), context_of("b", "1/")})
