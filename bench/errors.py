"""The exception of the measurements."""

from __future__ import annotations


class BenchError(Exception):
    """A measurement failed, or its result is wrong. The message says why."""
