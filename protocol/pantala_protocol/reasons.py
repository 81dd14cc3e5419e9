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
    SOURCE_NOT_FOUND = "SourceNotFound", Retry.LATER, "Check spec.source.url; it is asked again every few minutes."
    SOURCE_UNAUTHORIZED = (
        "SourceUnauthorized", Retry.LATER, "Give valid credentials in the Secret that spec.headersFrom names.",
    )  # fmt: skip
    SOURCE_FORBIDDEN = (
        "SourceForbidden", Retry.LATER, "Check that the credentials in spec.headersFrom may read the file.",
    )  # fmt: skip
    SOURCE_REFUSED = (
        "SourceRefused", Retry.SOON, "Check that the origin is up and that the port in spec.source.url is right.",
    )  # fmt: skip
    SOURCE_HOST_UNKNOWN = (
        "SourceHostUnknown", Retry.SOON, "Check the host in spec.source.url and the cluster's DNS.",
    )  # fmt: skip
    SOURCE_UNREACHABLE = (
        "SourceUnreachable", Retry.SOON, "Check the network between the supernode and the origin.",
    )  # fmt: skip
    SOURCE_TIMEOUT = "SourceTimeout", Retry.SOON, "Check the origin's load and the network to it."
    SOURCE_INTERRUPTED = (
        "SourceInterrupted", Retry.SOON,
        "Check the origin and the network to it if this stays; the download goes on where it was cut.",
    )  # fmt: skip
    SOURCE_ERROR = "SourceError", Retry.SOON, "Check the origin: it answered with a server error."
    SOURCE_CHANGED = (
        "SourceChanged", Retry.SOON,
        "Check that the origin leaves the file alone while it is read; it is read from the start.",
    )  # fmt: skip
    SOURCE_DENIED = "SourceDenied", Retry.NEVER, "Ask the cluster's administrator to allow this source."
    SOURCE_TLS = (
        "SourceCertificateInvalid", Retry.LATER,
        "Check the origin's certificate and the supernode's trusted roots.",
    )  # fmt: skip
    SOURCE_PROTOCOL = "SourceProtocolError", Retry.SOON, "Check the origin: its answer breaks HTTP."
    SOURCE_UNUSABLE = (
        "SourceUnusable", Retry.LATER,
        "Have the origin serve the plain file, with its length; it is asked again every few minutes.",
    )  # fmt: skip
    SOURCE_URL_INVALID = "SourceURLInvalid", Retry.NEVER, "Correct spec.source.url in a new Task."
    SOURCE_UNSUPPORTED = (
        "SourceUnsupported", Retry.NEVER, "Use spec.source.url; this version distributes files only.",
    )  # fmt: skip
    LENGTH_MISMATCH = (
        "LengthMismatch", Retry.SOON, "Check the origin: its body is not as long as it announced.",
    )  # fmt: skip
    DIGEST_MISMATCH = (
        "DigestMismatch", Retry.NEVER, "Check spec.digest against the file at the origin; create a new Task.",
    )  # fmt: skip

    # Files: the supernode, the nodes, the resource.
    VOLUME_FULL = (
        "VolumeFull", Retry.SOON, "Delete Tasks or enlarge the supernode's volume; it goes on by itself.",
    )  # fmt: skip
    VOLUME_FAILED = "VolumeFailed", Retry.SOON, "Check the supernode's volume and its log."
    NODE_DISK_FULL = "NodeDiskFull", Retry.SOON, "Free space on the node; it goes on by itself."
    NODE_DISK_FAILED = "NodeDiskFailed", Retry.SOON, "Check the node's disk and the peer's log."
    PATH_OUTSIDE_ROOT = "PathOutsideRoot", Retry.NEVER, "Choose a spec.path below the configured root."
    PATH_CONFLICT = (
        "PathConflict", Retry.LATER, "Choose another spec.path, or delete the Task or file that has this one.",
    )  # fmt: skip
    SECRET_MISSING = "SecretMissing", Retry.LATER, "Create the Secret in the Task's namespace."
    SECRET_INVALID = (
        "SecretInvalid", Retry.LATER, "Make each key of the Secret a header's name and each value one line.",
    )  # fmt: skip
    SECRET_FORBIDDEN = (
        "SecretForbidden", Retry.LATER, "Grant the operator get on secrets in this namespace; it goes on by itself.",
    )  # fmt: skip
    NO_NODE_MATCHES = "NoNodeMatches", Retry.LATER, "Check spec.target and that peers run on those nodes."
    DEADLINE_EXCEEDED = "DeadlineExceeded", Retry.NEVER, "Raise spec.activeDeadlineSeconds or check what is slow."
    INTERNAL = "InternalError", Retry.SOON, "See the supernode's log, and please report it."

    # Images: the registry and the nodes' container runtimes.
    NOT_FOUND = (
        "NotFound", Retry.LATER,
        "Check the image's name, and its tag or digest; some registries say so of private images, too.",
    )  # fmt: skip
    UNAUTHORIZED = (
        "Unauthorized", Retry.LATER, "Name a Secret with valid credentials for this registry in spec.pullSecrets.",
    )  # fmt: skip
    FORBIDDEN = (
        "Forbidden", Retry.LATER, "Check that the credentials in spec.pullSecrets may read this repository.",
    )  # fmt: skip
    RATE_LIMITED = (
        "RateLimited", Retry.LATER,
        "It is asked again in a while; with credentials in spec.pullSecrets most registries allow more.",
    )  # fmt: skip
    UNREACHABLE = "Unreachable", Retry.SOON, "Check that the registry is up, and the network to it."
    CERTIFICATE_INVALID = (
        "CertificateInvalid", Retry.LATER, "Check the registry's certificate and the trusted roots.",
    )  # fmt: skip
    DENIED = "Denied", Retry.NEVER, "Ask the cluster's administrator to allow this registry."
    INVALID_ANSWER = "InvalidAnswer", Retry.LATER, "Check that a registry answers there, and its proxy."
    INVALID_MANIFEST = "InvalidManifest", Retry.LATER, "Check the image in the registry, and push it again."
    PLATFORM_MISSING = (
        "PlatformMissing", Retry.NEVER, "Choose other nodes in spec.target, or push the image for this platform.",
    )  # fmt: skip
    INVALID_IMAGE = "InvalidImage", Retry.NEVER, "Correct the reference."
    NO_SPACE = "NoSpace", Retry.SOON, "Free space on the node's image file system."
    TIMEOUT = "Timeout", Retry.SOON, "Check what is slow, or raise spec.timeoutSecondsPerNode."
    RUNTIME_UNAVAILABLE = (
        "RuntimeUnavailable", Retry.SOON, "Check the container runtime on the node and the peer's runtime helper.",
    )  # fmt: skip
    PULL_FAILED = "PullFailed", Retry.SOON, "See the log of the node's container runtime."
    FAILED = "Failed", Retry.SOON, "See the log of the node's peer."

    # Images: the resource and its nodes.
    WORKLOAD_MISSING = "WorkloadMissing", Retry.LATER, "Create the workload, or correct spec.from.workloadRef."
    NAMESPACES_FORBIDDEN = (
        "NamespacesForbidden", Retry.NEVER,
        "Create it in the operator's own namespace, or use spec.from.workloadRef.",
    )  # fmt: skip
    SCHEDULE_INVALID = "ScheduleInvalid", Retry.NEVER, "Correct spec.schedule."
    NO_IMAGE = "NoImage", Retry.LATER, "Give spec.images, or let spec.from select workloads that have some."
    TOO_MANY_IMAGES = "TooManyImages", Retry.LATER, "Spread them over several ImagePrefetches."
    NAME_TAKEN = "TaskNameTaken", Retry.LATER, "Delete or rename that Task."
    TOO_MANY_FAILURES = (
        "TooManyFailures", Retry.LATER,
        "Fix what status.failures names, or raise spec.rollout.maxFailures; it goes on by itself.",
    )  # fmt: skip
    EVICTED = (
        "EvictedByKubelet", Retry.NEVER,
        (
            "Free disk space, set spec.retention.pin, or raise the kubelet's imageMaximumGCAge or "
            "imageGCHighThresholdPercent; then set the annotation pantala.dev/requested-at."
        ),
    )  # fmt: skip
    BUDGET_EXCEEDED = (
        "BudgetExceeded", Retry.NEVER, "Raise spec.retention.byteBudget, or want fewer images.",
    )  # fmt: skip
    NODE_UNAVAILABLE = "NodeUnavailable", Retry.LATER, "Check the node and its peer; nothing waits for it."


def of_file(reason: str) -> Advice | None:
    """The advice for a file's failure; ``None``: another version of Pantala sent this reason."""
    known = Reason._value2member_map_.get(reason)
    return Advice(known.retry, known.action) if isinstance(known, Reason) else None


def of_image(reason: str) -> Advice:
    """The advice for an image's failure; an unknown reason is tried again soon."""
    if reason == Reason.DIGEST_MISMATCH:  # A node can read the image again; a file's origin would send the same bytes.
        return Advice(Retry.SOON, "Push the image again if this stays: the registry's copy is damaged.")
    return of_file(reason) or Advice(Retry.SOON, Reason.FAILED.action)
