"""Why an order fails: subclasses of the peer's error.

::

    PeerError
    └── OrderError                      ``reason`` is for the PullState: that of the helper or the disk, or one of these
        ├── RuntimeUnavailableError     RuntimeUnavailable  the helper is missing or does not answer
        ├── OrderTimeoutError           Timeout             the order's time has passed
        └── InvalidOrderError           InvalidImage        the order does not name a valid image
"""

from pantala_peer.errors import PeerError


class OrderError(PeerError):
    """An order failed: the image is not on this node, or differs from the order."""

    reason = "Failed"

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or self.reason


class RuntimeUnavailableError(OrderError):
    """The container runtime cannot be reached."""

    reason = "RuntimeUnavailable"


class OrderTimeoutError(OrderError):
    """The image was not on the node before the order's time was over."""

    reason = "Timeout"


class InvalidOrderError(OrderError):
    """The order does not name a valid image."""

    reason = "InvalidImage"
