"""Summaries of Tasks and ImagePrefetches, by their status and by newer reports of the supernodes. Pure."""

from collections.abc import Mapping, Sequence

import msgspec

from pantala_operator.plan.nodes import TaskDownloads, counted, share_of_copies
from pantala_operator.resources import conditions
from pantala_operator.resources.api import ByteCount, Metadata, PeerCount, TaskResource, TaskStatus
from pantala_operator.resources.conditions import Condition, ConditionType
from pantala_operator.resources.prefetch import ImagePrefetch, NodeCount, PrefetchStatus
from pantala_protocol.console.progress import NodeDownload
from pantala_protocol.console.views import NodeCounts, NodePhase, NodeView, TaskSummary, Traffic
from pantala_protocol.statement import CDNStatus, TaskReport


def ready_of(found: tuple[Condition, ...]) -> tuple[str, str, str]:
    """Status, reason and message of the condition ``Ready``."""
    ready = conditions.find(found, ConditionType.READY)
    if ready is None:
        return "Unknown", "Pending", "The operator has not planned this object yet."
    return ready.status, ready.reason, ready.message


def created(metadata: Metadata) -> float:
    return 0.0 if metadata.creation_timestamp is None else metadata.creation_timestamp.timestamp()


def of_task(task: TaskResource, report: TaskReport | None, progress: TaskDownloads | None) -> TaskSummary:
    """The summary of one Task. ``report`` is newer than the status; ``None`` without one, or if the Task is done."""
    status = task.status
    ready, reason, message = ready_of(status.conditions)
    done = task.is_ready
    length = report.length if report is not None and report.length is not None else status.content_length
    counts = node_counts(status.peers)
    traffic = _traffic(status.transferred, report, progress)
    cached = _cached(status, report, length)
    arrived = _arrived(length or 0, counts, traffic, progress)
    return TaskSummary(
        kind=task.kind,
        namespace=task.metadata.namespace,
        name=task.metadata.name,
        ready=ready,
        reason=reason,
        message=message,
        created=created(task.metadata),
        image=task.spec.source.image,
        length=length,
        cached=cached,
        progress=1.0 if done else _share(task, length, cached, counts, arrived),
        eta=None if done else _eta_of_task(task, length, cached, counts, arrived, progress),
        nodes=counts,
        traffic=traffic,
    )


def of_prefetch(prefetch: ImagePrefetch) -> TaskSummary:
    """The summary of one ImagePrefetch. ``image`` names its only image, or counts them."""
    status = prefetch.status
    ready, reason, message = ready_of(status.conditions)
    names = [each.image for each in status.images] or [each.image for each in prefetch.spec.images]
    sizes = [each.size for each in status.images]
    known = [size for size in sizes if size is not None]
    share = 1.0 if prefetch.is_ready else percentage(status.progress)
    return TaskSummary(
        kind=prefetch.kind,
        namespace=prefetch.metadata.namespace,
        name=prefetch.metadata.name,
        ready=ready,
        reason=reason,
        message=message,
        created=created(prefetch.metadata),
        image=names[0] if len(names) == 1 else f"{len(names)} images",
        length=sum(known) if sizes and len(known) == len(sizes) else None,
        progress=share,
        eta=None if share is None else _eta_of_prefetch(status, share),
        nodes=node_counts(status.nodes),
    )


def is_over(summary: TaskSummary) -> bool:
    """True if the object is ready, and the rates of its last bytes have been shown."""
    traffic = summary.traffic
    return summary.ready == "True" and not (traffic.origin_rate or traffic.supernode_rate or traffic.peers_rate)


def with_nodes(summary: TaskSummary, nodes: Sequence[NodeView]) -> TaskSummary:
    """The summary with facts from all its ``nodes``: their exact counts, and for images the newest progress."""
    if not nodes:
        return summary
    counts = counted(nodes)
    left = [each for each in nodes if each.state is not NodePhase.READY]
    times = [each.eta for each in left if each.eta is not None]
    share, length = summary.progress, summary.length
    if summary.image and length:
        there = counts.ready * length + sum(min(each.bytes, length) for each in left)
        share = max(share or 0.0, there / (counts.desired * length))
    eta = max(times) if 0 < len(left) == len(times) else summary.eta
    return msgspec.structs.replace(summary, nodes=counts, progress=share, eta=eta)


