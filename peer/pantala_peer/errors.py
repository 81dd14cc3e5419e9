"""What can go wrong in a peer, as one tree. What is reported to the supernode follows from the class, here.

::

    PeerError
    ├── SettingsError           a flag, or the root directory, cannot be worked with
    ├── ExchangeError           the supernode could not be asked; the same exchange is tried again
    │   └── ExchangeRefusedError    it does not take this exchange; another one is made
    ├── FetchError              a piece could not be had; ``kind`` is PieceFailure's
    │   ├── UnreachableError    unreachable   no connection, or it broke
    │   ├── StalledError        stalled       connected, and then too little in too long
    │   ├── MissingError        missing       the provider does not hold it
    │   ├── RefusedError        refused       the provider says no, or not now
    │   └── CorruptError        corrupt       the bytes, or the answer around them, are wrong
    └── DeliveryError           a file cannot appear at its path; ``reason`` is a DeliveryState's
        ├── OutsideRootError    PathOutsideRoot
        ├── ConflictError       PathConflict
        └── DigestMismatchError DigestMismatch
            └── RotError                      a published file is not any more what was published

The disk's own errors are :class:`pantala_pieces.errors.StoreError`.
"""

from __future__ import annotations

from typing import ClassVar

from pantala_pieces.errors import StoreError, StoreFullError
from pantala_protocol.reasons import Reason
from pantala_protocol.sync import DeliveryState, DeliveryStatus


class PeerError(Exception):
    """What happened, to what, and what to do next."""


class SettingsError(PeerError):
    """The process cannot start like this."""


class ExchangeError(PeerError):
    """No answer, or none that can be used. The exchange may or may not have reached the supernode."""


class ExchangeRefusedError(ExchangeError):
    """The supernode read the exchange and will never take it."""


class FetchError(PeerError):
    """A piece could not be had from its provider."""

    kind: ClassVar[str]


class ProviderUnreachableError(FetchError):
    """There is no connection to the provider, or it broke."""

    kind = "unreachable"


class StalledError(FetchError):
    """The provider sent too little in too long a time."""

    kind = "stalled"


class MissingError(FetchError):
    """The provider does not hold the piece."""

    kind = "missing"


class ProviderRefusedError(FetchError):
    """The provider does not give the piece, or not now."""

    kind = "refused"


class CorruptError(FetchError):
    """What came is not the piece."""

    kind = "corrupt"


LOCAL = "local"
"""The kind of a piece that could not be kept on the node's own disk."""


class DeliveryError(PeerError):
    """A complete file cannot appear at its path."""

    reason: ClassVar[Reason]


class OutsideRootError(DeliveryError):
    """The path leads out of the root, or could."""

    reason = Reason.PATH_OUTSIDE_ROOT


class PathConflictError(DeliveryError):
    """Something that is not ours is at the path."""

    reason = Reason.PATH_CONFLICT


class FileMismatchError(DeliveryError):
    """The whole is not what the supernode says it is."""

    reason = Reason.DIGEST_MISMATCH


class RotError(FileMismatchError):
    """What was published was changed since, by the disk or by somebody."""


def failed(error: DeliveryError | StoreError) -> DeliveryState:
    """How a delivery that met ``error`` is reported."""
    if isinstance(error, DeliveryError):
        reason = error.reason
    elif isinstance(error, StoreFullError):
        reason = Reason.NODE_DISK_FULL
    else:
        reason = Reason.NODE_DISK_FAILED
    return DeliveryState(DeliveryStatus.FAILED, reason, str(error))
