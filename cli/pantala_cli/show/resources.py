"""Converts resources into the console's messages, so that the same tables show both. Pure."""

from collections.abc import Mapping
from typing import Any

from pantala_cli.access.kinds import IMAGE, ResourceKind, condition, status_of
from pantala_cli.show.words import epoch
from pantala_protocol.console.views import NodeCounts, NodePhase, NodeView, PeerFinding, PeerView, TaskSummary, Traffic

Object = Mapping[str, Any]

NOT_SEEN = "The operator has not planned this object yet. If this lasts, run kubectl pantala logs operator."


def summary(resource: Object, kind: ResourceKind) -> TaskSummary:
    """The summary of a Task or an ImagePrefetch. Its rates are 0, because no resource has them."""
    metadata, status, spec = resource["metadata"], status_of(resource), resource["spec"]
    ready = condition(resource, "Ready")
    counts = _counts(status.get("nodes" if kind == IMAGE else "peers") or {})
    moved = status.get("bytes") or {}
    length = moved.get("total") or None if kind == IMAGE else status.get("contentLength")
    pieces = status.get("pieces") or {}
    return TaskSummary(
        kind=kind.kind,
        namespace=metadata["namespace"],
        name=metadata["name"],
        ready=ready.get("status", "Unknown"),
        reason=ready.get("reason", "NotSeenYet"),
        message=ready.get("message", NOT_SEEN),
        created=epoch(metadata["creationTimestamp"]),
        image=(spec.get("source") or {}).get("image", ""),
        length=length,
        cached=_part(length, pieces.get("cached", 0), pieces.get("total", 0)),
        progress=progress(resource),
        nodes=counts,
        traffic=Traffic(
            origin=moved.get("origin", 0), supernode=moved.get("fromSupernode", 0), peers=moved.get("fromPeers", 0)
        ),
    )


def stalled(resource: Object) -> bool:
    """True if no work continues until a user acts."""
    return condition(resource, "Stalled").get("status") == "True"


def progress(resource: Object) -> float | None:
    """The share of the work that is done, from 0 to 1, or ``None`` while it is not known."""
    if condition(resource, "Ready").get("status") == "True":
        return 1.0
    percent = status_of(resource).get("progress", "").removesuffix("%")
    return min(int(percent), 99) / 100 if percent.isdigit() and percent.isascii() else None


def peer(resource: Object) -> PeerView:
    status, ready = status_of(resource), condition(resource, "Ready")
    cache = status.get("cache") or {}
    return PeerView(
        name=resource["metadata"]["name"],
        ready=ready.get("status", "Unknown"),
        reason=ready.get("reason", "NotSeenYet"),
        message=ready.get("message", ""),
        zone=status.get("zone", ""),
        address=status.get("address", ""),
        version=status.get("version", ""),
        cache_bytes=cache.get("bytes", 0),
        tasks=cache.get("tasks", 0),
        uploads=status.get("uploads", 0),
        conditions=tuple(
            PeerFinding(kind, found["status"], found.get("reason", ""), found.get("message", ""))
            for kind in ("MirrorConfigured", "ClockSynchronized")
            if (found := condition(resource, kind))
        ),
    )


def troubled(resource: Object) -> tuple[NodeView, ...]:
    """The late and failed nodes that the status names."""
    status = status_of(resource)
    found = []
    for state, entries in ((NodePhase.FAILED, status.get("failures")), (NodePhase.LATE, status.get("late"))):
        for each in entries or ():
            since = each.get("since")
            found.append(
                NodeView(
                    name=each.get("node", ""),
                    state=state,
                    reason=each.get("reason", ""),
                    message=each.get("message", ""),
                    since=epoch(since) if isinstance(since, str) else since,
                )
            )
    return tuple(found)


def _counts(peers: Mapping[str, int]) -> NodeCounts:
    return NodeCounts(
        desired=peers.get("desired", 0),
        ready=peers.get("ready", 0),
        fetching=peers.get("active", 0),
        waiting=peers.get("waiting", 0),
        late=peers.get("late", 0),
        failed=peers.get("failed", 0),
    )


def _part(whole: int | None, done: int, total: int) -> int:
    return whole * done // total if whole and total else 0