def node_counts(status: PeerCount | NodeCount | None) -> NodeCounts:
    """The counts of a status. All are 0 before the first plan."""
    if status is None:
        return NodeCounts()
    return NodeCounts(status.desired, status.ready, status.active, status.waiting, status.late, status.failed)


def _traffic(status: ByteCount | None, report: TaskReport | None, progress: TaskDownloads | None) -> Traffic:
    if report is not None:
        origin, supernode, peers = report.origin_bytes, report.supernode_bytes, report.peer_bytes
    elif status is not None:
        origin, supernode, peers = status.origin, status.from_supernode, status.from_peers
    else:
        origin = supernode = peers = 0
    return Traffic(origin, supernode, peers, *(progress.rates if progress is not None else ()))


def _cached(status: TaskStatus, report: TaskReport | None, length: int | None) -> int:
    if report is not None:
        if report.cdn_status is CDNStatus.SUCCESS:
            return length or 0
        return min(report.pieces_cached * report.piece_size, length or report.pieces_cached * report.piece_size)
    if length is None or status.pieces is None or not status.pieces.total:
        return 0
    return length * status.pieces.cached // status.pieces.total


def _arrived(length: int, counts: NodeCounts, traffic: Traffic, progress: TaskDownloads | None) -> int:
    """The bytes on the nodes, added up over all nodes."""
    whole, partial = _held(progress.nodes, length) if progress is not None else (0, 0)
    there = max(counts.ready, whole) * length
    return max(there + partial if partial else traffic.supernode + traffic.peers, there)


def _share(task: TaskResource, length: int | None, cached: int, counts: NodeCounts, arrived: int) -> float | None:
    """The progress of a Task. For a file, it uses newer reports than the status does."""
    if task.spec.is_image or not length or (task.spec.to_peers and not counts.desired):
        return percentage(task.status.progress)
    if not task.spec.to_peers:
        return share_of_copies(cached / length, 0.0, 0)
    return share_of_copies(cached / length, arrived / length, counts.desired)


def percentage(text: str) -> float | None:
    """The share in a status, such as ``42%``. ``None`` for other texts."""
    number = text.removesuffix("%")
    return min(100, int(number)) / 100 if number.isascii() and number.isdigit() and len(number) < 4 else None


def _held(nodes: Mapping[str, NodeDownload], length: int) -> tuple[int, int]:
    """How many nodes have all bytes although they still show a rate, and the verified bytes of the other nodes."""
    partial = [node.bytes for node in nodes.values() if node.bytes < length]
    return len(nodes) - len(partial), sum(partial)


def _eta_of_task(
    task: TaskResource,
    length: int | None,
    cached: int,
    counts: NodeCounts,
    arrived: int,
    progress: TaskDownloads | None,
) -> float | None:
    """Seconds until all nodes are done, at the present rate of the unfinished nodes."""
    if length is None or progress is None:
        return None
    if task.spec.to_peers:
        left, nodes = counts.desired * length - arrived, progress.nodes.values()
        pace = sum(node.pace for node in nodes if node.bytes < length)
    else:
        left, pace = length - cached, progress.origin_pace
    return round(left / pace, 1) if pace and left > 0 else None


def _eta_of_prefetch(status: PrefetchStatus, share: float) -> float | None:
    """Seconds until all nodes have all images, at the mean rate of the run so far."""
    moved = status.transferred
    whole = sum((each.size or 0) * (each.desired or 0) for each in status.images)
    if moved is None or not moved.per_second or not whole or not 0 < share < 1:
        return None
    return round((1 - share) * whole / moved.per_second, 1)
