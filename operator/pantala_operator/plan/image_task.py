"""Tasks with an image: which images their nodes should have, and their status. Pure.

The planner of ImagePrefetches plans such a Task directly. A Task that an ImagePrefetch owns has no plan of its own: its
status follows from its owner's.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from pantala_operator.plan.nodes import MAX_NODES, SourceBytes, Trouble, late_verdict, listed
from pantala_operator.plan.prefetch.counts import PrefetchCounts
from pantala_operator.plan.prefetch.inputs import ImageDemand, OwnedTask
from pantala_operator.plan.prefetch.pulls import Snapshot
from pantala_operator.plan.prefetch.status import PREFETCHED, PrefetchOutcome, evaluate
from pantala_operator.resources import conditions
from pantala_operator.resources.api import GROUP, ByteCount, NodeFailure, PeerCount, TaskResource, TaskStatus
from pantala_operator.resources.conditions import ConditionStatus, ConditionType, Verdict
from pantala_operator.resources.prefetch import (
    ImagePrefetch,
    ImageStatus,
    PrefetchSpec,
    PrefetchStatus,
    PrefetchTarget,
    PullFailure,
    PullRetry,
    Retention,
    SpecImage,
    is_named_by,
    task_name,
)
from pantala_operator.resources.status import PENDING, PROGRESSING, Obstacle, Summary, have, kept, no, yes
from pantala_operator.resources.status import evaluate as summarize
from pantala_protocol import image
from pantala_protocol.images import Depth
from pantala_protocol.reasons import Reason
from pantala_protocol.rules import quantity


def owner(task: TaskResource) -> str:
    """The UID of the ImagePrefetch that a Task names as its owner. Empty if it names none."""
    controller = task.metadata.controller
    if controller is None or controller.kind != ImagePrefetch.kind or controller.api_version.partition("/")[0] != GROUP:
        return ""
    return controller.uid


def is_made_for(task: TaskResource, prefetch: ImagePrefetch | None) -> bool:
    """True if the operator would make exactly this Task for ``prefetch``. Every user can write an owner reference."""
    spec, source = task.spec, task.spec.source
    return (
        prefetch is not None
        and (prefetch.metadata.uid, prefetch.metadata.namespace) == (owner(task), task.metadata.namespace)
        and spec.depth == Depth.RUNTIME
        and is_named_by(prefetch.metadata, task.metadata.name, source.image, source.platform)
    )


def owned(task: TaskResource, prefetches: Mapping[str, ImagePrefetch]) -> OwnedTask:
    """The Task as the plan of an ImagePrefetch sees it. ``prefetches``: all ImagePrefetches, by UID."""
    uid, source = owner(task), task.spec.source
    believed = uid if is_made_for(task, prefetches.get(uid)) else ""
    return OwnedTask(task.metadata.name, believed, source.image, source.platform)


def demand(task: TaskResource, former: PrefetchStatus | None) -> ImageDemand:
    """The demand of a Task. ``former``: see :attr:`ObservedImages.former`."""
    spec = task.spec
    return ImageDemand(
        metadata=task.metadata,
        request=task.requested_at,
        former=former or _restored(task),
        spec=PrefetchSpec(
            images=(SpecImage(spec.source.image, spec.source.platform),),
            pull_secrets=spec.pull_secrets,
            target=PrefetchTarget(**msgspec.structs.asdict(spec.target)),
            retry=PullRetry(spec.retry.limit),
            active_deadline_seconds=spec.active_deadline_seconds,
            completion_policy="Continuous",
            retention=Retention(spec.retention.pin),
            suspend=spec.suspend,
        ),
        depth=Depth(spec.depth),
        itemized=Depth(spec.depth) is Depth.PEER,
    )


def former_key(task: TaskResource) -> str:
    """The key of the image that a Task without an owner has given to nodes, by its status."""
    mine = _restored(task).images[0]
    return f"{task.metadata.namespace}/{task_name(task.metadata, mine.key, mine.digest)}"


def _restored(task: TaskResource) -> PrefetchStatus:
    """The former status after a restart, from the Task's status. The start of the run stands for the resolution."""
    status, source, counts = task.status, task.spec.source, task.status.peers
    try:
        reference = str(image.parse(source.image))
    except ValueError:
        reference = source.image
    mine = ImageStatus(
        image=reference,
        platform=source.platform,
        digest=status.digest,
        resolved_time=status.start_time if status.digest else None,
        size=status.content_length,
        desired=counts.desired if counts is not None else None,
        active=counts.active if counts is not None else None,
        ready=counts.ready if counts is not None else None,
        failed=counts.failed if counts is not None else None,
    )
    return PrefetchStatus(
        observed_generation=status.observed_generation,
        conditions=status.conditions,
        images=(mine,),
        start_time=status.start_time,
        completion_time=status.completion_time,
        last_handled_request=status.last_handled_request,
    )


def status_alone(task: TaskResource, snapshot: Snapshot, counts: PrefetchCounts) -> tuple[TaskStatus, PrefetchOutcome]:
    """The status of a Task that no ImagePrefetch owns."""
    outcome = evaluate(snapshot, counts)
    moved = snapshot.observed.moved
    if outcome.stays:
        return with_bytes(task.status, moved), outcome
    mine = counts.images[0] if counts.images else ImageStatus(task.spec.source.image)
    verdicts = _verdicts(outcome.summary, outcome.resolved, _distributed(mine, counts.late))
    failures = _failures(counts.listed) if snapshot.observed.reported else task.status.failures
    run = snapshot.run
    status = _status(task, mine, verdicts, failures, counts.late, (run.started, run.completed), snapshot.now)
    return with_bytes(status, moved), outcome


