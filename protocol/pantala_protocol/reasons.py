"""Why something failed, as one closed list: the condition's reason, whether and how it is tried again, what to do."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Retry(enum.Enum):
    """When a failure is tried again without anybody asking."""

    SOON = "soon"  # passing: exponential backoff, at most about a minute apart
    LATER = "later"  # the world has to change first, trying costs next to nothing: minutes apart
    NEVER = "never"  # trying again would read the origin again for the same result: when the spec changes


class Advice(NamedTuple):
    """What follows from a reason."""

    retry: Retry
    action: str


class Reason(enum.StrEnum):
    """A failure's name; CamelCase, as a condition's reason must be."""

    SOURCE_NOT_FOUND = "SourceNotFound"
    SOURCE_UNAUTHORIZED = "SourceUnauthorized"
    SOURCE_FORBIDDEN = "SourceForbidden"
    SOURCE_REFUSED = "SourceRefused"
    SOURCE_HOST_UNKNOWN = "SourceHostUnknown"
    SOURCE_UNREACHABLE = "SourceUnreachable"
    SOURCE_TIMEOUT = "SourceTimeout"
    SOURCE_INTERRUPTED = "SourceInterrupted"
    SOURCE_ERROR = "SourceError"
    SOURCE_CHANGED = "SourceChanged"
    SOURCE_DENIED = "SourceDenied"
    SOURCE_TLS = "SourceCertificateInvalid"
    SOURCE_PROTOCOL = "SourceProtocolError"
    SOURCE_UNUSABLE = "SourceUnusable"
    SOURCE_URL_INVALID = "SourceURLInvalid"
    LENGTH_MISMATCH = "LengthMismatch"
    DIGEST_MISMATCH = "DigestMismatch"
    VOLUME_FULL = "VolumeFull"
    VOLUME_FAILED = "VolumeFailed"
    NODE_DISK_FULL = "NodeDiskFull"
    NODE_DISK_FAILED = "NodeDiskFailed"
    PATH_OUTSIDE_ROOT = "PathOutsideRoot"
    PATH_CONFLICT = "PathConflict"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - a reason's name
    SECRET_INVALID = "SecretInvalid"  # noqa: S105 - a reason's name
    NO_NODE_MATCHES = "NoNodeMatches"
    SOURCE_UNSUPPORTED = "SourceUnsupported"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    INTERNAL = "InternalError"

    @property
    def retry(self) -> Retry:
        """When it is tried again."""
        return _ADVICE[self].retry

    @property
    def action(self) -> str:
        """What the user can do, as a sentence."""
        return _ADVICE[self].action


_ADVICE = {
    Reason.SOURCE_NOT_FOUND: Advice(Retry.LATER, "Check spec.source.url; it is asked again every few minutes."),
    Reason.SOURCE_UNAUTHORIZED: Advice(
        Retry.LATER, "Give valid credentials in the Secret that spec.headersFrom names."
    ),
    Reason.SOURCE_FORBIDDEN: Advice(Retry.LATER, "Check that the credentials in spec.headersFrom may read the file."),
    Reason.SOURCE_REFUSED: Advice(
        Retry.SOON, "Check that the origin is up and that the port in spec.source.url is right."
    ),
    Reason.SOURCE_HOST_UNKNOWN: Advice(Retry.SOON, "Check the host in spec.source.url and the cluster's DNS."),
    Reason.SOURCE_UNREACHABLE: Advice(Retry.SOON, "Check the network between the supernode and the origin."),
    Reason.SOURCE_TIMEOUT: Advice(Retry.SOON, "Check the origin's load and the network to it."),
    Reason.SOURCE_INTERRUPTED: Advice(
        Retry.SOON, "Check the origin and the network to it if this stays; the download goes on where it was cut."
    ),
    Reason.SOURCE_ERROR: Advice(Retry.SOON, "Check the origin: it answered with a server error."),
    Reason.SOURCE_CHANGED: Advice(
        Retry.SOON, "Check that the origin leaves the file alone while it is read; it is read from the start."
    ),
    Reason.SOURCE_DENIED: Advice(Retry.NEVER, "Ask the cluster's administrator to allow this source."),
    Reason.SOURCE_TLS: Advice(Retry.LATER, "Check the origin's certificate and the supernode's trusted roots."),
    Reason.SOURCE_PROTOCOL: Advice(Retry.SOON, "Check the origin: its answer breaks HTTP."),
    Reason.SOURCE_UNUSABLE: Advice(
        Retry.LATER, "Have the origin serve the plain file, with its length; it is asked again every few minutes."
    ),
    Reason.SOURCE_URL_INVALID: Advice(Retry.NEVER, "Correct spec.source.url in a new Task."),
    Reason.LENGTH_MISMATCH: Advice(Retry.SOON, "Check the origin: its body is not as long as it announced."),
    Reason.DIGEST_MISMATCH: Advice(Retry.NEVER, "Check spec.digest against the file at the origin; create a new Task."),
    Reason.VOLUME_FULL: Advice(Retry.SOON, "Delete Tasks or enlarge the supernode's volume; it goes on by itself."),
    Reason.VOLUME_FAILED: Advice(Retry.SOON, "Check the supernode's volume and its log."),
    Reason.NODE_DISK_FULL: Advice(Retry.SOON, "Free space on the node; it goes on by itself."),
    Reason.NODE_DISK_FAILED: Advice(Retry.SOON, "Check the node's disk and the peer's log."),
    Reason.PATH_OUTSIDE_ROOT: Advice(Retry.NEVER, "Choose a spec.path below the configured root."),
    Reason.PATH_CONFLICT: Advice(
        Retry.LATER, "Choose another spec.path, or delete the Task or file that has this one."
    ),
    Reason.SECRET_MISSING: Advice(Retry.LATER, "Create the Secret in the Task's namespace."),
    Reason.SECRET_INVALID: Advice(Retry.LATER, "Make each key of the Secret a header's name and each value one line."),
    Reason.NO_NODE_MATCHES: Advice(Retry.LATER, "Check spec.target and that peers run on those nodes."),
    Reason.SOURCE_UNSUPPORTED: Advice(Retry.NEVER, "Use spec.source.url; this version distributes files only."),
    Reason.DEADLINE_EXCEEDED: Advice(Retry.NEVER, "Raise spec.activeDeadlineSeconds or check what is slow."),
    Reason.INTERNAL: Advice(Retry.SOON, "See the supernode's log, and please report it."),
}
