"""Sends spans to an OpenTelemetry collector, with OTLP over HTTP. It needs the extra ``traces``.

OpenTelemetry reads its own environment variables, such as ``OTEL_EXPORTER_OTLP_ENDPOINT``.
"""

import re

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode, TraceFlags, set_span_in_context

from pantala_process.tracing.spans import Span, Traces
from pantala_protocol import __version__

_CONTEXT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_NANOSECONDS = 1_000_000_000


class _ChosenIds(RandomIdGenerator):
    """Random IDs, except for a Task's first span."""

    def __init__(self) -> None:
        self.first: tuple[int, int] | None = None
        """The IDs of the trace and of the span that begins next. ``None``: random ones."""

    def generate_trace_id(self) -> int:
        return super().generate_trace_id() if self.first is None else self.first[0]

    def generate_span_id(self) -> int:
        return super().generate_span_id() if self.first is None else self.first[1]


class ExportedTraces(Traces):
    """Sends spans in a thread. While the collector does not answer, spans wait, and the oldest are dropped."""

    enabled = True

    def __init__(self, process: str) -> None:
        self._ids = _ChosenIds()
        resource = Resource.create({"service.name": f"pantala-{process}", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("pantala", __version__)

    def record(self, span: Span) -> None:
        found = _CONTEXT.fullmatch(span.trace)
        if found is None:  # the context of a newer version
            return
        trace, first = int(found[1], 16), int(found[2], 16)
        parent = SpanContext(trace, first, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        context = None if span.first else set_span_in_context(NonRecordingSpan(parent))
        self._ids.first = (trace, first) if span.first else None
        made = self._tracer.start_span(
            span.name, context, attributes=dict(span.attributes), start_time=int(span.began * _NANOSECONDS)
        )
        self._ids.first = None
        if span.error:
            made.set_status(StatusCode.ERROR, span.error)
        made.end(int(max(span.began, span.ended) * _NANOSECONDS))

    def close(self) -> None:
        self._provider.shutdown()
