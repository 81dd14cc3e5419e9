"""The status: conditions from the snapshot and its counts, by the rule of all kinds. Pure.

``Ready``, ``Reconciling`` and ``Stalled`` are all False while the object is suspended, waits for its schedule, or has
only planned.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from pantala_operator.plan.prefetch import forecast
from pantala_operator.plan.prefetch.counts import EVICTED, PrefetchCounts
from pantala_operator.plan.prefetch.pins import Pin
from pantala_operator.plan.prefetch.pulls import Snapshot, Step
from pantala_operator.resources import conditions, quantity
from pantala_operator.resources import status as engine
from pantala_operator.resources.conditions import ConditionStatus, Verdict
from pantala_operator.resources.prefetch import (
    Forecast,
    ImagePrefetch,
    PrefetchBytes,
    PrefetchStatus,
    PullFailure,
)
from pantala_operator.resources.status import PENDING, PROGRESSING, SUSPENDED, Obstacle, StatusInputs, Summary, no
from pantala_protocol import reasons
from pantala_protocol.reasons import Reason, Retry


class PrefetchCondition(StrEnum):
    """The types of an ImagePrefetch's conditions."""

    READY = "Ready"
    RESOLVED = "Resolved"
    PINNED = "Pinned"
    DRIFTED = "Drifted"
    EVICTED = "EvictedByKubelet"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


PREFETCHED = "Prefetched"
_SCHEDULED = "Scheduled"
_PLANNED = "Planned"


@dataclass(frozen=True, slots=True)
class PrefetchOutcome:
    """What every kind says in its status."""

    stays: bool
    """The former status still holds: everything is done, or nothing is known that says otherwise."""
    summary: Summary
    resolved: Verdict
    failed: bool
    """Nothing is left to do, because the rest failed for good."""


def evaluate(snapshot: Snapshot, counts: PrefetchCounts) -> PrefetchOutcome:
    done = snapshot.complete and snapshot.observed.reported and not snapshot.demand.planning
    obstacle = _obstacle(snapshot, counts)
    inputs = StatusInputs(
        done=Verdict(ConditionStatus.TRUE, PREFETCHED, counts.progress) if done else None,
        pause=_pause(snapshot, obstacle),
        obstacle=obstacle,
        activity=_activity(snapshot, counts),
    )
    return PrefetchOutcome(
        stays=_stays(snapshot),
        summary=engine.evaluate(inputs),
        resolved=_resolved(snapshot),
        failed=obstacle is not None and obstacle.final and not snapshot.at(Step.ACTIVE, Step.PAUSED),
    )


def _stays(snapshot: Snapshot) -> bool:
    run, ready = snapshot.run, snapshot.demand.former.ready
    if run.fresh or run.fault is not None:
        return False
    was_planned = snapshot.demand.planning and ready is not None and ready.reason == _PLANNED
    if snapshot.resting or (was_planned and not snapshot.unresolved and not _planned(snapshot)):
        return True
    return not snapshot.observed.reported and ready is not None and ready.status == ConditionStatus.TRUE


def _pause(snapshot: Snapshot, obstacle: Obstacle | None) -> Verdict | None:
    run = snapshot.run
    if snapshot.demand.suspended:
        return no(SUSPENDED, "spec.suspend is set. Nodes keep their images and pull no others")
    if run.started is None and run.fault is None:
        when = "never" if run.upcoming is None else f"{run.upcoming:%Y-%m-%dT%H:%M:%SZ}"
        return no(_SCHEDULED, f"Nothing runs before the first time of spec.schedule: {when}")
    if obstacle is None and _planned(snapshot):
        return no(_PLANNED, "spec.mode is Plan. Nodes pull nothing; see status.plan")
    return None


def _obstacle(snapshot: Snapshot, counts: PrefetchCounts) -> Obstacle | None:
    """What prevents progress until somebody acts; ``None``: something goes on."""
    if snapshot.run.fault is not None:
        return snapshot.run.fault
    if snapshot.overdue is not None and not _planned(snapshot):
        return snapshot.overdue
    if snapshot.pins and (not snapshot.observed.reported or _moves(snapshot)):
        return None
    return next(_obstacles(snapshot, counts), None)


