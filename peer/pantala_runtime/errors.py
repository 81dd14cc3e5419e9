"""What can go wrong in the runtime helper, as one tree. Status and reason of an answer follow from the class, here.

::

    HelperError
    ├── SettingsError               a flag that cannot be worked with
    └── RequestError                status  reason
        ├── InvalidRequestError     400     InvalidRequest      the body is not what is asked for
        ├── InvalidImageError       400     InvalidImage        no image has such a name
        ├── NotFoundError           404     NotFound            the registry, or the node, does not have it
        ├── UnauthorizedError       403     Unauthorized        the registry wants other credentials, or any
        ├── NoSpaceError            507     NoSpace             the node's disk is full
        ├── DigestMismatchError     502     DigestMismatch      what came is not what was asked for
        ├── UnreachableError        502     Unreachable         no connection to the registry, or it is ill
        ├── PullFailedError         502     PullFailed          the runtime says what, and we know no better
        ├── TimedOutError           504     Timeout             not done in the time that was given
        └── UnavailableError        503     RuntimeUnavailable  the container runtime does not answer
"""

from __future__ import annotations

from typing import ClassVar


class HelperError(Exception):
    """What happened, to what, and what to do next."""


class SettingsError(HelperError):
    """The process cannot start like this."""


class RequestError(HelperError):
    """A request that was not done."""

    status: ClassVar[int]
    reason: ClassVar[str]


class InvalidRequestError(RequestError):
    """The body is not what is asked for."""

    status, reason = 400, "InvalidRequest"


class InvalidImageError(RequestError):
    """No image has such a name."""

    status, reason = 400, "InvalidImage"


class NotFoundError(RequestError):
    """The registry, or the node, does not have it."""

    status, reason = 404, "NotFound"


class UnauthorizedError(RequestError):
    """The registry wants other credentials, or any."""

    status, reason = 403, "Unauthorized"


class NoSpaceError(RequestError):
    """The node's disk is full."""

    status, reason = 507, "NoSpace"


class DigestMismatchError(RequestError):
    """What came is not what was asked for."""

    status, reason = 502, "DigestMismatch"


class UnreachableError(RequestError):
    """There is no connection to the registry, or it is ill."""

    status, reason = 502, "Unreachable"


class PullFailedError(RequestError):
    """The runtime says what happened, and we know no better."""

    status, reason = 502, "PullFailed"


class TimedOutError(RequestError):
    """It was not done in the time that was given."""

    status, reason = 504, "Timeout"


class UnavailableError(RequestError):
    """The container runtime does not answer."""

    status, reason = 503, "RuntimeUnavailable"
