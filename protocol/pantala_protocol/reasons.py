"""Why something failed: one closed table of reasons, with when each is tried again and what the user can do.

Files and images of all resources use it. A reason is the ``reason`` of a condition, of a status' failure, and of the
messages between processes.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Retry(enum.Enum):
    """When a failure is tried again without a user's request."""

    SOON = "soon"  # passing: exponential backoff, at most about a minute apart
    LATER = "later"  # something else must change first and a try is cheap: minutes apart
    NEVER = "never"  # a try would read the origin again for the same result: when the spec changes


SOON, LATER, NEVER = Retry


class Advice(NamedTuple):
    """What follows from a reason."""

    retry: Retry
    action: str
    """What the user can do, as a sentence."""


class Reason(enum.StrEnum):
    """A failure's name (CamelCase, as a condition's reason must be), when it is tried again, and what to do."""

    retry: Retry
    action: str

    def __new__(cls, value: str, retry: Retry, action: str) -> Reason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.retry = retry
        member.action = action
        return member

    # Files: the origin.
    SOURCE_NOT_FOUND = "SourceNotFound", LATER, "Check spec.source.url; it is asked again every few minutes."
    SOURCE_UNAUTHORIZED = (
        "SourceUnauthorized", LATER, "Give valid credentials in the Secret that spec.headersFrom names.",
    )  # fmt: skip
    SOURCE_FORBIDDEN = "SourceForbidden", LATER, "Check that the credentials in spec.headersFrom may read the file."
    SOURCE_REFUSED = "SourceRefused", SOON, "Check that the origin is up and that the port in spec.source.url is right."
    SOURCE_HOST_UNKNOWN = "SourceHostUnknown", SOON, "Check the host in spec.source.url and the cluster's DNS."
    SOURCE_UNREACHABLE = "SourceUnreachable", SOON, "Check the network between the supernode and the origin."
    SOURCE_TIMEOUT = "SourceTimeout", SOON, "Check the origin's load and the network to it."
    SOURCE_INTERRUPTED = (
        "SourceInterrupted", SOON,
        "Check the origin and the network to it if this stays; the download continues where it stopped.",
    )  # fmt: skip
    SOURCE_ERROR = "SourceError", SOON, "Check the origin: it answered with a server error."
    SOURCE_CHANGED = (
        "SourceChanged", SOON,
        "Check that the origin leaves the file alone while it is read; it is read from the start.",
    )  # fmt: skip
    SOURCE_DENIED = "SourceDenied", NEVER, "Ask the cluster's administrator to allow this source."
    SOURCE_TLS = "SourceCertificateInvalid", LATER, "Check the origin's certificate and the supernode's trusted roots."
    SOURCE_PROTOCOL = "SourceProtocolError", SOON, "Check the origin: its answer breaks HTTP."
    SOURCE_UNUSABLE = (
        "SourceUnusable", LATER,
        "Have the origin serve the plain file, with its length; it is asked again every few minutes.",
    )  # fmt: skip
    SOURCE_URL_INVALID = "SourceURLInvalid", NEVER, "Correct spec.source.url in a new Task."
    SOURCE_UNSUPPORTED = "SourceUnsupported", NEVER, "Set spec.depth to Runtime or Peer, or spec.source.url."
    LENGTH_MISMATCH = "LengthMismatch", SOON, "Check the origin: its body is not as long as it announced."
    DIGEST_MISMATCH = "DigestMismatch", NEVER, "Check spec.digest against the file at the origin; create a new Task."

    # Files: the supernode, the nodes, the resource.
    VOLUME_FULL = "VolumeFull", SOON, "Delete Tasks or enlarge the supernode's volume; it continues by itself."
    VOLUME_FAILED = "VolumeFailed", SOON, "Check the supernode's volume and its log."
    NODE_DISK_FULL = "NodeDiskFull", SOON, "Free space on the node; it continues by itself."
    NODE_DISK_FAILED = "NodeDiskFailed", SOON, "Check the node's disk and the peer's log."
    PATH_OUTSIDE_ROOT = "PathOutsideRoot", NEVER, "Choose a spec.path below the configured root."
    PATH_CONFLICT = "PathConflict", LATER, "Choose another spec.path, or delete the Task or file that has this one."
    SECRET_MISSING = "SecretMissing", LATER, "Create the Secret in the Task's namespace."
    SECRET_INVALID = "SecretInvalid", LATER, "Make each key of the Secret a header's name and each value one line."
    SECRET_FORBIDDEN = (
        "SecretForbidden", LATER, "Allow the operator to get secrets in this namespace; it continues by itself.",
    )  # fmt: skip
    NO_NODE_MATCHES = "NoNodeMatches", LATER, "Check spec.target and that peers run on those nodes."
    DEADLINE_EXCEEDED = "DeadlineExceeded", NEVER, "Raise spec.activeDeadlineSeconds or check what is slow."
    INTERNAL = "InternalError", SOON, "See the supernode's log, and please report it."

    # Images: the registry and the nodes' container runtimes.
    NOT_FOUND = (
        "NotFound", LATER,
        "Check the image's name, and its tag or digest; some registries answer this for private images, too.",
    )  # fmt: skip
    UNAUTHORIZED = "Unauthorized", LATER, "Name a Secret with valid credentials for this registry in spec.pullSecrets."
    FORBIDDEN = "Forbidden", LATER, "Check that the credentials in spec.pullSecrets may read this repository."
    RATE_LIMITED = (
        "RateLimited", LATER,
        "It is asked again in a while; with credentials in spec.pullSecrets most registries allow more.",
    )  # fmt: skip
    UNREACHABLE = "Unreachable", SOON, "Check that the registry is up, and the network to it."
    CERTIFICATE_INVALID = "CertificateInvalid", LATER, "Check the registry's certificate and the trusted roots."
    DENIED = "Denied", NEVER, "Ask the cluster's administrator to allow this registry."
    INVALID_ANSWER = "InvalidAnswer", LATER, "Check that a registry answers there, and its proxy."
    INVALID_MANIFEST = "InvalidManifest", LATER, "Check the image in the registry, and push it again."
    PLATFORM_MISSING = (
        "PlatformMissing", NEVER, "Choose other nodes in spec.target, or push the image for this platform.",
    )  # fmt: skip
    INVALID_IMAGE = "InvalidImage", NEVER, "Correct the reference."
    NO_SPACE = "NoSpace", SOON, "Free space on the node's image file system."
    TIMEOUT = "Timeout", SOON, "Check what is slow, or raise spec.timeoutSecondsPerNode."
    RUNTIME_UNAVAILABLE = (
        "RuntimeUnavailable", SOON, "Check the container runtime on the node and the peer's runtime helper.",
    )  # fmt: skip
    PULL_FAILED = "PullFailed", SOON, "See the log of the node's container runtime."
    FAILED = "Failed", SOON, "See the log of the node's peer."

    # Images: the resource and its nodes.
    WORKLOAD_MISSING = "WorkloadMissing", LATER, "Create the workload, or correct spec.from.workloadRef."
    NAMESPACES_FORBIDDEN = (
        "NamespacesForbidden", NEVER, "Create it in the operator's own namespace, or use spec.from.workloadRef.",
    )  # fmt: skip
    SCHEDULE_INVALID = "ScheduleInvalid", NEVER, "Correct spec.schedule."
    NO_IMAGE = "NoImage", LATER, "Give spec.images, or let spec.from select workloads that have some."
    TOO_MANY_IMAGES = "TooManyImages", LATER, "Spread them over several ImagePrefetches."
    NAME_TAKEN = "TaskNameTaken", LATER, "Delete or rename that Task."
    TOO_MANY_FAILURES = (
        "TooManyFailures", LATER,
        "Fix the causes in status.failures, or raise spec.rollout.maxFailures; it continues by itself.",
    )  # fmt: skip
    EVICTED = (
        "EvictedByKubelet", NEVER,
        (
            "Free disk space, set spec.retention.pin, or raise the kubelet's imageMaximumGCAge or "
            "imageGCHighThresholdPercent; then set the annotation pantala.dev/requested-at."
        ),
    )  # fmt: skip
    BUDGET_EXCEEDED = "BudgetExceeded", NEVER, "Raise spec.retention.byteBudget, or want fewer images."
    NODE_UNAVAILABLE = "NodeUnavailable", LATER, "Check the node and its peer; nothing waits for it."


def of_file(reason: str) -> Advice | None:
    """The advice for a file's failure; ``None``: another version of Pantala sent this reason."""
    known = Reason._value2member_map_.get(reason)
    return Advice(known.retry, known.action) if isinstance(known, Reason) else None


def of_image(reason: str) -> Advice:
    """The advice for an image's failure; an unknown reason is tried again soon."""
    if reason == Reason.DIGEST_MISMATCH:  # A node can read the image again; a file's origin would send the same bytes.
        return Advice(Retry.SOON, "Push the image again if this stays: the registry's copy is damaged.")
    return of_file(reason) or Advice(Retry.SOON, Reason.FAILED.action)