def _moves(snapshot: Snapshot) -> bool:
    """Whether anything happens now, or will soon, without a user's action."""
    pins = snapshot.pins.values()
    if snapshot.demand.planning:
        if all(pin.platforms is not None for pin in pins):
            return not _planned(snapshot)
        return any(pin.platforms is None and _expected(pin) for pin in pins)
    if snapshot.at(Step.ACTIVE):
        return True
    if snapshot.halted:
        return False
    again = any(_passes(snapshot.pulls[key][name].reason) for name, key in snapshot.at(Step.PAUSED))
    asked = any(snapshot.lacks(key) and _expected(pin) for key, pin in snapshot.pins.items())
    return again or (asked and bool(snapshot.steps))


def _obstacles(snapshot: Snapshot, counts: PrefetchCounts) -> Iterator[Obstacle]:
    """All obstacles, the most useful to the user first."""
    final = not snapshot.at(Step.PAUSED, Step.DUE)
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


def _activity(snapshot: Snapshot, counts: PrefetchCounts) -> Verdict:
    if snapshot.observed.away:
        return engine.unavailable(snapshot.observed.away)
    if not snapshot.observed.reported:
        return no(PROGRESSING, "The nodes have not reported their images yet")
    for failure in counts.failures:
        if failure.image:
            return no(failure.reason, f"{counts.progress}. {_words(failure)}")
    for problem in snapshot.unresolved.values():
        return no(problem.reason, f"{counts.progress}. {problem.message}")
    return no(PROGRESSING, counts.progress)


def _resolved(snapshot: Snapshot) -> Verdict:
    pins = snapshot.pins.values()
    for each in (*snapshot.images.problems, *snapshot.unresolved.values()):
        return no(each.reason, " ".join((each.message, *snapshot.images.secret_faults)))
    known = sum(pin.current for pin in pins)
    progress = f"{known} of {len(pins)} images are resolved"
    if known == len(pins):
        return Verdict(ConditionStatus.TRUE, "Resolved", ". ".join((progress, *snapshot.images.secret_faults)))
    return no("Resolving", progress) if known else PENDING._replace(message=progress)


def _words(failure: PullFailure) -> str:
    where = f"{failure.node}, {failure.image}" if failure.image else failure.node
    return f"{where}: {failure.message}"


def _expected(pin: Pin) -> bool:
    """Whether the registry has not answered yet, or will be asked again soon."""
    return pin.problem is None or _passes(pin.problem.reason)


def _passes(reason: str) -> bool:
    return reasons.of_image(reason).retry is Retry.SOON


def _answered(snapshot: Snapshot) -> bool:
    """Whether registries and nodes have answered all that a report needs, if only with a refusal."""
    known = all(pin.platforms is not None or pin.problem is not None for pin in snapshot.pins.values())
    return known and snapshot.observed.unsurveyed.isdisjoint(snapshot.steps)


def _planned(snapshot: Snapshot) -> bool:
    """Whether the report of mode ``Plan`` is whole."""
    known = all(pin.platforms is not None for pin in snapshot.pins.values())
    return snapshot.demand.planning and snapshot.observed.reported and known and _answered(snapshot)


def of_prefetch(
    prefetch: ImagePrefetch, snapshot: Snapshot, counts: PrefetchCounts, outcome: PrefetchOutcome
) -> PrefetchStatus:
    """The status of an ImagePrefetch. While not all nodes have reported, numbers stay as they were."""
    run, former, reported = snapshot.run, prefetch.status, snapshot.observed.reported
    status = (
        former
        if outcome.stays
        else PrefetchStatus(
            observed_generation=prefetch.metadata.generation,
            conditions=conditions.merge(
                former.conditions, _verdicts(snapshot, outcome), prefetch.metadata.generation, snapshot.now
            ),
            images=counts.images,
            nodes=counts.nodes if reported else former.nodes,
            summary=f"{counts.nodes.ready}/{counts.nodes.desired}" if reported else former.summary,
            size=former.size if counts.size is None else quantity.render(counts.size),
            transferred=_transferred(snapshot, counts, former.transferred) if reported else former.transferred,
            failures=counts.listed if reported else former.failures,
            plan=_report(snapshot, former.plan),
            start_time=run.started,
            completion_time=run.completed,
            last_handled_request=prefetch.requested_at,
        )
    )
    return msgspec.structs.replace(status, last_schedule_time=run.scheduled, next_schedule_time=run.upcoming)


