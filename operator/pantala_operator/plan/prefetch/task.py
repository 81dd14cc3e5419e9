"""Tasks with an image: as an ImagePrefetch of that one image, and what their status says. Pure."""

from __future__ import annotations

from datetime import datetime

import msgspec

from pantala_operator.plan.prefetch.verdict import PREFETCHED, PrefetchCondition
from pantala_operator.plan.verdict import PENDING, PROGRESSING
from pantala_operator.resources import conditions, quantity
from pantala_operator.resources.api import NodeFailure, PeerCount, TaskResource, TaskStatus
from pantala_operator.resources.conditions import ConditionType, Status, Verdict
from pantala_operator.resources.prefetch import (
    KIND,
    ImagePrefetch,
    ImageStatus,
    PrefetchSpec,
    PrefetchStatus,
    PrefetchTarget,
    PullFailure,
    Retention,
    Retry,
    SpecImage,
)
from pantala_protocol import image

_KINDS = {
    ConditionType.READY: PrefetchCondition.READY,
    ConditionType.SOURCE_RESOLVED: PrefetchCondition.RESOLVED,
    ConditionType.RECONCILING: PrefetchCondition.RECONCILING,
    ConditionType.STALLED: PrefetchCondition.STALLED,
}


def owner(task: TaskResource) -> str:
    """UID of the ImagePrefetch that a Task is a part of; empty: it stands for itself."""
    controller = task.metadata.controller
    return controller.uid if controller is not None and controller.kind == KIND else ""


def as_prefetch(task: TaskResource) -> ImagePrefetch:
    """The ImagePrefetch that wants what the Task does."""
    spec, target = task.spec, task.spec.target
    return ImagePrefetch(
        metadata=task.metadata,
        spec=PrefetchSpec(
            images=(SpecImage(spec.source.image, spec.source.platform),),
            pull_secrets=spec.pull_secrets,
            target=PrefetchTarget(
                node_selector=target.node_selector,
                names=target.names,
                tolerations=target.tolerations,
                count=target.count,
                percentage=target.percentage,
            ),
            retry=Retry(limit=spec.retry.limit),
            active_deadline_seconds=spec.active_deadline_seconds,
            ttl_seconds_after_finished=spec.ttl_seconds_after_finished,
            completion_policy="Continuous",
            retention=Retention(pin=spec.retention.pin),
            suspend=spec.suspend,
            depth=spec.depth,
        ),
        status=_former(task),
    )


def status_alone(task: TaskResource, told: PrefetchStatus, now: datetime) -> TaskStatus:
    """The status of a Task that stands for itself, from that of its ImagePrefetch."""
    mine = told.images[0] if told.images else ImageStatus(task.spec.source.image)
    verdicts = {kind: _verdict(told, each) for kind, each in _KINDS.items()}
    verdicts[ConditionType.DISTRIBUTED] = _distributed(mine)
    return _status(task, told, mine, verdicts, told.completion_time, now)


def status_within(task: TaskResource, told: PrefetchStatus, now: datetime) -> TaskStatus:
    """The status of a Task of an ImagePrefetch, from that of its owner; of a former digest it stays as it is."""
    mine = next((each for each in told.images if each.task == task.metadata.name), None)
    if mine is None:
        return task.status
    verdicts = _within(told, mine)
    done = verdicts[ConditionType.READY].status is Status.TRUE
    return _status(task, told, mine, verdicts, (task.status.completion_time or now) if done else None, now)


def _former(task: TaskResource) -> PrefetchStatus:
    """What its status says, as that of the ImagePrefetch."""
    status, source = task.status, task.spec.source
    try:
        reference = str(image.parse(source.image))
    except ValueError:
        reference = source.image
    kinds = {kind.value: each.value for kind, each in _KINDS.items()}
    counts = status.peers
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
        conditions=tuple(
            msgspec.structs.replace(each, type=kinds[each.type]) for each in status.conditions if each.type in kinds
        ),
        images=(mine,),
        summary=status.summary,
        size=status.size,
        failures=tuple(PullFailure(each.node, each.reason, reference, each.message) for each in status.failures),
        start_time=status.start_time,
        completion_time=status.completion_time,
        last_handled_request=status.last_handled_request,
    )


def _status(
    task: TaskResource,
    told: PrefetchStatus,
    mine: ImageStatus,
    verdicts: dict[ConditionType, Verdict],
    completed: datetime | None,
    now: datetime,
) -> TaskStatus:
    generation, former = task.metadata.generation, task.status
    counts = former.peers
    if mine.desired is not None:
        counts = PeerCount(mine.desired, mine.ready or 0, mine.active or 0, mine.failed or 0)
    failures = [each for each in told.failures if each.node and each.image in ("", mine.image)]
    return TaskStatus(
        observed_generation=generation,
        conditions=conditions.merge(former.conditions, verdicts, generation, now),
        content_length=mine.size,
        size="" if mine.size is None else quantity.render(mine.size),
        digest=mine.digest,
        peers=counts,
        summary="" if counts is None else f"{counts.ready}/{counts.desired}",
        failures=tuple(NodeFailure(each.node, each.reason, each.message) for each in failures),
        start_time=told.start_time,
        completion_time=completed,
        last_handled_request=task.requested_at,
    )


def _within(told: PrefetchStatus, mine: ImageStatus) -> dict[ConditionType, Verdict]:
    """What a Task's conditions say of its one image, where its owner's speak of all."""
    resolved = Verdict(Status.TRUE, "Resolved", "The registry has told the digest")
    distributed = _distributed(mine)
    if distributed.status is Status.TRUE:
        rest = Verdict(Status.FALSE, distributed.reason, "Nothing is left to do")
        ready, reconciling, stalled = distributed, rest, rest
    else:
        ready, reconciling, stalled = (
            _verdict(told, each)
            for each in (PrefetchCondition.READY, PrefetchCondition.RECONCILING, PrefetchCondition.STALLED)
        )
        if ready.status is Status.TRUE:  # Its owner was done before, and stays so while nothing else is known.
            ready = distributed
        failure = next((each for each in told.failures if each.node and each.image == mine.image), None)
        if failure is not None:
            ready = Verdict(Status.FALSE, failure.reason, f"{failure.node}: {failure.message}")
    return {
        ConditionType.READY: ready,
        ConditionType.SOURCE_RESOLVED: resolved,
        ConditionType.DISTRIBUTED: distributed,
        ConditionType.RECONCILING: reconciling,
        ConditionType.STALLED: stalled,
    }


def _distributed(mine: ImageStatus) -> Verdict:
    if mine.desired is None or mine.ready is None:
        return PENDING
    noun = "node has" if mine.desired == 1 else "nodes have"
    count = f"{mine.ready} of {mine.desired} {noun} the image"
    if 0 < mine.desired == mine.ready:
        return Verdict(Status.TRUE, PREFETCHED, count)
    return Verdict(Status.FALSE, PROGRESSING, count)


def _verdict(told: PrefetchStatus, kind: PrefetchCondition) -> Verdict:
    found = conditions.find(told.conditions, kind)
    return PENDING if found is None else Verdict(Status(found.status), found.reason, found.message)
