"""Writes the page about troubles: each reason under its symptom, with its meaning, and the next step from the code."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from pantala_protocol.reasons import Reason, Retry


class Symptom(NamedTuple):
    """What a user sees, where to look, and the meaning of each reason that may be there."""

    title: str
    look: str
    meanings: Mapping[Reason, str]


_R: Final = Reason
SYMPTOMS: Final = (
    Symptom(
        "A node is late: it gets nothing, or much less than the others",
        "`status.late` of the Task names the node. So do the conditions `Ready` and `Distributed`, and the Peer.",
        {
            _R.NODE_SILENT: "No supernode receives requests from the node's peer, and the peer's health port does not "
            "answer. The peer is frozen or ended, or the node is down.",
            _R.NODE_CUT_OFF: "The peer's health port answers, but no supernode receives requests from the peer. "
            "The network or a NetworkPolicy stops the requests.",
            _R.NODE_SLOW: "For 5 s the node got less than a quarter of the median rate of this Task's nodes.",
            _R.NODE_TIMEOUT: "The node does not have the file after `spec.timeoutSecondsPerNode`.",
            _R.CLOCK_SKEWED: "The node's clock differs by more than 5 s from the API server's clock. "
            "The Peer's condition `ClockSynchronized` says by how much.",
            _R.PROVIDER_REFUSED: "One provider refuses the node's requests for pieces again and again.",
            _R.NODE_UNAVAILABLE: "The node or its peer cannot be reached, so it gets no image.",
        },
    ),
    Symptom(
        "A node cannot store the file or the image",
        "`status.failures` names the node.",
        {
            _R.NODE_DISK_FULL: "The file would use the part of the disk that Pantala leaves free.",
            _R.NODE_FILES_EXHAUSTED: "The peer, or the node, has no handle left to open a file or a connection.",
            _R.NODE_DISK_FAILED: "The disk returns errors when the peer reads or writes.",
            _R.NO_SPACE: "The container runtime's file system is full.",
            _R.PATH_OUTSIDE_ROOT: "The path, or a symbolic link in it, leads out of the folder of published files.",
            _R.PATH_OUTSIDE_NAMESPACE: "The path is not below the folder of the Task's namespace.",
            _R.PATH_CONFLICT: "Another Task owns the path, or a file is there that Pantala did not publish.",
        },
    ),
    Symptom(
        "The origin does not send the file",
        "`Ready` and `SourceResolved` have the reason.",
        {
            _R.SOURCE_NOT_FOUND: "The origin answers 404 or 410.",
            _R.SOURCE_UNAUTHORIZED: "The origin answers 401.",
            _R.SOURCE_FORBIDDEN: "The origin answers 403.",
            _R.SOURCE_REFUSED: "Nothing listens at the origin's address and port.",
            _R.SOURCE_HOST_UNKNOWN: "The name of the origin's host has no address.",
            _R.SOURCE_UNREACHABLE: "No connection to the origin can be made.",
            _R.SOURCE_PROXY: "The proxy of the supernode refuses the connection or does not answer.",
            _R.SOURCE_TLS: "The supernode does not trust the origin's certificate.",
            _R.SOURCE_DENIED: "No SourcePolicy and no flag allows this address.",
            _R.SOURCE_ERROR: "The origin answers with an error that has no reason of its own, such as 500 or 429.",
            _R.SOURCE_PROTOCOL: "The origin's answer is not valid HTTP.",
            _R.SOURCE_UNUSABLE: "The origin's answer is not the plain file, or its length is unknown.",
            _R.SOURCE_URL_INVALID: "The URL cannot be used.",
            _R.SOURCE_UNSUPPORTED: "An image cannot stay at the supernode only.",
        },
    ),
    Symptom(
        "The origin is slow, or its file changes",
        "`Ready` and `Cached` have the reason.",
        {
            _R.SOURCE_SLOW: "The origin sends no byte, or less than 1 MiB a second for 8 s while much is left.",
            _R.SOURCE_TIMEOUT: "The origin did not answer in time.",
            _R.SOURCE_INTERRUPTED: "The origin ended the connection before the end of the file.",
            _R.SOURCE_CHANGED: "The file changed while the supernode read it.",
            _R.LENGTH_MISMATCH: "The origin sent more or fewer bytes than it announced.",
            _R.DIGEST_MISMATCH: "The file does not have the digest that the spec requires. "
            "If an image has a wrong digest, the node soon pulls the image again.",
        },
    ),
    Symptom(
        "The supernode has no room, or does not answer",
        "`Ready` has the reason. See also the supernode's pod and its log.",
        {
            _R.VOLUME_FULL: "The supernode's volume has no room for the file.",
            _R.VOLUME_FAILED: "The supernode's volume returns errors.",
            _R.QUOTA_EXCEEDED: "The namespace has used up its quota of Tasks, bytes or reads.",
            _R.STATEMENT_FULL: "The namespace needs more than its share of the statement to the supernodes.",
            _R.SUPERNODE_UNAVAILABLE: "No supernode answers the operator.",
            _R.INTERNAL: "An error that the supernode does not expect.",
        },
    ),
    Symptom(
        "Nothing starts",
        "`Ready` and `Stalled` have the reason.",
        {
            _R.NO_NODE_MATCHES: "The target selects no node with a peer.",
            _R.SECRET_MISSING: "The Secret that the spec names does not exist.",
            _R.SECRET_INVALID: "The Secret has a key that is not a header's name, or a value of several lines.",
            _R.SECRET_FORBIDDEN: "The Secret lacks the label `pantala.dev/allow`, or the operator may not read it.",
            _R.WORKLOAD_MISSING: "The workload in `spec.from` does not exist.",
            _R.NAMESPACES_FORBIDDEN: "Only the operator's own namespace may select workloads of other namespaces.",
            _R.SCHEDULE_INVALID: "The schedule or its time zone cannot be read.",
            _R.NO_IMAGE: "The selected workloads have no image.",
            _R.TOO_MANY_IMAGES: "The ImagePrefetch selects more images than an ImagePrefetch may have.",
            _R.NAME_TAKEN: "A Task of another owner has the name that the ImagePrefetch needs.",
            _R.OWNER_MISMATCH: "The Task names an ImagePrefetch as its owner, but the operator did not make the Task.",
        },
    ),
    Symptom(
        "The registry does not send the image",
        "`Ready` and `Resolved` have the reason.",
        {
            _R.NOT_FOUND: "The registry does not have the image.",
            _R.UNAUTHORIZED: "The registry wants other credentials.",
            _R.FORBIDDEN: "The credentials may not read this repository.",
            _R.RATE_LIMITED: "The registry answers 429.",
            _R.UNREACHABLE: "No connection to the registry can be made, or it does not answer.",
            _R.CERTIFICATE_INVALID: "The supernode does not trust the registry's certificate.",
            _R.DENIED: "No SourcePolicy and no value of the chart allows this registry.",
            _R.INVALID_ANSWER: "The registry's answer is not valid.",
            _R.INVALID_MANIFEST: "The image's manifest cannot be read.",
            _R.PLATFORM_MISSING: "The image does not exist for the node's platform.",
            _R.INVALID_IMAGE: "The image reference is not valid.",
        },
    ),
    Symptom(
        "A pull fails, or an image is removed",
        "`status.failures` names the node.",
        {
            _R.TIMEOUT: "The pull took longer than `spec.timeoutSecondsPerNode`.",
            _R.RUNTIME_UNAVAILABLE: "The container runtime, or the runtime helper, does not answer.",
            _R.PULL_FAILED: "The container runtime refused the pull.",
            _R.FAILED: "The pull failed for another reason, which the message names.",
            _R.EVICTED: "The kubelet removed the image twice within an hour.",
            _R.BUDGET_EXCEEDED: "The images are larger than `spec.retention.byteBudget`.",
            _R.TOO_MANY_FAILURES: "More nodes fail than `spec.rollout.maxFailures` allows.",
            _R.DEADLINE_EXCEEDED: "The object was not Ready within `spec.activeDeadlineSeconds`.",
        },
    ),
)
_RETRIES: Final = {
    Retry.SOON: "soon",
    Retry.LATER: "every few minutes",
    Retry.NEVER: "only after a change of the spec or of the annotation `pantala.dev/requested-at`",
}
FAULTS: Final = (
    ("a frozen peer, or a node that is down", _R.NODE_SILENT),
    ("a slow node", _R.NODE_SLOW),
    ("a full disk on a node", _R.NODE_DISK_FULL),
    ("a wrong clock on a node", _R.CLOCK_SKEWED),
    ("a network cut between a node and the supernode", _R.NODE_CUT_OFF),
    ("an origin that answers 401", _R.SOURCE_UNAUTHORIZED),
    ("an origin that answers 404", _R.SOURCE_NOT_FOUND),
    ("a slow origin", _R.SOURCE_SLOW),
    ("a file that changes at the origin, and no longer has its digest", _R.DIGEST_MISMATCH),
    ("a registry that is down", _R.UNREACHABLE),
    ("a missing Secret", _R.SECRET_MISSING),
    ("a target that matches no node", _R.NO_NODE_MATCHES),
    ("a path that is taken", _R.PATH_CONFLICT),
    ("a used-up quota", _R.QUOTA_EXCEEDED),
    ("a full volume of the supernode", _R.VOLUME_FULL),
    ("a supernode that is down", _R.SUPERNODE_UNAVAILABLE),
)
"""The faults that tests inject, and the reason of each."""

_START = """\
<!-- Written by charts/troubleshooting.py with make crds: edit that, or pantala_protocol/reasons.py. -->

# Troubleshooting

Start with the conditions. Each condition says what happened, to what, and what to do next.

```shell
kubectl pantala explain task/NAME   # every cause, with evidence and the next step
kubectl get tasks.pantala.dev NAME -o yaml   # status.conditions, status.late and status.failures
kubectl get events --field-selector involvedObject.name=NAME
kubectl pantala doctor   # checks the installation: ports, policies, clocks, volumes, containerd
```

A *reason* is one word in a condition, an Event, a metric and the output of these commands.
This page lists all reasons by symptom.

Tests inject the following faults. Each of them appears with its own reason within 15 s.

"""


def page() -> str:
    """The page in Markdown."""
    rows = "".join(f"| {fault} | [`{reason}`](#{reason.lower()}) |\n" for fault, reason in FAULTS)
    text = f"{_START}| fault | reason |\n|---|---|\n{rows}"
    for symptom in SYMPTOMS:
        text += f"\n## {symptom.title}\n\n{symptom.look}\n"
        for reason, meaning in symptom.meanings.items():
            text += (
                f"\n### {reason}\n\n{meaning}\n\n"
                f"- **Next step:** {reason.action}\n- **Retried:** {_RETRIES[reason.retry]}.\n"
            )
    return text
