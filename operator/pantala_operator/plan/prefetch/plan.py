"""The plan of one ImagePrefetch, or of one Task with an image: a single pass through the stages. Pure.

Each stage is one module with one entry function. It takes what the stages before have found, and no stage runs twice::

    run         when the run started, and when the schedule starts the next one
    images      which references are wanted, by name or from workloads
    pins        the digest of each image
    pulls       the snapshot: which nodes are wanted, and how far each image is on each of them
    rollout     which pulls start now
    orders      what each node must do, and the images as they are stated
    children    the Tasks to apply and to delete
    questions   what registries are asked
    counts      nodes, images, bytes and failures
    status      conditions, and from them the status of the object's kind
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Final, Generic, TypeVar

from pantala_operator.plan import image_task, startup_taint
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
from pantala_operator.plan.prefetch.counts import PrefetchCounts
from pantala_operator.plan.prefetch.inputs import ImageDemand, ObservedImages, PlanState
from pantala_operator.plan.prefetch.orders import OrderPlan
from pantala_operator.plan.prefetch.pulls import Snapshot
from pantala_operator.plan.prefetch.status import PrefetchOutcome
from pantala_operator.plan.startup_taint import TaintVote
from pantala_operator.resources import conditions, quantity
from pantala_operator.resources.api import TaskResource, TaskStatus
from pantala_operator.resources.prefetch import ImageKey, ImagePrefetch, PrefetchStatus
from pantala_operator.resources.status import expiry
from pantala_protocol.registry import Resolve

_ONCE_LIMIT: Final = 6
"""Retries of ``completionPolicy: Once`` without ``spec.retry.limit``."""

S = TypeVar("S", PrefetchStatus, TaskStatus)
Render = Callable[[Snapshot, PrefetchCounts, PrefetchOutcome], S]
"""Makes the status of one kind."""


@dataclass(frozen=True, slots=True)
class PrefetchPlan(Generic[S]):
    """What follows from one object and from what was observed."""

    status: S
    state: PlanState
    """For the next plan."""
    tasks: ChildTasks
    orders: OrderPlan
    questions: tuple[tuple[ImageKey, Resolve], ...]
    secrets: tuple[str, ...]
    """Names of the Secrets to be read."""
    vote: TaintVote | None
    """On the startup taint."""
    delete: bool
    """Its time to live is over."""
    wake_at: datetime | None
    """When the plan changes without a further event."""


def plan(prefetch: ImagePrefetch, observed: ObservedImages, now: datetime) -> PrefetchPlan[PrefetchStatus]:
    """Plan ``prefetch`` at ``now`` (UTC, whole seconds)."""
    ttl = prefetch.spec.ttl_seconds_after_finished
    return _pass(demand_of(prefetch, observed.state), observed, now, partial(status.of_prefetch, prefetch), ttl)


def plan_task(task: TaskResource, observed: ObservedImages, now: datetime) -> PrefetchPlan[TaskStatus]:
    """Plan a Task with an image that no ImagePrefetch owns."""
    ttl = task.spec.ttl_seconds_after_finished
    return _pass(image_task.demand(task, observed.state), observed, now, partial(image_task.status_alone, task), ttl)


def _pass(
    demand: ImageDemand, observed: ObservedImages, now: datetime, render: Render[S], ttl: int | None
) -> PrefetchPlan[S]:
    current = run.current(demand, now)
    wanted = images.gather(demand, observed.around, observed.secrets)
    pinned = pins.resolve(demand, current, wanted.secrets, observed.answers)
    snapshot = pulls.snapshot(demand, observed, current, wanted, pinned, now)
    snapshot = rollout.advance(snapshot)
    given = orders.give(snapshot)
    tasks = children.child_tasks(snapshot)
    asked = questions.ask(snapshot)
    counted = counts.count(snapshot)
    outcome = status.evaluate(snapshot, counted)
    rendered = render(snapshot, counted, outcome)
    vote, vote_changes = _vote(snapshot)
    expires = expiry(ttl, rendered.conditions, rendered.completion_time, failed=outcome.failed)
    times = (expires, vote_changes, snapshot.run.upcoming, snapshot.run.deadline, snapshot.changes(), asked.next_at)
    return PrefetchPlan(
        status=rendered,
        state=_state(snapshot, counted, outcome, rendered),
        tasks=tasks,
        orders=given,
        questions=asked.now,
        secrets=wanted.secret_names,
        vote=vote,
        delete=expires is not None and now >= expires,
        wake_at=min((at for at in times if at is not None and at > now), default=None),
    )


def demand_of(prefetch: ImagePrefetch, state: PlanState | None) -> ImageDemand:
    """What an ImagePrefetch wants; ``state`` is that of the plan before, if this process made one."""
    spec, former = prefetch.spec, prefetch.status
    limit = spec.retry.limit
    return ImageDemand(
        metadata=prefetch.metadata,
        request=prefetch.requested_at,
        former=state
        or PlanState(
            generation=former.observed_generation,
            request=former.last_handled_request,
            started=former.start_time,
            completed=former.completion_time,
            scheduled=former.last_schedule_time,
            images=former.images,
            ready=conditions.find(former.conditions, "Ready"),
        ),
        images=spec.images,
        target=spec.target,
        source=spec.source,
        pull_secrets=spec.pull_secrets,
        pod_selector=spec.target.pod_selector,
        rollout=spec.rollout,
        retry_limit=_ONCE_LIMIT if limit is None and not spec.continuous else limit,
        backoff_seconds=spec.retry.backoff_seconds,
        pull_timeout=spec.timeout_seconds_per_node,
        deadline_seconds=spec.active_deadline_seconds,
        schedule=spec.schedule,
        startup_taint=spec.startup_taint,
        continuous=spec.continuous,
        follows=spec.follows,
        planning=spec.planning,
        suspended=spec.suspend,
        pin=spec.retention.pin,
        byte_budget=quantity.parse(spec.retention.byte_budget) if spec.retention.byte_budget else None,
        owns_tasks=True,
    )


def _state(snapshot: Snapshot, counted: PrefetchCounts, outcome: PrefetchOutcome, rendered: S) -> PlanState:
    demand, current = snapshot.demand, snapshot.run
    if outcome.stays:
        return replace(demand.former, scheduled=current.scheduled)
    return PlanState(
        generation=demand.metadata.generation,
        request=demand.request,
        started=current.started,
        completed=current.completed,
        scheduled=current.scheduled,
        images=counted.images,
        ready=conditions.find(rendered.conditions, "Ready"),
    )


def _vote(snapshot: Snapshot) -> tuple[TaintVote | None, datetime | None]:
    taint, observed = snapshot.demand.startup_taint, snapshot.observed
    if taint is None or snapshot.demand.planning:
        return None, None
    ready = snapshot.ready if observed.reported else frozenset()
    return startup_taint.vote(taint, snapshot.targets.wanted, observed.cluster.nodes, ready, snapshot.now)
