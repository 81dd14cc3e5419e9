"""Summaries of ImagePrefetches, by their status. Pure."""

from pantala_operator.console.tasks import created, is_finished, node_counts, percentage, ready_of
from pantala_operator.resources.prefetch import KIND, ImagePrefetch, PrefetchStatus
from pantala_protocol.console.views import TaskSummary, Traffic


def summarize(prefetch: ImagePrefetch) -> TaskSummary:
    """The summary of one ImagePrefetch. ``image`` names its only image, or counts them."""
    status = prefetch.status
    ready, reason, message = ready_of(status.conditions)
    names = [each.image for each in status.images] or [each.image for each in prefetch.spec.images]
    sizes = [each.size for each in status.images]
    known = [size for size in sizes if size is not None]
    share = 1.0 if is_finished(status.conditions) else percentage(status.progress)
    return TaskSummary(
        kind=KIND,
        namespace=prefetch.metadata.namespace,
        name=prefetch.metadata.name,
        ready=ready,
        reason=reason,
        message=message,
        created=created(prefetch.metadata),
        image=names[0] if len(names) == 1 else f"{len(names)} images",
        length=sum(known) if sizes and len(known) == len(sizes) else None,
        progress=share,
        eta=None if share is None else _eta(status, share),
        nodes=node_counts(status.nodes),
        traffic=Traffic(),
    )


def _eta(status: PrefetchStatus, share: float) -> float | None:
    """Seconds until all nodes have all images, at the mean rate of the run so far."""
    moved = status.transferred
    whole = sum((each.size or 0) * (each.desired or 0) for each in status.images)
    if moved is None or not moved.per_second or not whole or not 0 < share < 1:
        return None
    return round((1 - share) * whole / moved.per_second, 1)
