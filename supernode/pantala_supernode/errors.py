"""All errors of a supernode. Each class has a reason, which decides whether and when the supernode retries.

::

    SupernodeError                  InternalError
    ├── SourceError                 the origin, or the way to it
    │   ├── SourceAnswerError       SourceError            an error status (5xx, 429, other 4xx)
    │   │   ├── SourceNotFoundError       SourceNotFound      404, 410
    │   │   ├── SourceUnauthorizedError   SourceUnauthorized  401, 407
    │   │   └── SourceForbiddenError      SourceForbidden     403
    │   ├── SourceRefusedError      SourceRefused          connection refused
    │   ├── SourceHostUnknownError  SourceHostUnknown      DNS
    │   ├── SourceUnreachableError  SourceUnreachable      no route
    │   ├── SourceProxyError        SourceProxyFailed      not reached through the administrator's forward proxy
    │   ├── SourceTimeoutError      SourceTimeout          no connection, no byte or too few bytes in time
    │   ├── SourceInterruptedError  SourceInterrupted      cut in the middle of the body
    │   ├── SourceChangedError      SourceChanged          the content changed during the download
    │   ├── SourceDeniedError       SourceDenied           an address or a redirect that is not allowed
    │   ├── SourceCertificateError  SourceCertificateInvalid
    │   ├── SourceProtocolError     SourceProtocolError    an answer that breaks HTTP
    │   │   └── SourceRangeError    SourceProtocolError    other bytes than the requested range
    │   ├── SourceUnusableError     SourceUnusable         a valid answer without a usable file
    │   ├── SourceURLError          SourceURLInvalid
    │   ├── SourceHeadersError      SecretInvalid          headers that cannot be sent
    │   ├── LengthMismatchError     LengthMismatch         the body is not as long as announced
    │   └── RegistryError           SourceError            a registry; its subclasses are in ``registry.errors``
    ├── ReplicaError                SourceInterrupted      the replica that provided the content stopped
    ├── DigestMismatchError         DigestMismatch         the body does not have the expected digest
    ├── QuotaExceededError          QuotaExceeded          the quotas of all namespaces that want the file refuse it
    ├── VolumeFullError             VolumeFull
    ├── VolumeFailedError           VolumeFailed
    └── RequestError                a request to the API that fails; ``status`` is its HTTP status
        ├── InvalidValueError       400                    a value that is not valid
        │   └── EmptyValueError     400                    a required value that is empty
        ├── ForbiddenError          403                    the client may not do this
        ├── NotFoundError           404                    the object does not exist (any more)
        ├── LateBodyError           408                    the body arrives too slowly
        ├── ConflictError           409                    not possible in the current state
        ├── MisdirectedError        421                    another replica owns the task; in ``replicas.copies``
        ├── LimitedError            429                    a registry limits its clients
        ├── GatewayError            502                    a registry failed
        └── NotReadyError           503                    not possible yet
"""

from typing import ClassVar, Self

from pantala_protocol.reasons import Reason


class SupernodeError(Exception):
    """The message says what happened, to what, and what to do next."""

    reason: ClassVar[Reason] = Reason.INTERNAL
    retry_after: float | None = None
    """The seconds for which the origin wants no further request. ``None``: it did not say so."""

    @classmethod
    def with_action(cls, happened: str) -> Self:
        """The error with a message of two sentences: what ``happened``, and the advice of its reason."""
        return cls(f"{happened}. {cls.reason.action}")


class SourceError(SupernodeError):
    """The origin did not provide the file."""

    reason = Reason.SOURCE_ERROR

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SourceAnswerError(SourceError):
    """The origin answered with an error status."""


class SourceNotFoundError(SourceAnswerError):
    """The origin does not have the file."""

    reason = Reason.SOURCE_NOT_FOUND


class SourceUnauthorizedError(SourceAnswerError):
    """The origin requires credentials, or rejected the task's credentials (401)."""

    reason = Reason.SOURCE_UNAUTHORIZED


class SourceForbiddenError(SourceAnswerError):
    """The origin rejected the task's credentials for this file (403)."""

    reason = Reason.SOURCE_FORBIDDEN


class SourceRefusedError(SourceError):
    """The origin's port refuses connections."""

    reason = Reason.SOURCE_REFUSED


