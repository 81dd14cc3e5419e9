"""A collector of OpenTelemetry that keeps the spans of real processes."""

from typing import NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


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


class TraceCollector:
    """A collector of OpenTelemetry that keeps all spans."""

    def __init__(self) -> None:
        self.spans: list[Received] = []

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
