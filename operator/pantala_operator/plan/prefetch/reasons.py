"""Why an image cannot be resolved or pulled: registries' and runtimes' words, and what follows from each. Pure."""

from __future__ import annotations

import enum

from pantala_operator.plan.problem import Problem
from pantala_protocol.reasons import Advice, Retry


class ImageReason(enum.StrEnum):
    """A failure's name, as the supernode's registry client and the nodes' runtime helper say it."""

    NOT_FOUND = "NotFound"
    UNAUTHORIZED = "Unauthorized"
    FORBIDDEN = "Forbidden"
    RATE_LIMITED = "RateLimited"
    UNREACHABLE = "Unreachable"
    CERTIFICATE_INVALID = "CertificateInvalid"
    DENIED = "Denied"
    INVALID_ANSWER = "InvalidAnswer"
    INVALID_MANIFEST = "InvalidManifest"
    PLATFORM_MISSING = "PlatformMissing"
    INVALID_IMAGE = "InvalidImage"
    DIGEST_MISMATCH = "DigestMismatch"
    NO_SPACE = "NoSpace"
    TIMEOUT = "Timeout"
    RUNTIME_UNAVAILABLE = "RuntimeUnavailable"
    PULL_FAILED = "PullFailed"
    FAILED = "Failed"

    WORKLOAD_MISSING = "WorkloadMissing"
    NAMESPACES_FORBIDDEN = "NamespacesForbidden"
    SCHEDULE_INVALID = "ScheduleInvalid"
    NO_IMAGE = "NoImage"
    TOO_MANY_IMAGES = "TooManyImages"
    NAME_TAKEN = "TaskNameTaken"
    TOO_MANY_FAILURES = "TooManyFailures"
    EVICTED = "EvictedByKubelet"
    BUDGET_EXCEEDED = "BudgetExceeded"
    NODE_UNAVAILABLE = "NodeUnavailable"


_ADVICE = {
    ImageReason.NOT_FOUND: Advice(
        Retry.LATER, "Check the image's name, and its tag or digest; some registries say so of private images, too."
    ),
    ImageReason.UNAUTHORIZED: Advice(
        Retry.LATER, "Name a Secret with valid credentials for this registry in spec.pullSecrets."
    ),
    ImageReason.FORBIDDEN: Advice(
        Retry.LATER, "Check that the credentials in spec.pullSecrets may read this repository."
    ),
    ImageReason.RATE_LIMITED: Advice(
        Retry.LATER, "It is asked again in a while; with credentials in spec.pullSecrets most registries allow more."
    ),
    ImageReason.UNREACHABLE: Advice(Retry.SOON, "Check that the registry is up, and the network to it."),
    ImageReason.CERTIFICATE_INVALID: Advice(Retry.LATER, "Check the registry's certificate and the trusted roots."),
    ImageReason.DENIED: Advice(Retry.NEVER, "Ask the cluster's administrator to allow this registry."),
    ImageReason.INVALID_ANSWER: Advice(Retry.LATER, "Check that a registry answers there, and its proxy."),
    ImageReason.INVALID_MANIFEST: Advice(Retry.LATER, "Check the image in the registry, and push it again."),
    ImageReason.PLATFORM_MISSING: Advice(
        Retry.NEVER, "Choose other nodes in spec.target, or push the image for this platform."
    ),
    ImageReason.INVALID_IMAGE: Advice(Retry.NEVER, "Correct the reference."),
    ImageReason.DIGEST_MISMATCH: Advice(
        Retry.SOON, "Push the image again if this stays: the registry's copy is damaged."
    ),
    ImageReason.NO_SPACE: Advice(Retry.SOON, "Free space on the node's image file system."),
    ImageReason.TIMEOUT: Advice(Retry.SOON, "Check what is slow, or raise spec.timeoutSecondsPerNode."),
    ImageReason.RUNTIME_UNAVAILABLE: Advice(
        Retry.SOON, "Check the container runtime on the node and the peer's runtime helper."
    ),
    ImageReason.PULL_FAILED: Advice(Retry.SOON, "See the log of the node's container runtime."),
    ImageReason.FAILED: Advice(Retry.SOON, "See the log of the node's peer."),
    ImageReason.WORKLOAD_MISSING: Advice(Retry.LATER, "Create the workload, or correct spec.from.workloadRef."),
    ImageReason.NAMESPACES_FORBIDDEN: Advice(
        Retry.NEVER, "Create it in the operator's own namespace, or use spec.from.workloadRef."
    ),
    ImageReason.SCHEDULE_INVALID: Advice(Retry.NEVER, "Correct spec.schedule."),
    ImageReason.NO_IMAGE: Advice(Retry.LATER, "Give spec.images, or let spec.from select workloads that have some."),
    ImageReason.TOO_MANY_IMAGES: Advice(Retry.LATER, "Spread them over several ImagePrefetches."),
    ImageReason.NAME_TAKEN: Advice(Retry.LATER, "Delete or rename that Task."),
    ImageReason.TOO_MANY_FAILURES: Advice(
        Retry.LATER, "Mend what status.failures names, or raise spec.rollout.maxFailures; it goes on by itself."
    ),
    ImageReason.EVICTED: Advice(
        Retry.NEVER,
        "Free disk space, set spec.retention.pin, or raise the kubelet's imageMaximumGCAge or "
        "imageGCHighThresholdPercent; then set the annotation pantala.dev/requested-at.",
    ),
    ImageReason.BUDGET_EXCEEDED: Advice(Retry.NEVER, "Raise spec.retention.byteBudget, or want fewer images."),
    ImageReason.NODE_UNAVAILABLE: Advice(Retry.LATER, "Check the node and its peer; nothing waits for it."),
}


def advice(reason: str) -> Advice:
    """What follows from ``reason``; a word that is not known passes by itself."""
    known = reason in ImageReason._value2member_map_
    return _ADVICE[ImageReason(reason)] if known else Advice(Retry.SOON, "See the log of the node's peer.")


def advise(message: str, reason: str) -> str:
    """Put what to do behind ``message``, unless it says so already."""
    action = advice(reason).action
    return message if message.endswith(action) else f"{(message or reason).rstrip('. ')}. {action}"


def problem(reason: str, what: str) -> Problem:
    """A problem with what to do; final if nothing but an edit changes it."""
    return Problem(str(reason), advise(what, reason), final=advice(reason).retry is Retry.NEVER)
