"""What can end a measurement."""

from __future__ import annotations


class BenchError(Exception):
    """A measurement cannot be made, or its result is wrong; the message says why."""
