"""The errors of registries, with their reasons, as a branch of the tree in :mod:`pantala_supernode.errors`.

::

    SourceError
    └── RegistryError                    Failed           any other error status
        ├── RegistryFailedError          Failed           5xx
        ├── ImageNotFoundError           NotFound         the tag, digest or repository does not exist
        ├── RegistryUnauthorizedError    Unauthorized     missing or wrong credentials
        │   └── CloudIdentityError       Unauthorized     a cloud does not accept the supernode's identity
        ├── RegistryForbiddenError       Forbidden        credentials that may not read the repository
        ├── RateLimitedError             RateLimited      ``retry_after`` says for how long
        ├── RegistryUnreachableError     Unreachable      DNS, no route, refused, too slow, cut
        ├── RegistryCertificateError     CertificateInvalid
        ├── RegistryDeniedError          Denied           an address, redirect or registry that is not allowed
        ├── InvalidManifestError         InvalidManifest  malformed, too large, or with a wrong digest
        └── InvalidAnswerError           InvalidAnswer    an answer that breaks the registry's protocol
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pantala_protocol.reasons import Reason
from pantala_supernode.errors import (
    SourceDeniedError,
    SourceError,
    SourceForbiddenError,
    SourceNotFoundError,
    SourceUnauthorizedError,
)
from pantala_supernode.origin.refusal import retry_after
from pantala_supernode.outbound.errors import Fault, OutboundError


class RegistryError(SourceError):
    """The registry answered with an error."""

    image_reason: ClassVar[Reason] = Reason.FAILED
    """The reason to report for an image. ``reason`` is the reason to report for a single blob."""

    @classmethod
    def of(cls, what: str, happened: str, *, retry_after: float | None = None) -> RegistryError:
        """The error with a message of three parts: the affected object ``what``, what ``happened``, and the advice."""
        return cls(f"{what}: {happened}. {cls.image_reason.action}", retry_after=retry_after)


class RegistryFailedError(RegistryError):
    """The registry answered with a server error (5xx)."""


class ImageNotFoundError(RegistryError):
    """The registry has no such tag, digest or repository."""

    reason = Reason.SOURCE_NOT_FOUND
    image_reason = Reason.NOT_FOUND


class RegistryUnauthorizedError(RegistryError):
    """The registry requires credentials, or rejected the given credentials."""

    reason = Reason.SOURCE_UNAUTHORIZED
    image_reason = Reason.UNAUTHORIZED


class CloudIdentityError(RegistryUnauthorizedError):
    """A cloud did not give credentials to the supernode's identity."""


class RegistryForbiddenError(RegistryError):
    """The registry accepted the credentials, but denied access."""

    reason = Reason.SOURCE_FORBIDDEN
    image_reason = Reason.FORBIDDEN


class RateLimitedError(RegistryError):
    """The registry received too many requests."""

    image_reason = Reason.RATE_LIMITED


class RegistryUnreachableError(RegistryError):
    """The registry cannot be reached, or does not answer."""

    reason = Reason.SOURCE_UNREACHABLE
    image_reason = Reason.UNREACHABLE


class RegistryCertificateError(RegistryError):
    """The registry's certificate is not valid."""

    reason = Reason.SOURCE_TLS
    image_reason = Reason.CERTIFICATE_INVALID


class RegistryDeniedError(RegistryError):
    """The supernode's configuration forbids the connection."""

    reason = Reason.SOURCE_DENIED
    image_reason = Reason.DENIED


class InvalidManifestError(RegistryError):
    """The registry sent an invalid manifest, or a manifest with a wrong digest."""

    reason = Reason.SOURCE_PROTOCOL
    image_reason = Reason.INVALID_MANIFEST


class InvalidAnswerError(RegistryError):
    """The registry or its token server sent an answer that breaks the protocol."""

    reason = Reason.SOURCE_PROTOCOL
    image_reason = Reason.INVALID_ANSWER


_SUCCESS = frozenset({200, 201, 203, 206})
"""Statuses of answers with content. Token servers send 201 too, and proxies that change header fields send 203."""
_BY_STATUS: dict[int, tuple[type[RegistryError], str]] = {
    401: (RegistryUnauthorizedError, "the registry requires credentials or rejected them"),
    403: (RegistryForbiddenError, "the registry denied access"),
    404: (ImageNotFoundError, "not found in the registry"),
    410: (ImageNotFoundError, "removed from the registry"),
    429: (RateLimitedError, "the registry rejected the request, because it received too many requests"),
}
_BY_REFUSAL: dict[type[SourceError], tuple[type[RegistryError], str]] = {
    SourceUnauthorizedError: _BY_STATUS[401],
    SourceForbiddenError: _BY_STATUS[403],
    SourceNotFoundError: _BY_STATUS[404],
}
REFUSALS = tuple(_BY_REFUSAL)
"""The refusals of a blob, as :func:`from_refusal` takes them."""
_BY_FAULT: dict[Fault, type[RegistryError]] = {
    Fault.HEADERS: RegistryUnauthorizedError,
    Fault.HOST_UNKNOWN: RegistryUnreachableError,
    Fault.PROXY: RegistryUnreachableError,
    Fault.REFUSED: RegistryUnreachableError,
    Fault.UNREACHABLE: RegistryUnreachableError,
    Fault.CERTIFICATE: RegistryCertificateError,
    Fault.NO_TLS: RegistryCertificateError,
    Fault.TIMEOUT: RegistryUnreachableError,
    Fault.INTERRUPTED: RegistryUnreachableError,
    Fault.REDIRECT_SCHEME: RegistryDeniedError,
    Fault.DOWNGRADE: RegistryDeniedError,
}
"""Any other fault is an :class:`InvalidAnswerError`."""


def raise_for_status(status: int, headers: Mapping[str, str], what: str) -> None:
    """Raise the :class:`RegistryError` for an answer's ``status``, unless it is a success with content."""
    if status in _SUCCESS:
        return
    other = RegistryFailedError if status >= 500 else RegistryError if status >= 400 else InvalidAnswerError
    kind, happened = _BY_STATUS.get(status, (other, f"the registry answered {status}"))
    raise kind.of(what, happened, retry_after=retry_after(headers))


def from_refusal(error: SourceError, what: str) -> RegistryError:
    kind, happened = _BY_REFUSAL[type(error)]
    return kind.of(what, happened)


def from_denial(error: SourceDeniedError, what: str) -> RegistryError:
    """The error for a forbidden address, which the message names."""
    happened = str(error).removesuffix(f". {error.reason.action}").replace("The origin's", "the server's", 1)
    return RegistryDeniedError.of(what, happened)


def from_fault(error: OutboundError, what: str) -> RegistryError:
    return _BY_FAULT.get(error.fault, InvalidAnswerError).of(what, f"the registry {error}")
