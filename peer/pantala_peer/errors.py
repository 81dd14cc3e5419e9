"""The errors of a peer. The class of an error decides what the peer reports to the supernode.

::

    PeerError
    ├── ExchangeError               the supernode did not answer; the same exchange is sent again
    │   └── ExchangeRefusedError    the supernode rejects this exchange; the peer makes a new exchange
    └── DeliveryError               a file cannot be published; ``reason`` is the reason of the DeliveryState
        ├── OutsideRootError        PathOutsideRoot
        ├── PathConflictError       PathConflict
        └── FileMismatchError       DigestMismatch
            └── RotError            a published file has changed on the disk

The errors of the disk are :class:`pantala_pieces.errors.StoreError`. The errors of a piece that was not received are
:class:`pantala_pieces.transfer.errors.FetchError`.
"""

from typing import ClassVar

from pantala_pieces.errors import FilesExhaustedError, StoreError, StoreFullError
from pantala_protocol.reasons import Reason
from pantala_protocol.sync import DeliveryState, DeliveryStatus


class PeerError(Exception):
    """The base class of the peer's errors. A message says what happened, to what, and what to do next."""


class ExchangeError(PeerError):
    """The answer to an exchange is missing or not valid. The supernode may have received the exchange."""


class ExchangeRefusedError(ExchangeError):
    """The supernode has read the exchange and rejects it. To send the same exchange again would not help."""


LOCAL = "local"
"""The ``kind`` of a :class:`PieceFailure` if the node itself failed, such as its disk."""


class DeliveryError(PeerError):
    """A whole file cannot be published at its path."""

    reason: ClassVar[Reason]


class OutsideRootError(DeliveryError):
    """The path leads out of the peer's root directory, or could lead out of it through a link."""

    reason = Reason.PATH_OUTSIDE_ROOT


class PathConflictError(DeliveryError):
    """The path has a file that the peer did not publish."""

    reason = Reason.PATH_CONFLICT


class FileMismatchError(DeliveryError):
    """The whole file does not have the digest that the supernode requires."""

    reason = Reason.DIGEST_MISMATCH


class RotError(FileMismatchError):
    """A published file has changed on the disk."""


def failed(error: DeliveryError | StoreError) -> DeliveryState:
    """The state to report for a delivery that failed with ``error``."""
    message = str(error)
    if isinstance(error, DeliveryError):
        reason = error.reason
    elif isinstance(error, StoreFullError):  # users can act on it, and do not know the peer's paths
        reason, message = Reason.NODE_DISK_FULL, f"The node's disk has no room for the file: {error.why}"
    elif isinstance(error, FilesExhaustedError):
        reason = Reason.NODE_FILES_EXHAUSTED
    else:
        reason = Reason.NODE_DISK_FAILED
    return DeliveryState(DeliveryStatus.FAILED, reason, message)
