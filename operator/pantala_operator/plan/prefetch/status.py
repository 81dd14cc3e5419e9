"""Makes the status: conditions from the snapshot and its counts, by the rule of all kinds. Pure.

``Ready``, ``Reconciling`` and ``Stalled`` are all False while the object is suspended, waits for its schedule, or has
only planned.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from pantala_operator.plan.nodes import MAX_NODES, late_verdict, listed
from pantala_operator.plan.prefetch import forecast
from pantala_operator.plan.prefetch.counts import EVICTED, PrefetchCounts
from pantala_operator.plan.prefetch.pins import Pin
from pantala_operator.plan.prefetch.pulls import Snapshot, Step
from pantala_operator.resources import conditions
from pantala_operator.resources import status as engine
from pantala_operator.resources.conditions import ConditionStatus, Verdict
from pantala_operator.resources.prefetch import (
    Forecast,
    ImageKey,
    ImagePrefetch,
    PrefetchBytes,
    PrefetchStatus,
    PullFailure,
)
from pantala_operator.resources.status import PENDING, PROGRESSING, SUSPENDED, Obstacle, Summary, no, yes
from pantala_protocol import reasons
from pantala_protocol.reasons import Reason, Retry
from pantala_protocol.rules import quantity


class PrefetchCondition(StrEnum):
    """The types of an ImagePrefetch's conditions."""

    READY = "Ready"
    RESOLVED = "Resolved"
    PINNED = "Pinned"
    DRIFTED = "Drifted"
    TAINT = "StartupTaintRemovable"
    EVICTED = "EvictedByKubelet"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


PREFETCHED = "Prefetched"
_SCHEDULED = "Scheduled"
_PLANNED = "Planned"
_NOT_EVICTED = no("NotEvicted", "No kubelet removed an image twice within an hour")


@dataclass(frozen=True, slots=True)
class PrefetchOutcome:
    """The part of the status that ImagePrefetches and Tasks have in common."""

    stays: bool
    """True if the former status stays: all work is done, or no newer report has arrived."""
    summary: Summary
    resolved: Verdict
    failed: bool
    """True if nothing is left to do, because all other pulls have failed finally."""


