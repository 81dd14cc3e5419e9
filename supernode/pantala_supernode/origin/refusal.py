"""Maps an origin's HTTP statuses, and the faults of requests to it, to the errors of the supernode."""

import email.utils
import time
from collections.abc import Mapping

from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.origin.source import Resume
from pantala_supernode.outbound.errors import Fault, OutboundError

_BY_STATUS: dict[int, type[errors.SourceError]] = {
    401: errors.SourceUnauthorizedError,
    403: errors.SourceForbiddenError,
    404: errors.SourceNotFoundError,
    407: errors.SourceUnauthorizedError,
    410: errors.SourceNotFoundError,
    412: errors.SourceChangedError,
    416: errors.SourceChangedError,
}
_MAX_RETRY_AFTER = 3600.0


def raise_for_status(status: int, headers: Mapping[str, str], shown: RedactedURL, resume: Resume | None = None) -> None:
    """Raise the :class:`SourceError` for ``status``, unless it is 200 or 206. ``resume``: what was requested."""
    if status in (200, 206):
        return
    if status == 416 and resume is not None and resume.validator:  # new content would have the status 200
        raise errors.LengthMismatchError.with_action(
            f"{shown} has no byte {resume.offset}, although it announced a longer file before"
        )
    kind = _BY_STATUS.get(status, errors.SourceAnswerError)
    if status < 400 and kind is errors.SourceAnswerError:
        kind = errors.SourceProtocolError
    why = ", because it received too many requests" if status == 429 else ""
    raise kind(f"{shown} answered {status}{why}. {kind.reason.action}", retry_after=retry_after(headers))


def from_fault(error: OutboundError, shown: RedactedURL) -> errors.SourceError:
    """The error for a request to ``shown`` that failed with ``error``."""
    return _BY_FAULT[error.fault].with_action(f"{shown} {error}")


_BY_FAULT: dict[Fault, type[errors.SourceError]] = {
    Fault.URL: errors.SourceURLError,
    Fault.HEADERS: errors.SourceHeadersError,
    Fault.HOST_UNKNOWN: errors.SourceHostUnknownError,
    Fault.PROXY: errors.SourceProxyError,
    Fault.REFUSED: errors.SourceRefusedError,
    Fault.UNREACHABLE: errors.SourceUnreachableError,
    Fault.CERTIFICATE: errors.SourceCertificateError,
    Fault.NO_TLS: errors.SourceCertificateError,
    Fault.TIMEOUT: errors.SourceTimeoutError,
    Fault.INTERRUPTED: errors.SourceInterruptedError,
    Fault.PROTOCOL: errors.SourceProtocolError,
    Fault.HEAD_TOO_LARGE: errors.SourceProtocolError,
    Fault.BODY_TOO_LONG: errors.LengthMismatchError,
    Fault.REDIRECT: errors.SourceUnusableError,
    Fault.REDIRECT_SCHEME: errors.SourceDeniedError,
    Fault.DOWNGRADE: errors.SourceDeniedError,
    Fault.REDIRECTS: errors.SourceUnusableError,
}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of ``Retry-After``, at most an hour. ``None``: the header is missing or not valid."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _MAX_RETRY_AFTER)
    try:
        until = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(until - time.time(), 0.0), _MAX_RETRY_AFTER)
