"""The spans of a Task's trace, and the interface that records them. By default, nothing is recorded.

A Task's attempt has one trace. Its IDs are computed from the Task's UID and the attempt. So a process that restarts
continues the same trace, and the statement does not change. The operator sends the trace's context with the Task, and
the supernode sends it with the assignment. A span is recorded when it has ended.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256


@dataclass(frozen=True, slots=True)
class Span:
    """One step of a Task. Times are in seconds since the epoch."""

    name: str
    trace: str
    """The context, as in the header ``traceparent`` of the W3C. It names the Task's first span."""
    began: float
    ended: float
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    error: str = ""
    """The reason of a failure. Empty: success."""
    first: bool = False
    """True for the Task's first span, which contains all other spans."""


class Traces:
    """Records nothing."""

    enabled = False

    def record(self, span: Span) -> None:
        """Record a span that has ended."""

    def close(self) -> None:
        """Send what has not been sent yet. This may take some seconds."""


NOWHERE = Traces()


def context_of(uid: str, attempt: str) -> str:
    """The context of the trace of a Task's attempt."""
    digest = sha256(f"{uid}/{attempt}".encode()).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01"
