"""The plan of one ImagePrefetch, or of one Task with an image: a single pass through the stages. Pure.

Each stage is one module, and a plan enters each module once. A stage takes plain values that the stages before have
made, and returns such values. It calls no function of another stage::

    run         when the run started, and when the schedule starts the next run
    images      which references are wanted, by name or from workloads
    pins        the digest of each image
    pulls       the snapshot: which nodes are wanted, and how far each image is on each of them
    rollout     which pulls start now
    orders      what each node must do, and the images as they are stated
    children    the Tasks to apply and to delete
    questions   what registries are asked
    counts      nodes, images, bytes and failures
    status      conditions, and from them the status of the object's kind

Two stages enter one more module each: pulls lets ``targets`` choose the nodes, and status lets ``forecast`` write the
report of mode ``Plan``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Generic, TypeVar, overload

import msgspec

from pantala_operator.plan import image_task, startup_taint
from pantala_operator.plan.nodes import Trouble
from pantala_operator.plan.prefetch import (
    children,
    counts,
    images,
    orders,
    pins,
    pulls,
    questions,
    rollout,
    run,
    status,
)
from pantala_operator.plan.prefetch.children import ChildTasks
from pantala_operator.plan.prefetch.inputs import ImageDemand, ObservedImages
from pantala_operator.plan.prefetch.orders import OrderPlan
from pantala_operator.plan.prefetch.pulls import Snapshot
from pantala_operator.plan.startup_taint import TaintVote
from pantala_operator.plan.targets import PassedOver
from pantala_operator.resources.api import TaskResource, TaskStatus
from pantala_operator.resources.prefetch import ImageKey, ImagePrefetch, PrefetchStatus
from pantala_operator.resources.status import expiry
from pantala_protocol.registry import Resolve
from pantala_protocol.rules.selection import Toleration

_ONCE_LIMIT: Final = 6
"""The number of retries with ``completionPolicy: Once``, if ``spec.retry.limit`` is not set."""

_PEERLESS: Final = frozenset({PassedOver.NO_PEER, PassedOver.PEER_UNSCHEDULABLE})

S = TypeVar("S", PrefetchStatus, TaskStatus)


@dataclass(frozen=True, slots=True)
class PrefetchPlan(Generic[S]):
    """All decisions about one object."""

    status: S
    former: PrefetchStatus
    """The status for the next plan."""
    tasks: ChildTasks
    orders: OrderPlan
    questions: tuple[tuple[ImageKey, Resolve], ...]
    secrets: tuple[str, ...]
    """The names of the Secrets that the operator must read."""
    vote: TaintVote | None
    """The object's vote on its startup taint, if it has a startup taint."""
    delete: bool
    """True if the operator should delete the object, because its time to live is over."""
    wake_at: datetime | None
    """The time at which the plan changes without an event. ``None``: never."""
    snapshot: Snapshot
    late: Mapping[str, Trouble]
    """The nodes that make too little progress."""


@overload
def plan(each: ImagePrefetch, observed: ObservedImages, now: datetime) -> PrefetchPlan[PrefetchStatus]: ...
@overload
def plan(each: TaskResource, observed: ObservedImages, now: datetime) -> PrefetchPlan[TaskStatus]: ...
def plan(each: ImagePrefetch | TaskResource, observed: ObservedImages, now: datetime) -> PrefetchPlan[Any]:
    """Plan an ImagePrefetch, or a Task with an image that no ImagePrefetch owns, at ``now`` (UTC, whole seconds)."""
    demand = demand_of(each) if isinstance(each, ImagePrefetch) else image_task.demand(each, observed.former)
    current = run.current(demand, now)
    wanted = images.gather(demand, observed.around, observed.secrets)
    pinned = pins.resolve(demand, current, wanted.secrets, observed.answers)
    snapshot = pulls.snapshot(demand, observed, current, wanted, pinned, now)
    snapshot = rollout.advance(snapshot)
    given = orders.give(snapshot)
    tasks = children.child_tasks(snapshot)
    asked = questions.ask(snapshot)
    snapshot = replace(snapshot, unanswered=asked.unanswered)
    counted = counts.count(snapshot)
    vote = vote_changes = removal = None
    if (taint := demand.spec.startup_taint) is not None and demand.spec.votes:
        ready, chosen = snapshot.ready if observed.reported else frozenset(), snapshot.targets
        vote, vote_changes, removal = startup_taint.vote(
            taint, chosen.wanted, observed.cluster.nodes, ready, observed.rights, now,
            privileged=observed.around.privileged,
            peerless=[name for name, why in chosen.passed_over.items() if why in _PEERLESS],
        )  # fmt: skip
    current = snapshot.run
    rendered: PrefetchStatus | TaskStatus
    if isinstance(each, ImagePrefetch):
        rendered, outcome = status.of_prefetch(each, snapshot, counted, removal)
        former = rendered
    else:
        rendered, outcome = image_task.status_alone(each, snapshot, counted)
        former = demand.former
        if not outcome.stays:
            former = PrefetchStatus(
                observed_generation=rendered.observed_generation,
                conditions=rendered.conditions,
                images=counted.images,
                start_time=current.started,
                completion_time=current.completed,
                last_handled_request=demand.request,
            )
    ttl, completed = each.spec.ttl_seconds_after_finished, rendered.completion_time
    missed = current.deadline if current.overdue is not None else None
    expires = expiry(ttl, rendered.conditions, completed, failed=outcome.failed, deadline=missed)
    times = (expires, vote_changes, current.upcoming, current.deadline, snapshot.changes_at, asked.next_at)
    return PrefetchPlan(
        status=rendered,
        former=former,
        tasks=tasks,
        orders=given,
        questions=asked.now,
        secrets=wanted.secret_names,
        vote=vote,
        delete=expires is not None and now >= expires,
        wake_at=min((at for at in times if at is not None and at > now), default=None),
        snapshot=snapshot,
        late=counted.late,
    )


def demand_of(prefetch: ImagePrefetch) -> ImageDemand:
    spec = prefetch.spec
    if spec.retry.limit is None and not spec.continuous:
        spec = msgspec.structs.replace(spec, retry=msgspec.structs.replace(spec.retry, limit=_ONCE_LIMIT))
    if spec.startup_taint is not None:
        tolerations = (*spec.target.tolerations, Toleration(spec.startup_taint.key, "Exists"))
        spec = msgspec.structs.replace(spec, target=msgspec.structs.replace(spec.target, tolerations=tolerations))
    return ImageDemand(
        metadata=prefetch.metadata,
        request=prefetch.requested_at,
        former=prefetch.status,
        spec=spec,
        itemized=spec.planning,
        owns_tasks=True,
    )
