"""What can go wrong in a supernode, as one tree. The class decides the reason, and the reason how it is retried.

::

    SupernodeError                  InternalError
    ├── SourceError                 the origin, or the way to it
    │   ├── SourceAnswerError       SourceError            a status that says no (5xx, 429, other 4xx)
    │   │   ├── SourceNotFoundError       SourceNotFound      404, 410
    │   │   ├── SourceUnauthorizedError   SourceUnauthorized  401
    │   │   └── SourceForbiddenError      SourceForbidden     403, 407
    │   ├── SourceRefusedError      SourceRefused          nobody listens there
    │   ├── SourceHostUnknownError  SourceHostUnknown      DNS
    │   ├── SourceUnreachableError  SourceUnreachable      no route
    │   ├── SourceTimeoutError      SourceTimeout          no connection, no byte or too few bytes in time
    │   ├── SourceInterruptedError  SourceInterrupted      cut in mid-body
    │   ├── SourceChangedError      SourceChanged          another content than a moment ago
    │   ├── SourceDeniedError       SourceDenied           an address or a redirect that is not allowed
    │   ├── SourceCertificateError  SourceCertificateInvalid
    │   ├── SourceProtocolError     SourceProtocolError    an answer that breaks HTTP
    │   ├── SourceUnusableError     SourceUnusable         an answer that is right, and no file that can be taken
    │   ├── SourceURLError          SourceURLInvalid
    │   ├── SourceHeadersError      SecretInvalid          headers that cannot be sent
    │   ├── LengthMismatchError     LengthMismatch         the body is not as long as announced
    │   └── RegistryError           SourceError            a registry's; its own branch is in ``registry.errors``
    ├── ReplicaError                SourceInterrupted      the replica that provided the content stopped
    ├── DigestMismatchError         DigestMismatch         the body is not what was asked for
    ├── VolumeFullError             VolumeFull
    ├── VolumeFailedError           VolumeFailed
    └── RequestError                what was asked for cannot be done; ``status`` is what HTTP says to it
        ├── InvalidValueError       400                    a value that cannot be meant
        │   └── EmptyValueError     400                    no value where one is needed
        ├── NotFoundError           404                    nobody knows it
        ├── ConflictError           409                    it cannot be done to a thing in this state
        ├── MisdirectedError        421                    it is another supernode's; in ``copies``
        ├── LimitedError        429                    a registry was asked too often
        ├── GatewayError        502                    a registry did not do what it was asked for
        └── NotReadyError       503                    not yet; ask again
"""

from __future__ import annotations

from typing import ClassVar

from pantala_protocol.reasons import Reason


class SupernodeError(Exception):
    """What happened, to what, and what to do next."""

    reason: ClassVar[Reason] = Reason.INTERNAL


class SourceError(SupernodeError):
    """The origin did not give the file; ``retry_after``: seconds that it asked to be left alone, if it did."""

    reason = Reason.SOURCE_ERROR

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SourceAnswerError(SourceError):
    """The origin answered with a status that is no file."""


class SourceNotFoundError(SourceAnswerError):
    """There is no such file at the origin."""

    reason = Reason.SOURCE_NOT_FOUND


class SourceUnauthorizedError(SourceAnswerError):
    """The origin wants credentials, or other ones."""

    reason = Reason.SOURCE_UNAUTHORIZED


class SourceForbiddenError(SourceAnswerError):
    """The origin does not give the file to whom it knows us to be."""

    reason = Reason.SOURCE_FORBIDDEN


class SourceRefusedError(SourceError):
    """Nobody listens at the origin's port."""

    reason = Reason.SOURCE_REFUSED


class SourceHostUnknownError(SourceError):
    """The origin's name has no address."""

    reason = Reason.SOURCE_HOST_UNKNOWN


class SourceUnreachableError(SourceError):
    """There is no way to the origin's address."""

    reason = Reason.SOURCE_UNREACHABLE


class SourceTimeoutError(SourceError):
    """The origin was too slow."""

    reason = Reason.SOURCE_TIMEOUT


class SourceInterruptedError(SourceError):
    """The body was cut; what came of it is kept."""

    reason = Reason.SOURCE_INTERRUPTED


class SourceChangedError(SourceError):
    """The origin has another content now; the pieces of the former one are of no use."""

    reason = Reason.SOURCE_CHANGED


class SourceDeniedError(SourceError):
    """The address or the redirect is not allowed."""

    reason = Reason.SOURCE_DENIED


class SourceCertificateError(SourceError):
    """The origin could not prove who it is."""

    reason = Reason.SOURCE_TLS


class SourceProtocolError(SourceError):
    """The answer breaks HTTP."""

    reason = Reason.SOURCE_PROTOCOL


class SourceUnusableError(SourceError):
    """The origin answers in a way that no file can be had from, and will do so again: its body is not read."""

    reason = Reason.SOURCE_UNUSABLE


class SourceURLError(SourceError):
    """The URL cannot be asked for."""

    reason = Reason.SOURCE_URL_INVALID


class SourceHeadersError(SourceError):
    """The headers for the origin cannot be sent."""

    reason = Reason.SECRET_INVALID


class LengthMismatchError(SourceError):
    """The body is shorter or longer than the origin announced."""

    reason = Reason.LENGTH_MISMATCH


class ReplicaError(SupernodeError):
    """Another supernode, whose copy was being read, gives no more of it, or gave something wrong.

    That costs the origin nothing, so it is no failure of the origin's: as often as it takes, it is tried again.
    """

    reason = Reason.SOURCE_INTERRUPTED


class DigestMismatchError(SupernodeError):
    """The whole file does not have the digest that was asked for."""

    reason = Reason.DIGEST_MISMATCH


class VolumeFullError(SupernodeError):
    """The volume has no room for the file."""

    reason = Reason.VOLUME_FULL


class VolumeFailedError(SupernodeError):
    """The volume refused to read or write."""

    reason = Reason.VOLUME_FAILED


class RequestError(SupernodeError):
    """Who asked can do something about it; ``name`` is the reason that is told, ``status`` the one of HTTP."""

    status: ClassVar[int] = 400
    name: ClassVar[str] = "BadRequest"


class InvalidValueError(RequestError):
    """A value is of no use; the message says which values are."""


class EmptyValueError(InvalidValueError):
    """A value is needed and none was given."""


class ForbiddenError(RequestError):
    """It is not for who asks."""

    status = 403
    name = "Forbidden"


class NotFoundError(RequestError):
    """There is no such thing (any more)."""

    status = 404
    name = "NotFound"


class ConflictError(RequestError):
    """The thing is in a state in which this cannot be done to it."""

    status = 409
    name = "Conflict"


class NotReadyError(RequestError):
    """It cannot be told or done yet; the same may be asked again in a moment."""

    status = 503
    name = "NotReady"


class LimitedError(RequestError):
    """Whom this supernode had to ask was asked too often."""

    status = 429
    name = "RateLimited"


class GatewayError(RequestError):
    """Whom this supernode had to ask did not answer as it should."""

    status = 502
    name = "BadGateway"
