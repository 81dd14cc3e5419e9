"""All reasons for a failure: when Pantala retries, and what the user can do.

Tasks and ImagePrefetches use the same reasons. A reason appears in conditions, in ``status.failures``, and in the
messages between processes.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Retry(enum.Enum):
    """When a failure is retried without a user's request."""

    SOON = "soon"  # the cause may end by itself: pauses grow up to about a minute
    LATER = "later"  # the user must change something other than the spec: pauses of minutes
    NEVER = "never"  # each attempt has the same result until the spec changes


SOON, LATER, NEVER = Retry


class Advice(NamedTuple):
    """When a failure is retried, and what the user can do."""

    retry: Retry
    action: str
    """What the user can do, as a sentence."""


class Reason(enum.StrEnum):
    """All reasons. Each has a name in CamelCase, a :class:`Retry`, and a sentence that says what to do."""

    retry: Retry
    action: str

    def __new__(cls, value: str, retry: Retry, action: str) -> Reason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.retry = retry
        member.action = action
        return member

    # Files: the origin.
    SOURCE_NOT_FOUND = (
        "SourceNotFound", LATER,
        "Check the URL, and correct it in a new Task if it is wrong. The supernode asks again every few minutes.",
    )  # fmt: skip
    SOURCE_UNAUTHORIZED = (
        "SourceUnauthorized", LATER, "Put valid credentials into the Secret that spec.headersFrom names.",
    )  # fmt: skip
    SOURCE_FORBIDDEN = "SourceForbidden", LATER, "Check that the credentials in spec.headersFrom may read the file."
    SOURCE_REFUSED = "SourceRefused", SOON, "Check that the origin is up and that the port in spec.source.url is right."
    SOURCE_HOST_UNKNOWN = "SourceHostUnknown", SOON, "Check the host in spec.source.url and the cluster's DNS."
    SOURCE_UNREACHABLE = "SourceUnreachable", SOON, "Check the network between the supernode and the origin."
    SOURCE_PROXY = "SourceProxyFailed", SOON, "Ask the cluster's administrator to check the supernode's proxy."
    SOURCE_SLOW = "SourceSlow", SOON, "Check the origin's load and the network to it. The download continues."
    SOURCE_TIMEOUT = "SourceTimeout", SOON, "Check the origin's load and the network to it."
    SOURCE_INTERRUPTED = (
        "SourceInterrupted", SOON,
        "The supernode continues the download. If this repeats, check the server that stopped and the network to it.",
    )  # fmt: skip
    SOURCE_ERROR = "SourceError", SOON, "Check the origin, and read its log."
    SOURCE_CHANGED = (
        "SourceChanged", SOON,
        "The supernode reads the file again from its start. If this repeats, change the file at the origin less often.",
    )  # fmt: skip
    SOURCE_DENIED = (
        "SourceDenied", LATER,
        "Use another URL in a new Task, or ask the cluster's administrator which sources a SourcePolicy may allow.",
    )  # fmt: skip
    SOURCE_TLS = "SourceCertificateInvalid", LATER, "Check the origin's certificate and the supernode's trusted roots."
    SOURCE_PROTOCOL = "SourceProtocolError", SOON, "Check the origin and the proxies in front of it."
    SOURCE_UNUSABLE = (
        "SourceUnusable", LATER,
        "Let the origin serve the plain file, with its length. The supernode asks again every few minutes.",
    )  # fmt: skip
    SOURCE_URL_INVALID = "SourceURLInvalid", NEVER, "Correct spec.source.url in a new Task."
    SOURCE_UNSUPPORTED = (
        "SourceUnsupported", NEVER,
        "Set spec.depth to Runtime or Peer. For a file, create a new Task with spec.source.url.",
    )  # fmt: skip
    LENGTH_MISMATCH = "LengthMismatch", SOON, "Check the origin and the proxies in front of it."
    DIGEST_MISMATCH = (
        "DigestMismatch",
        NEVER,
        "Compare spec.digest with the file at the origin. Then create a new Task.",
    )

    # Files: the supernode, the nodes, the resource.
    VOLUME_FULL = "VolumeFull", SOON, "Delete Tasks, or enlarge the supernode's volume. The download then continues."
    QUOTA_EXCEEDED = (
        "QuotaExceeded", LATER,
        "Delete Tasks of this namespace, or ask the cluster's administrator to raise the chart's value quotas.",
    )  # fmt: skip
    STATEMENT_FULL = (
        "StatementFull", LATER, "Delete objects of this namespace, or use fewer and shorter Secrets, URLs and names.",
    )  # fmt: skip
    VOLUME_FAILED = "VolumeFailed", SOON, "Check the supernode's volume, and read the supernode's log."
    NODE_DISK_FULL = "NodeDiskFull", SOON, "Free space on the node. The download then continues."
    NODE_FILES_EXHAUSTED = (
        "NodeFilesExhausted", SOON, "Raise the limit of open files on the node, or end the programs that use them up.",
    )  # fmt: skip
    NODE_SILENT = (
        "NodeSilent", SOON, "Check that the node runs, and read its peer's log. The download continues by itself.",
    )  # fmt: skip
    NODE_CUT_OFF = (
        "NodeCutOff", SOON,
        "The node's peer runs but cannot reach the supernode. Check the network and NetworkPolicies between them.",
    )  # fmt: skip
    NODE_SLOW = "NodeSlow", SOON, "Check the node's network, disk and load. The download continues."
    NODE_TIMEOUT = "NodeTimeout", SOON, "Check the node, or raise spec.timeoutSecondsPerNode. The download continues."
    CLOCK_SKEWED = "ClockSkewed", SOON, "Synchronise the node's clock, for example with chrony."
    PROVIDER_REFUSED = (
        "ProviderRefused", SOON,
        "Read the logs of the named provider and of the node's peer. The node asks other providers meanwhile.",
    )  # fmt: skip
    SUPERNODE_UNAVAILABLE = "SupernodeUnavailable", SOON, "Check the supernode's pod. Downloads then continue."
    NODE_DISK_FAILED = "NodeDiskFailed", SOON, "Check the node's disk and the peer's log."
    PATH_OUTSIDE_ROOT = (
        "PathOutsideRoot",
        NEVER,
        "Choose a spec.path inside the folder of published files, without symbolic links.",
    )
    PATH_OUTSIDE_NAMESPACE = (
        "PathOutsideNamespace", LATER,
        (
            "Begin spec.path with the name of the Task's namespace, or ask the cluster's administrator to allow the "
            "path in the chart's value paths.shared."
        ),
    )  # fmt: skip
    PATH_CONFLICT = "PathConflict", LATER, "Choose another spec.path, or delete the Task or file that has this path."
    SECRET_MISSING = "SecretMissing", LATER, "Create the Secret in the Task's namespace."
    SECRET_INVALID = "SecretInvalid", LATER, "Each key of the Secret must be a header's name, and each value one line."
    SECRET_FORBIDDEN = (
        "SecretForbidden", LATER, "Let the owner of the Secret allow its use. The operator then continues.",
    )  # fmt: skip
    NO_NODE_MATCHES = "NoNodeMatches", LATER, "Check spec.target, and that peers run on those nodes."
    DEADLINE_EXCEEDED = (
        "DeadlineExceeded",
        NEVER,
        "See the other conditions for the cause, or raise spec.activeDeadlineSeconds.",
    )
    INTERNAL = "InternalError", SOON, "Read the supernode's log, and please report the problem."

    # Images: the registry and the nodes' container runtimes.
    NOT_FOUND = (
        "NotFound", LATER,
        "Check the image's name, tag and digest. Some registries report private images as missing.",
    )  # fmt: skip
    UNAUTHORIZED = (
        "Unauthorized", LATER,
        (
            "Name a Secret with valid credentials for this registry in spec.pullSecrets. Check the image's name too: "
            "some registries answer like this for missing images."
        ),
    )  # fmt: skip
    FORBIDDEN = "Forbidden", LATER, "Check that the credentials in spec.pullSecrets may read this repository."
    RATE_LIMITED = (
        "RateLimited", LATER,
        "Pantala asks the registry again later. Most registries allow more requests if spec.pullSecrets is set.",
    )  # fmt: skip
    UNREACHABLE = "Unreachable", SOON, "Check the registry's name, that it is up, and the network to it."
    CERTIFICATE_INVALID = (
        "CertificateInvalid", LATER,
        (
            "Check the registry's certificate. In the chart's values, list a private authority in mirror.authorities, "
            "and a registry without TLS in mirror.registries."
        ),
    )  # fmt: skip
    DENIED = (
        "Denied", LATER,
        "Ask the cluster's administrator to allow this registry, in the chart's values or with a SourcePolicy.",
    )  # fmt: skip
    INVALID_ANSWER = (
        "InvalidAnswer",
        LATER,
        "Check that a registry answers at this address. Check the proxies in front of it.",
    )
    INVALID_MANIFEST = "InvalidManifest", LATER, "Check the image in the registry, and push it again."
    PLATFORM_MISSING = (
        "PlatformMissing", NEVER, "Choose other nodes in spec.target, or push the image for this platform.",
    )  # fmt: skip
    INVALID_IMAGE = "InvalidImage", NEVER, "Correct the image reference."
    NO_SPACE = "NoSpace", SOON, "Free space on the node's image file system."
    TIMEOUT = "Timeout", SOON, "Check the node's network and disk, or raise spec.timeoutSecondsPerNode."
    RUNTIME_UNAVAILABLE = (
        "RuntimeUnavailable", SOON, "Check the container runtime on the node and the peer's runtime helper.",
    )  # fmt: skip
    PULL_FAILED = "PullFailed", SOON, "Read the log of the node's container runtime."
    FAILED = "Failed", SOON, "Check the registry and the node's disk, and read the log of the node's peer."

    # Images: the resource and its nodes.
    WORKLOAD_MISSING = "WorkloadMissing", LATER, "Create the workload, or correct spec.from.workloadRef."
    NAMESPACES_FORBIDDEN = (
        "NamespacesForbidden", NEVER,
        "Create the ImagePrefetch in the operator's own namespace, or use spec.from.workloadRef.",
    )  # fmt: skip
    SCHEDULE_INVALID = "ScheduleInvalid", NEVER, "Correct spec.schedule."
    NO_IMAGE = "NoImage", LATER, "Set spec.images, or let spec.from select workloads with images."
    TOO_MANY_IMAGES = "TooManyImages", LATER, "Spread the images over several ImagePrefetches."
    NAME_TAKEN = "TaskNameTaken", LATER, "Delete that Task, or create it again with another name."
    OWNER_MISMATCH = (
        "OwnerMismatch", LATER, "Delete this Task, or create it again without metadata.ownerReferences.",
    )  # fmt: skip
    TOO_MANY_FAILURES = (
        "TooManyFailures", LATER,
        "Correct the problems in status.failures, or raise spec.rollout.maxFailures. The rollout then continues.",
    )  # fmt: skip
    EVICTED = (
        "EvictedByKubelet", NEVER,
        (
            "Free disk space, set spec.retention.pin, or raise the kubelet's imageMaximumGCAge or "
            "imageGCHighThresholdPercent. Then set the annotation pantala.dev/requested-at to a new value."
        ),
    )  # fmt: skip
    BUDGET_EXCEEDED = "BudgetExceeded", NEVER, "Raise spec.retention.byteBudget, or prefetch fewer images."
    NODE_UNAVAILABLE = "NodeUnavailable", LATER, "Check the node and its peer's pod. The rollout continues without it."


ACTIONS = tuple(reason.action for reason in Reason)
"""The actions of all reasons. A message that ends with one of these sentences already says what to do."""


def of_file(reason: str) -> Advice | None:
    """The advice for a file's failure. ``None`` if this version does not know the reason."""
    known = Reason._value2member_map_.get(reason)
    return Advice(known.retry, known.action) if isinstance(known, Reason) else None


def action_of(reason: str) -> str:
    """What the user can do after a file's failure. Empty if this version does not know the reason."""
    advice = of_file(reason)
    return advice.action if advice is not None else ""


def split(message: str, reason: str) -> tuple[str, str]:
    """Divide a message into what happened and the advice."""
    for action in ACTIONS:
        if message.endswith(action):
            return message.removesuffix(action).rstrip(), action
    return message, action_of(reason)


def of_image(reason: str) -> Advice:
    """The advice for an image's failure. A reason that this version does not know is retried soon."""
    if reason == Reason.DIGEST_MISMATCH:  # A node can read the image again; a file's origin would send the same bytes.
        return Advice(Retry.SOON, "If this repeats, the registry's copy is damaged. Push the image again.")
    return of_file(reason) or Advice(Retry.SOON, Reason.FAILED.action)