def of_prefetch(
    prefetch: ImagePrefetch, snapshot: Snapshot, counts: PrefetchCounts, taint: Verdict | None
) -> tuple[PrefetchStatus, PrefetchOutcome]:
    """The status of an ImagePrefetch. Its numbers stay the same until all nodes have reported.

    ``taint``: whether the operator may remove the startup taint. ``None``: there is none.
    """
    demand, run, former, reported = snapshot.demand, snapshot.run, prefetch.status, snapshot.observed.reported
    outcome = evaluate(snapshot, counts)
    if outcome.stays and (taint is None or _shows(former, taint)):
        kept = msgspec.structs.replace(former, last_schedule_time=run.scheduled, next_schedule_time=run.upcoming)
        return kept, outcome

    evicted = snapshot.places[Step.EVICTED]
    moved = [pin for pin in snapshot.pins.values() if pin.latest]
    drifted = PENDING._replace(message="No image has been resolved yet")
    if moved:
        drifted = _drifted(moved)
    elif any(pin.current for pin in snapshot.pins.values()):
        drifted = no("AsResolved", "Nodes get the digests that the tags have now")
    verdicts = {
        PrefetchCondition.READY: outcome.summary.ready,
        PrefetchCondition.RESOLVED: outcome.resolved,
        **({PrefetchCondition.PINNED: _pinned(snapshot)} if demand.spec.retention.pin else {}),
        PrefetchCondition.DRIFTED: drifted,
        **({PrefetchCondition.TAINT: taint} if taint is not None else {}),
        PrefetchCondition.EVICTED: _evicted(evicted) if evicted else _NOT_EVICTED,
        PrefetchCondition.RECONCILING: outcome.summary.reconciling,
        PrefetchCondition.STALLED: outcome.summary.stalled,
    }

    transferred = former.transferred
    if reported:
        # The rate is the average until the newest bytes, or until the run was completed. A rate until now would change
        # without an end, and each write of it would cause the next one.
        seconds = max(int((run.completed or snapshot.now).timestamp()) - snapshot.rules.started, 1)
        before = transferred if transferred is not None else PrefetchBytes(0, 0, 0)
        whole = before.total if counts.size is None else counts.size
        transferred = PrefetchBytes(whole, counts.fetched, counts.fetched // seconds)
        if run.completed == former.completion_time and not run.fresh and before.fetched == counts.fetched:
            transferred = msgspec.structs.replace(transferred, per_second=before.per_second)
    status = PrefetchStatus(
        observed_generation=demand.metadata.generation,
        conditions=conditions.merge(former.conditions, verdicts, demand.metadata.generation, snapshot.now),
        images=counts.images,
        nodes=counts.nodes if reported else former.nodes,
        summary=f"{counts.nodes.ready}/{counts.nodes.desired}" if reported else former.summary,
        size=former.size if counts.size is None else quantity.render(counts.size),
        transferred=transferred,
        progress=counts.share or former.progress,
        late=listed(counts.late, MAX_NODES - len(counts.listed)) if counts.late else (),
        failures=counts.listed if reported else former.failures,
        plan=_report(snapshot, former.plan) if demand.spec.planning else None,
        start_time=run.started,
        completion_time=run.completed,
        last_schedule_time=run.scheduled,
        next_schedule_time=run.upcoming,
        last_handled_request=demand.request,
    )
    return status, outcome


def _shows(status: PrefetchStatus, taint: Verdict) -> bool:
    """True if the status has the verdict on the startup taint."""
    found = conditions.find(status.conditions, PrefetchCondition.TAINT)
    return found is not None and found.status == taint.status


def evaluate(snapshot: Snapshot, counts: PrefetchCounts) -> PrefetchOutcome:
    demand, run, observed, pins = snapshot.demand, snapshot.run, snapshot.observed, snapshot.pins.values()
    unresolved = tuple(snapshot.unresolved.values())
    planned = demand.spec.planning and _planned(snapshot)
    done = obstacle = pause = None
    if snapshot.complete and observed.reported and not demand.spec.planning:
        done = yes(PREFETCHED, counts.progress)
    else:
        obstacle = _obstacle(snapshot, counts, planned=planned)
    if demand.spec.suspend or run.started is None or planned:
        pause = _pause(snapshot, obstacle)

    activity = no(PROGRESSING, counts.progress)
    if observed.away:
        activity = engine.unavailable(observed.away)
    elif not observed.reported:
        activity = no(PROGRESSING, "The nodes have not reported their images yet")
    elif (failure := next((each for each in counts.failures if each.image), None)) is not None:
        activity = no(failure.reason, f"{counts.progress}. {_words(failure)}")
    elif unresolved:  # it concerns all nodes
        activity = no(unresolved[0].reason, f"{counts.progress}. {unresolved[0].message}")
    elif counts.late:
        activity = late_verdict(counts.progress, counts.late)

    known, problems = sum(pin.current for pin in pins), (*snapshot.images.problems, *unresolved)
    progress, faults = f"{known} of {len(pins)} images are resolved", snapshot.images.secret_faults
    resolved = no("Resolving", progress) if known else PENDING._replace(message=progress)
    if problems:
        resolved = no(problems[0].reason, " ".join((problems[0].message, *faults)))
    elif known == len(pins):
        resolved = yes("Resolved", ". ".join((progress, *faults)))

    ready = conditions.find(demand.former.conditions, PrefetchCondition.READY)
    was_ready = ready is not None and ready.status == ConditionStatus.TRUE
    was_planned = demand.spec.planning and ready is not None and ready.reason == _PLANNED
    unknown = (was_ready and not observed.reported) or (was_planned and not planned and not unresolved)
    if conditions.is_true(demand.former.conditions, PrefetchCondition.STALLED) and run.overdue is None:
        unknown |= not observed.reported or snapshot.unanswered
    working = snapshot.places[Step.ACTIVE] or snapshot.places[Step.PAUSED]
    return PrefetchOutcome(
        stays=(snapshot.run.resting or unknown) and not run.fresh and run.fault is None,
        summary=engine.evaluate(activity, done=done, pause=pause, obstacle=obstacle),
        resolved=resolved,
        failed=obstacle is not None and obstacle.final and not working,
    )


def _pause(snapshot: Snapshot, obstacle: Obstacle | None) -> Verdict | None:
    """The condition for a pause: before the first run, while suspended, or after the report of mode ``Plan``."""
    run = snapshot.run
    if snapshot.demand.spec.suspend:
        return no(SUSPENDED, "spec.suspend is set. Nodes keep their images and pull no further images")
    if run.started is None and run.fault is None:
        if run.upcoming is None:
            return no(_SCHEDULED, "spec.schedule never comes due, so nothing is pulled. Correct spec.schedule")
        return no(_SCHEDULED, f"Nothing is pulled before the first scheduled time, {run.upcoming:%Y-%m-%dT%H:%M:%SZ}")
    if obstacle is None:
        return no(_PLANNED, "spec.mode is Plan. Nodes pull nothing. See status.plan")
    return None


def _obstacle(snapshot: Snapshot, counts: PrefetchCounts, *, planned: bool) -> Obstacle | None:
    """What blocks the object until a user acts. ``None`` while work continues, or will continue soon."""
    pins, places, observed = snapshot.pins.values(), snapshot.places, snapshot.observed
    if snapshot.run.fault is not None:
        return snapshot.run.fault
    if snapshot.run.overdue is not None and not planned:
        return snapshot.run.overdue
    if (cut := next((observed.cut[pin.task] for pin in pins if pin.task in observed.cut), None)) is not None:
        return cut
    moves = True
    if observed.reported and snapshot.demand.spec.planning:
        unknown = [pin for pin in pins if pin.platforms is None]
        moves = any(pin.awaited for pin in unknown) if unknown else not planned
    elif observed.reported and not places[Step.ACTIVE]:
        failed = [snapshot.pulls[key][name].reason for name, key in places[Step.PAUSED]]
        moves = any(reasons.of_image(each).retry is Retry.SOON for each in failed)
        moves |= bool(snapshot.steps) and any(pin.lacking and pin.awaited for pin in pins)
        moves &= not snapshot.halted
    return None if pins and moves else next(_obstacles(snapshot, counts), None)


def _obstacles(snapshot: Snapshot, counts: PrefetchCounts) -> Iterator[Obstacle]:
    """Yield all obstacles, the most useful one for the user first."""
    final = not snapshot.places[Step.PAUSED] and not snapshot.places[Step.DUE]
    if not snapshot.pins:
        yield from snapshot.images.problems
    if not snapshot.steps:
        yield _nowhere(snapshot)
    if snapshot.halted:
        first = _words(counts.failures[0]) if counts.failures else ""
        what = f"{counts.nodes.failed} of {counts.nodes.desired} nodes are failing, so no further node starts. {first}"
        yield Obstacle.of(Reason.TOO_MANY_FAILURES, what)._replace(final=final)
    for name in sorted(snapshot.taken):
        yield Obstacle.of(Reason.NAME_TAKEN, f"The Task {name} exists and does not belong to this ImagePrefetch")
    for each in (*snapshot.unresolved.values(), *snapshot.images.problems):
        yield each._replace(message=" ".join((each.message, *snapshot.images.secret_faults)))
    for failure in counts.failures:
        yield Obstacle(failure.reason, f"{counts.progress}. {_words(failure)}", final=final)


def _nowhere(snapshot: Snapshot) -> Obstacle:
    wanted = len(snapshot.targets.wanted)
    if wanted:
        return Obstacle.of(Reason.NODE_UNAVAILABLE, f"None of the {wanted} selected nodes can be reached")
    return Obstacle.of(Reason.NO_NODE_MATCHES, snapshot.targets.why_none or "No node matches spec.target")


def _words(failure: PullFailure) -> str:
    where = f"{failure.node}, {failure.image}" if failure.image else failure.node
    return f"{where}: {failure.message}"


def _planned(snapshot: Snapshot) -> bool:
    """True if the report of mode ``Plan`` is complete."""
    known = all(pin.platforms is not None for pin in snapshot.pins.values())
    return known and snapshot.observed.reported and snapshot.observed.unsurveyed.isdisjoint(snapshot.steps)


def _report(snapshot: Snapshot, former: Forecast | None) -> Forecast | None:
    """The report of mode ``Plan``.

    The former report of this run stays until registries and nodes have answered, if only with a refusal.
    """
    observed, pins = snapshot.observed, snapshot.pins.values()
    answered = all(pin.platforms is not None or pin.problem is not None for pin in pins)
    if answered and observed.reported and observed.unsurveyed.isdisjoint(snapshot.steps):
        return forecast.report(snapshot)
    return None if snapshot.run.fresh else former


def _drifted(moved: Sequence[Pin]) -> Verdict:
    first = moved[0]
    others = f". Other moved tags: {len(moved) - 1}" if len(moved) > 1 else ""
    what = f"{first.key.reference} now has the digest {first.latest}, but nodes get {first.digest}{others}"
    action = "To update nodes, set spec.updatePolicy to Follow, or change the annotation pantala.dev/requested-at."
    return yes("TagMoved", f"{what}. {action}")


def _evicted(lost: Sequence[tuple[str, ImageKey]]) -> Verdict:
    name, key = lost[0]
    others = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
    what = f"{name}, {key.reference}{others}: {EVICTED}. It is not pulled a third time"
    return yes(Reason.EVICTED, engine.advised(what, reasons.of_image(Reason.EVICTED)))


def _pinned(snapshot: Snapshot) -> Verdict:
    runtimes = snapshot.observed.runtimes
    unpinned = [name for name in snapshot.steps if name in runtimes and runtimes[name].pins is False]
    if not unpinned:
        return yes("Pinned", "No node has reported a container runtime that ignores pins")
    what = f"The container runtime ignores pins on {len(unpinned)} of the nodes, such as {unpinned[0]}"
    return no("RuntimeTooOld", f"{what}. The kubelet may remove images there. Update containerd to a newer release.")
