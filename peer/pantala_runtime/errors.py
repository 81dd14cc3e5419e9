"""The errors of the runtime helper. The class of an error decides the status and the reason of the answer.

::

    RequestError                status  reason
    ├── InvalidRequestError     400     InvalidRequest      the body is not valid
    ├── InvalidImageError       400     InvalidImage        the image's name is not valid
    ├── NotFoundError           404     NotFound            the registry or the node does not have the image
    ├── UnauthorizedError       403     Unauthorized        the registry rejected the credentials, or requires some
    ├── NoSpaceError            507     NoSpace             the node's disk is full
    ├── DigestMismatchError     502     DigestMismatch      the content does not match its digest
    ├── UnreachableError        502     Unreachable         the registry does not answer, or answers 5xx
    ├── PullFailedError         502     PullFailed          any other failure that the runtime reports
    ├── TimedOutError           504     Timeout             the time limit has passed
    └── UnavailableError        503     RuntimeUnavailable  the container runtime does not answer
"""

from __future__ import annotations

from typing import ClassVar


class RequestError(Exception):
    """A request failed: what happened, to what, and what to do next."""

    status: ClassVar[int]
    reason: ClassVar[str]


class InvalidRequestError(RequestError):
    """The body is not valid."""

    status, reason = 400, "InvalidRequest"


class InvalidImageError(RequestError):
    """The image's name is not valid."""

    status, reason = 400, "InvalidImage"


class NotFoundError(RequestError):
    """The registry or the node does not have the image."""

    status, reason = 404, "NotFound"


class UnauthorizedError(RequestError):
    """The registry rejected the credentials, or requires some."""

    status, reason = 403, "Unauthorized"


class NoSpaceError(RequestError):
    """The node's disk is full."""

    status, reason = 507, "NoSpace"


class DigestMismatchError(RequestError):
    """The content does not match its digest."""

    status, reason = 502, "DigestMismatch"


class UnreachableError(RequestError):
    """The registry does not answer, or answers 5xx."""

    status, reason = 502, "Unreachable"


class PullFailedError(RequestError):
    """Any other failure that the runtime reports."""

    status, reason = 502, "PullFailed"


class TimedOutError(RequestError):
    """The time limit has passed."""

    status, reason = 504, "Timeout"


class UnavailableError(RequestError):
    """The container runtime does not answer."""

    status, reason = 503, "RuntimeUnavailable"
