"""Maps an origin's HTTP statuses, and the exceptions of the HTTP client, to the errors of the supernode."""

import asyncio
import email.utils
import errno
import time
from collections.abc import Mapping

import aiohttp

from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.origin.source import Resume

_BY_STATUS: dict[int, type[errors.SourceError]] = {
    401: errors.SourceUnauthorizedError,
    403: errors.SourceForbiddenError,
    404: errors.SourceNotFoundError,
    407: errors.SourceForbiddenError,
    410: errors.SourceNotFoundError,
    412: errors.SourceChangedError,
    416: errors.SourceChangedError,
}
_MAX_RETRY_AFTER = 3600.0


def raise_for_status(status: int, headers: Mapping[str, str], shown: RedactedURL, resume: Resume | None = None) -> None:
    """Raise the :class:`SourceError` for ``status``, unless it is 200 or 206. ``resume``: what was requested."""
    if status in (200, 206):
        return
    if status == 416 and resume is not None and resume.validator:  # new content would come whole, with 200
        raise errors.LengthMismatchError.with_action(
            f"{shown} has no byte {resume.offset}, although it announced a longer file before"
        )
    kind = _BY_STATUS.get(status, errors.SourceAnswerError)
    if status < 400 and kind is errors.SourceAnswerError:
        kind = errors.SourceProtocolError
    raise kind(f"{shown} answered {status}. {kind.reason.action}", retry_after=_retry_after(headers))


def from_exception(error: Exception, shown: RedactedURL) -> errors.SourceError:
    """The error for an exception of aiohttp or the system. Its text is dropped, because it may quote secrets."""
    kind = _kind(error)
    return kind.with_action(f"{shown} {_happened(error, kind)}")


def _kind(error: Exception) -> type[errors.SourceError]:
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return errors.SourceCertificateError
        case aiohttp.ClientConnectorDNSError():
            return errors.SourceHostUnknownError
        case aiohttp.ServerTimeoutError() | asyncio.TimeoutError():
            return errors.SourceTimeoutError
        case aiohttp.ClientConnectorError():
            refused = error.os_error.errno == errno.ECONNREFUSED
            return errors.SourceRefusedError if refused else errors.SourceUnreachableError
        case aiohttp.InvalidURL():
            return errors.SourceURLError
        case aiohttp.ClientResponseError():
            return errors.SourceProtocolError
        case aiohttp.ClientPayloadError():
            return _payload_kind(error)
        case aiohttp.ClientError() | OSError():
            return errors.SourceInterruptedError
        case _:  # aiohttp rejects a header that it cannot write
            return errors.SourceHeadersError


def _payload_kind(error: aiohttp.ClientPayloadError) -> type[errors.SourceError]:
    cut = (aiohttp.http_exceptions.ContentLengthError, aiohttp.http_exceptions.TransferEncodingError)
    broken = isinstance(error.__cause__, aiohttp.http_exceptions.HttpProcessingError)
    return (
        errors.SourceProtocolError if broken and not isinstance(error.__cause__, cut) else errors.SourceInterruptedError
    )


def _happened(error: Exception, kind: type[errors.SourceError]) -> str:
    number = error.os_error.errno if isinstance(error, aiohttp.ClientConnectorError) else getattr(error, "errno", None)
    name = errno.errorcode.get(number, type(error).__name__) if isinstance(number, int) else type(error).__name__
    return f"{_WORDS.get(kind, 'failed')} ({name})"


_WORDS: dict[type[errors.SourceError], str] = {
    errors.SourceCertificateError: "has an invalid certificate",
    errors.SourceHostUnknownError: "has a host name without an address",
    errors.SourceTimeoutError: "did not send data in time",
    errors.SourceRefusedError: "refused the connection",
    errors.SourceUnreachableError: "cannot be reached",
    errors.SourceURLError: "is not a usable URL",
    errors.SourceProtocolError: "answered with invalid HTTP, or with more bytes than announced",
    errors.SourceInterruptedError: "cut the connection",
    errors.SourceHeadersError: "was not asked, because the headers for it are invalid",
}


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of ``Retry-After``, at most an hour. ``None`` without a valid one."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _MAX_RETRY_AFTER)
    try:
        until = email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError):
        return None
    return min(max(until - time.time(), 0.0), _MAX_RETRY_AFTER)
