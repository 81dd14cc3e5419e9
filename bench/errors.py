"""The exception of the measurements."""


class BenchError(Exception):
    """A measurement failed, or its result is wrong. The message says why."""