def status_of_child(
    task: TaskResource, owner_status: PrefetchStatus, late: Mapping[str, Trouble], now: datetime
) -> TaskStatus:
    """The status of a Task, derived from that of its ImagePrefetch. It stays if the run has another digest by now.

    ``late``: the late nodes that lack this image.
    """
    mine = next((each for each in owner_status.images if each.task == task.metadata.name), None)
    if mine is None:
        return task.status
    distributed = _distributed(mine)
    resolved = yes("Resolved", "The registry has resolved the image")
    summary = _summary(owner_status, mine, distributed)
    completed = (task.status.completion_time or now) if summary.ready.status is ConditionStatus.TRUE else None
    failures = _failures(each for each in owner_status.failures if each.image in ("", mine.image))
    verdicts = _verdicts(summary, resolved, distributed)
    return _status(task, mine, verdicts, failures, late, (owner_status.start_time, completed), now)


def with_bytes(status: TaskStatus, moved: SourceBytes | None) -> TaskStatus:
    """The status with the bytes of its image. A restarted operator counts from 0, so the greater number stays."""
    if moved is None or not status.digest:
        return status
    known = status.transferred or ByteCount.of(0, 0, 0)
    supernode, peers = max(moved.supernode, known.from_supernode), max(moved.peers, known.from_peers)
    transferred = ByteCount.of(max(moved.origin, known.origin), supernode, peers)
    return status if transferred == known else msgspec.structs.replace(status, transferred=transferred)


def status_of_stranger(task: TaskResource, now: datetime) -> TaskStatus:
    """The status of a Task that names an ImagePrefetch as its owner. The operator did not make this Task."""
    what = "The Task names an ImagePrefetch as its owner, but the operator did not make this Task"
    obstacle = Obstacle.of(Reason.OWNER_MISMATCH, what)
    refused = no(obstacle.reason, obstacle.message)
    summary = summarize(refused, obstacle=obstacle)
    verdicts = _verdicts(summary, refused, refused)
    return _status(task, ImageStatus(task.spec.source.image), verdicts, (), {}, (task.status.start_time, None), now)


def _summary(owner_status: PrefetchStatus, mine: ImageStatus, distributed: Verdict) -> Summary:
    """Reduce the owner's conditions, which cover all its images, to the image of the Task."""
    if distributed.status is ConditionStatus.TRUE:
        rest = no(distributed.reason, "Nothing is left to do")
        return Summary(distributed, rest, rest)
    ready, reconciling, stalled = (kept(owner_status.conditions, kind) for kind in ("Ready", "Reconciling", "Stalled"))
    # The owner was done before. It stays done until a newer report contradicts it.
    if ready.status is ConditionStatus.TRUE:
        ready = distributed
    failure = next((each for each in owner_status.failures if each.node and each.image == mine.image), None)
    if failure is not None:
        ready = no(failure.reason, f"{failure.node}: {failure.message}")
    return Summary(ready, reconciling, stalled)


def _verdicts(summary: Summary, resolved: Verdict, distributed: Verdict) -> dict[ConditionType, Verdict]:
    return {
        ConditionType.READY: summary.ready,
        ConditionType.SOURCE_RESOLVED: resolved,
        ConditionType.DISTRIBUTED: distributed,
        ConditionType.RECONCILING: summary.reconciling,
        ConditionType.STALLED: summary.stalled,
    }


def _distributed(mine: ImageStatus, late: Mapping[str, Trouble] | None = None) -> Verdict:
    if mine.desired is None or mine.ready is None:
        return PENDING
    progress = have(mine.ready, mine.desired, "the image")
    if 0 < mine.desired == mine.ready:
        return yes(PREFETCHED, progress)
    return late_verdict(progress, late) if late else no(PROGRESSING, progress)


def _failures(found: Iterable[PullFailure]) -> tuple[NodeFailure, ...]:
    return tuple(NodeFailure(each.node, each.reason, each.message) for each in found if each.node)


def _status(
    task: TaskResource,
    mine: ImageStatus,
    verdicts: dict[ConditionType, Verdict],
    failures: tuple[NodeFailure, ...],
    late: Mapping[str, Trouble],
    times: tuple[datetime | None, datetime | None],
    now: datetime,
) -> TaskStatus:
    former = task.status
    counts = former.peers
    if mine.desired is not None:
        ready, active, failed = mine.ready or 0, mine.active or 0, mine.failed or 0
        behind = min(len(late), mine.desired - ready - failed)
        active = min(active, mine.desired - ready - failed - behind)
        waiting = mine.desired - ready - failed - behind - active
        counts = PeerCount(mine.desired, ready, active, failed, waiting, behind)
    moved = former.transferred if former.digest == mine.digest else None
    return TaskStatus(
        observed_generation=task.metadata.generation,
        conditions=conditions.merge(former.conditions, verdicts, task.metadata.generation, now),
        content_length=mine.size,
        size="" if mine.size is None else quantity.render(mine.size),
        digest=mine.digest,
        # A former version wrote no text for the bytes.
        transferred=None if moved is None else ByteCount.of(moved.origin, moved.from_supernode, moved.from_peers),
        peers=counts,
        summary="" if counts is None else f"{counts.ready}/{counts.desired}",
        progress="100%" if verdicts[ConditionType.READY].status is ConditionStatus.TRUE else mine.progress,
        late=listed(late, MAX_NODES - len(failures)) if late else (),
        failures=failures,
        start_time=times[0],
        completion_time=times[1],
        last_handled_request=task.requested_at,
    )
