"""Traces of Tasks: what happened when, in all processes. They are off unless OpenTelemetry is configured."""
