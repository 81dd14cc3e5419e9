"""Chooses where this process sends its spans: to the collector that the environment names, or nowhere.

The variables are those of OpenTelemetry. The OpenTelemetry Operator may set them in every pod, so a process must also
run without OpenTelemetry's libraries.
"""

from collections.abc import Mapping

import structlog

from pantala_process.tracing.spans import NOWHERE, Traces

_log = structlog.get_logger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Each has the URL of a collector, and turns traces on."""


def open_traces(process: str, environment: Mapping[str, str]) -> Traces:
    """Traces that go to the collector that the environment names. If it names none, spans are dropped."""
    if not any(environment.get(name) for name in _ENDPOINTS):
        return NOWHERE
    try:
        from pantala_process.tracing.export import ExportedTraces

        return ExportedTraces(process)
    except ImportError:
        _log.warning(
            "no traces are sent: OpenTelemetry is not installed. Install pantala[traces], or unset the variable",
            variable=next(name for name in _ENDPOINTS if environment.get(name)),
        )
    except ValueError as error:
        _log.warning("no traces are sent: OpenTelemetry refuses a variable (OTEL_*). Correct it.", error=str(error))
    return NOWHERE