class SourceHostUnknownError(SourceError):
    """The origin's host name cannot be resolved."""

    reason = Reason.SOURCE_HOST_UNKNOWN


class SourceUnreachableError(SourceError):
    """The origin's address cannot be reached."""

    reason = Reason.SOURCE_UNREACHABLE


class SourceProxyError(SourceError):
    """The origin was not reached through the administrator's forward proxy."""

    reason = Reason.SOURCE_PROXY


class SourceTimeoutError(SourceError):
    """The origin was too slow."""

    reason = Reason.SOURCE_TIMEOUT


class SourceInterruptedError(SourceError):
    """The body was cut. The pieces that arrived are kept."""

    reason = Reason.SOURCE_INTERRUPTED


class SourceChangedError(SourceError):
    """The content at the origin has changed, so the pieces of the former content are useless."""

    reason = Reason.SOURCE_CHANGED


class SourceDeniedError(SourceError):
    """The supernode may not connect to the address, or the origin redirects to an address that is not allowed."""

    reason = Reason.SOURCE_DENIED


class SourceCertificateError(SourceError):
    """The origin's certificate is not valid."""

    reason = Reason.SOURCE_TLS


class SourceProtocolError(SourceError):
    """The answer breaks HTTP."""

    reason = Reason.SOURCE_PROTOCOL


class SourceRangeError(SourceProtocolError):
    """The origin answered a request for a range with other bytes. Perhaps it can send the whole file only."""


class SourceUnusableError(SourceError):
    """The origin's answer is valid, but does not provide a usable file. The same request would get the same answer."""

    reason = Reason.SOURCE_UNUSABLE


class SourceURLError(SourceError):
    """The URL is not valid, or the supernode cannot request such URLs."""

    reason = Reason.SOURCE_URL_INVALID


class SourceHeadersError(SourceError):
    """The task's headers for the origin are not valid HTTP."""

    reason = Reason.SECRET_INVALID


class LengthMismatchError(SourceError):
    """The body is shorter or longer than the origin announced."""

    reason = Reason.LENGTH_MISMATCH


class ReplicaError(SupernodeError):
    """Another replica, whose copy was being read, stopped or sent wrong bytes.

    Another try does not cost the origin anything, so the number of tries has no limit.
    """

    reason = Reason.SOURCE_INTERRUPTED


class DigestMismatchError(SupernodeError):
    """The whole file does not have the expected digest."""

    reason = Reason.DIGEST_MISMATCH


class QuotaExceededError(SupernodeError):
    """The quotas of all namespaces that want the file refuse it."""

    reason = Reason.QUOTA_EXCEEDED


class VolumeFullError(SupernodeError):
    """The volume has no room for the file."""

    reason = Reason.VOLUME_FULL


class VolumeFailedError(SupernodeError):
    """The volume failed to read, write or delete."""

    reason = Reason.VOLUME_FAILED


class RequestError(SupernodeError):
    """A request to the API fails. ``status`` is the HTTP status of the answer, and ``name`` the reason in its body."""

    status: ClassVar[int] = 400
    name: ClassVar[str] = "BadRequest"


class InvalidValueError(RequestError):
    """A value in the request is not valid. The message says which values are valid."""


class EmptyValueError(InvalidValueError):
    """A required value in the request is empty."""


class ForbiddenError(RequestError):
    """The client is not allowed to do this."""

    status = 403
    name = "Forbidden"


class NotFoundError(RequestError):
    """The object that the request names does not exist, or no longer exists."""

    status = 404
    name = "NotFound"


class LateBodyError(RequestError):
    """The body of the request did not arrive in time."""

    status = 408
    name = "RequestTimeout"


class ConflictError(RequestError):
    """The current state of the object that the request names does not allow this."""

    status = 409
    name = "Conflict"


class NotReadyError(RequestError):
    """This is not possible yet. The client may repeat the request in a moment."""

    status = 503
    name = "NotReady"


class LimitedError(RequestError):
    """A registry or this supernode limits the requests of one client."""

    status = 429
    name = "RateLimited"


class GatewayError(RequestError):
    """A registry failed, or its answer is not valid."""

    status = 502
    name = "BadGateway"
