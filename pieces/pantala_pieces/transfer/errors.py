"""The errors of a piece that was not received. The class decides what a peer reports to the supernode.

::

    FetchError                  a piece was not received; a PieceFailure reports ``kind``
    ├── ProviderUnreachableError  unreachable   the connection failed or broke
    ├── StalledError            stalled         the provider sends too little
    ├── MissingError            missing         the provider does not hold the piece
    ├── ProviderRefusedError    refused         the provider rejects the request, or is busy
    └── CorruptError            corrupt         the bytes or the answer's head are wrong
    ReceiverError               this process could not receive the piece; the provider is not the cause
    ├── ReceiverFullError       too many pieces wait
    └── ReceiverBugError        a bug ended the thread that received the piece
"""

from typing import ClassVar


class FetchError(Exception):
    """A piece was not received from its provider."""

    kind: ClassVar[str]


class ProviderUnreachableError(FetchError):
    """The connection to the provider failed or broke."""

    kind = "unreachable"


class StalledError(FetchError):
    """The provider sends too few bytes."""

    kind = "stalled"


class MissingError(FetchError):
    """The provider does not hold the piece."""

    kind = "missing"


class ProviderRefusedError(FetchError):
    """The provider rejects the request, or is busy."""

    kind = "refused"


class CorruptError(FetchError):
    """The received bytes, or the head of the answer, do not match the piece."""

    kind = "corrupt"


class ReceiverError(Exception):
    """This process could not receive a piece."""


class ReceiverFullError(ReceiverError):
    """Too many pieces wait for a thread."""


class ReceiverBugError(ReceiverError):
    """A bug ended the thread that received the piece."""