def _verdicts(snapshot: Snapshot, outcome: PrefetchOutcome) -> dict[PrefetchCondition, Verdict]:
    """All conditions; ``Pinned`` only where it is wanted."""
    verdicts = {PrefetchCondition.READY: outcome.summary.ready, PrefetchCondition.RESOLVED: outcome.resolved}
    if snapshot.demand.pin:
        verdicts[PrefetchCondition.PINNED] = _pinned(snapshot)
    return verdicts | {
        PrefetchCondition.DRIFTED: _drifted(snapshot),
        PrefetchCondition.EVICTED: _evicted(snapshot),
        PrefetchCondition.RECONCILING: outcome.summary.reconciling,
        PrefetchCondition.STALLED: outcome.summary.stalled,
    }


def _drifted(snapshot: Snapshot) -> Verdict:
    moved = [pin for pin in snapshot.pins.values() if pin.latest]
    if moved:
        first = moved[0]
        others = f", and {len(moved) - 1} other tags moved" if len(moved) > 1 else ""
        what = f"{first.key.reference} now has the digest {first.latest}, but nodes get {first.digest}{others}"
        action = "To update nodes, set spec.updatePolicy to Follow, or change the annotation pantala.dev/requested-at."
        return Verdict(ConditionStatus.TRUE, "TagMoved", f"{what}. {action}")
    if any(pin.current for pin in snapshot.pins.values()):
        return no("AsResolved", "Nodes get the digests that the tags have now")
    return PENDING._replace(message="No image has been resolved yet")


def _evicted(snapshot: Snapshot) -> Verdict:
    lost = snapshot.at(Step.EVICTED)
    if lost:
        name, key = lost[0]
        others = f". The same happened {len(lost) - 1} times elsewhere" if len(lost) > 1 else ""
        what = f"{name}, {key.reference}: {EVICTED}. It is not pulled a third time{others}"
        advice = reasons.of_image(Reason.EVICTED)
        return Verdict(ConditionStatus.TRUE, Reason.EVICTED.value, engine.advised(what, advice))
    return no("NotEvicted", "No kubelet removed an image twice within an hour")


def _pinned(snapshot: Snapshot) -> Verdict:
    runtimes = snapshot.observed.runtimes
    unpinned = [name for name in snapshot.steps if name in runtimes and runtimes[name].pins is False]
    if not unpinned:
        return Verdict(ConditionStatus.TRUE, "Pinned", "No node has reported a container runtime that ignores pins")
    what = f"The container runtime ignores pins on {len(unpinned)} of the nodes, such as {unpinned[0]}"
    return no("RuntimeTooOld", f"{what}. The kubelet may remove images there. Update containerd to a newer release.")


def _transferred(snapshot: Snapshot, counts: PrefetchCounts, former: PrefetchBytes | None) -> PrefetchBytes:
    """Bytes of this run; the rate is the average until now, or until the run was completed."""
    until = snapshot.run.completed or snapshot.now
    seconds = max(int(until.timestamp()) - snapshot.rules.started, 1)
    whole = counts.size if counts.size is not None else former.total if former is not None else 0
    return PrefetchBytes(whole, counts.fetched, counts.fetched // seconds)


def _report(snapshot: Snapshot, former: Forecast | None) -> Forecast | None:
    """The report of mode ``Plan``. Until registries and nodes have answered, the former report of this run stays."""
    if not snapshot.demand.planning:
        return None
    if snapshot.observed.reported and _answered(snapshot):
        return forecast.report(snapshot)
    return None if snapshot.run.fresh else former
