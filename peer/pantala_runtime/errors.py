"""The errors of the runtime helper. An error's class has the status and the reason of the HTTP answer.

::

    HelperError                     status  reason
    ├── InvalidRequestError         400     InvalidRequest      the body is not valid
    ├── InvalidImageError           400     InvalidImage        the image's name is not valid
    ├── NoSuchImageError            404     NotFound            the registry or the node does not have the image
    ├── PullUnauthorizedError       403     Unauthorized        the registry rejected or requires credentials
    ├── NodeFullError               507     NoSpace             the node's disk is full
    ├── PullDigestError             502     DigestMismatch      the content does not match its digest
    ├── PullUnreachableError        502     Unreachable         the registry does not answer, or answers 5xx
    ├── PullFailedError             502     PullFailed          any other failure that the runtime reports
    ├── PullTimeoutError            504     Timeout             the time limit has passed
    └── RuntimeSilentError          503     RuntimeUnavailable  the container runtime does not answer
"""

from typing import ClassVar


class HelperError(Exception):
    """A request failed. The message says what happened, to what, and what to do next."""

    status: ClassVar[int]
    reason: ClassVar[str]


class InvalidRequestError(HelperError):
    """The body of the request is not valid."""

    status, reason = 400, "InvalidRequest"


class InvalidImageError(HelperError):
    """The image's name is not valid."""

    status, reason = 400, "InvalidImage"


class NoSuchImageError(HelperError):
    """The registry or the node does not have the image."""

    status, reason = 404, "NotFound"


class PullUnauthorizedError(HelperError):
    """The registry rejected the credentials, or requires credentials."""

    status, reason = 403, "Unauthorized"


class NodeFullError(HelperError):
    """The node's disk is full."""

    status, reason = 507, "NoSpace"


class PullDigestError(HelperError):
    """The content does not match its digest."""

    status, reason = 502, "DigestMismatch"


class PullUnreachableError(HelperError):
    """The registry does not answer, or answers 5xx."""

    status, reason = 502, "Unreachable"


class PullFailedError(HelperError):
    """Any other failure that the runtime reports."""

    status, reason = 502, "PullFailed"


class PullTimeoutError(HelperError):
    """The time limit has passed."""

    status, reason = 504, "Timeout"


class RuntimeSilentError(HelperError):
    """The container runtime does not answer."""

    status, reason = 503, "RuntimeUnavailable"
