"""Why an order cannot be carried out, as a branch of the peer's tree.

::

    PeerError
    └── OrderError      ``reason`` is a PullState's; the runtime helper's own words, or one of these
        ├── RuntimeUnavailableError     RuntimeUnavailable  there is no helper, or it does not answer
        ├── TooSlowError                Timeout             not done in the time that was given
        ├── BadOrderError               InvalidImage        it names no image
        ├── NoSpaceError                NoSpace             the node's disk has no room for its blobs
        └── DiskError                   Failed              the node's disk does not keep them
"""

from __future__ import annotations

from pantala_peer.errors import PeerError


class OrderError(PeerError):
    """An image is not on this node as it was ordered."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RuntimeUnavailableError(OrderError):
    """The container runtime cannot be spoken to."""

    def __init__(self, message: str) -> None:
        super().__init__("RuntimeUnavailable", message)


class TooSlowError(OrderError):
    """Not done in time."""

    def __init__(self, message: str) -> None:
        super().__init__("Timeout", message)


class BadOrderError(OrderError):
    """There is no such image."""

    def __init__(self, message: str) -> None:
        super().__init__("InvalidImage", message)


class NoSpaceError(OrderError):
    """There is no room for it on the node's disk."""

    def __init__(self, message: str) -> None:
        super().__init__("NoSpace", message)


class DiskError(OrderError):
    """The node's disk refuses."""

    def __init__(self, message: str) -> None:
        super().__init__("Failed", message)
