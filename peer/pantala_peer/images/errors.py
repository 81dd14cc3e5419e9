"""Why an order fails, as a branch of the peer's tree.

::

    PeerError
    └── OrderError                      ``reason`` is that of a PullState: the runtime helper's, or one of these
        ├── RuntimeUnavailableError     RuntimeUnavailable  the helper is missing or does not answer
        ├── OrderTimeoutError           Timeout             the order's time has passed
        ├── InvalidOrderError           InvalidImage        the order does not name a valid image
        ├── NodeDiskFullError           NoSpace             the node's disk has no room for the blobs
        └── NodeDiskError               Failed              the node's disk rejects the blobs
"""

from __future__ import annotations

from typing import ClassVar

from pantala_peer.errors import PeerError


class OrderError(PeerError):
    """The image is not on this node as ordered."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class _LocalOrderError(OrderError):
    REASON: ClassVar[str]

    def __init__(self, message: str) -> None:
        super().__init__(self.REASON, message)


class RuntimeUnavailableError(_LocalOrderError):
    """The container runtime cannot be reached."""

    REASON = "RuntimeUnavailable"


class OrderTimeoutError(_LocalOrderError):
    """The order did not end in time."""

    REASON = "Timeout"


class InvalidOrderError(_LocalOrderError):
    """The order does not name a valid image."""

    REASON = "InvalidImage"


class NodeDiskFullError(_LocalOrderError):
    """The node's disk has no room."""

    REASON = "NoSpace"


class NodeDiskError(_LocalOrderError):
    """The node's disk rejects a write."""

    REASON = "Failed"
