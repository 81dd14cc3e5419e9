"""What an ImagePrefetch's conditions shall say. Pure.

Never are ``Ready`` and ``Stalled``, or ``Reconciling`` and ``Stalled``, True together. All three are False while it is
suspended, waits for its schedule, or has only planned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from pantala_operator.plan.prefetch import reasons
from pantala_operator.plan.prefetch.pins import Pin
from pantala_operator.plan.prefetch.pull import Step
from pantala_operator.plan.prefetch.reasons import ImageReason
from pantala_operator.plan.prefetch.survey import Survey
from pantala_operator.plan.problem import Problem
from pantala_operator.plan.verdict import PENDING, PROGRESSING, SUPERNODE_UNAVAILABLE, SUSPENDED
from pantala_operator.resources.conditions import Status, Verdict
from pantala_operator.resources.prefetch import NodeCount, PullFailure
from pantala_protocol.reasons import Reason, Retry


class PrefetchCondition(StrEnum):
    """What conditions speak of."""

    READY = "Ready"
    RESOLVED = "Resolved"
    PINNED = "Pinned"
    DRIFTED = "Drifted"
    EVICTED = "EvictedByKubelet"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


PREFETCHED = "Prefetched"
SCHEDULED = "Scheduled"
PLANNED = "Planned"


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the verdicts are made of."""

    seen: Survey
    counts: NodeCount
    failures: tuple[PullFailure, ...] = ()
    suspended: bool = False
    planning: bool = False
    planned: bool = False
    """Whether the report of mode ``Plan`` is whole."""
    halted: bool = False
    """Whether there is a node that could begin, and does not as too many fail."""
    overdue: Problem | None = None
    heard: bool = True
    away: str = ""
    taken: tuple[str, ...] = ()
    """Names of Tasks that somebody else has."""
    secrets: tuple[Problem, ...] = ()
    """What is wrong with the pull secrets; images may be public all the same."""
    unpinned: tuple[str, ...] | None = None
    """Nodes whose runtime does not honour pinning; ``None``: it is not asked for."""

    @property
    def complete(self) -> bool:
        """Whether all that was asked for is done."""
        return self.heard and not self.planning and self.seen.complete

    @property
    def obstacle(self) -> Problem | None:
        """What stands in the way until somebody does something; ``None``: something goes on."""
        seen = self.seen
        if seen.run.fault is not None or self.overdue is not None:
            return seen.run.fault or self.overdue
        if seen.pins and (not self.heard or self._moves()):
            return None
        return next(self._obstacles(), None)

    def _moves(self) -> bool:
        """Whether anything is being done, or will be soon, without anybody doing anything."""
        seen = self.seen
        if self.planning:
            return (not self.planned and all(pin.platforms is not None for pin in seen.pins.values())) or any(
                pin.platforms is None and _may_be_told(pin) for pin in seen.pins.values()
            )
        if seen.at(Step.ACTIVE):
            return True
        if self.halted:
            return False
        again = any(_passes(seen.pulls[key][name].reason) for name, key in seen.at(Step.PAUSED))
        asked = any(seen.lacks(key) and _may_be_told(pin) for key, pin in seen.pins.items())
        return again or (asked and bool(seen.steps))

    def _obstacles(self) -> Iterator[Problem]:
        """What may stand in the way, the most telling first."""
        seen = self.seen
        if not seen.pins:
            yield from seen.images.problems
        if not seen.steps:
            yield _nowhere(seen)
        if self.halted:
            what = f"{self.counts.failed} of {self.counts.desired} nodes are failing, so that no further one begins"
            found = reasons.problem(ImageReason.TOO_MANY_FAILURES, f"{what}. {_first(self.failures)}")
            yield found._replace(final=not self.again)
        for name in self.taken:
            yield reasons.problem(ImageReason.NAME_TAKEN, f"A Task {name} is there that is not of this ImagePrefetch")
        problems = [*seen.unresolved.values(), *seen.images.problems]
        yield from (self._with_secrets(each) for each in problems)
        for failure in self.failures:
            yield Problem(failure.reason, f"{self.count}; {_words(failure)}", final=not self.again)

    @property
    def again(self) -> bool:
        """Whether any pull that failed is tried again in this run."""
        return bool(self.seen.at(Step.PAUSED, Step.DUE))

    @property
    def count(self) -> str:
        """How far it is, for people to read."""
        noun = "node has" if self.counts.desired == 1 else "nodes have"
        return f"{self.counts.ready} of {self.counts.desired} {noun} all images"

    def _with_secrets(self, found: Problem) -> Problem:
        return found._replace(message=" ".join((found.message, *(each.message for each in self.secrets))))


def judge(facts: Facts) -> dict[PrefetchCondition, Verdict]:
    """All conditions, ``Ready`` first; ``Pinned`` only where it is asked for."""
    ready, reconciling, stalled = _summary(facts)
    verdicts = {PrefetchCondition.READY: ready, PrefetchCondition.RESOLVED: _resolved(facts)}
    if facts.unpinned is not None:
        verdicts[PrefetchCondition.PINNED] = _pinned(facts.unpinned)
    return verdicts | {
        PrefetchCondition.DRIFTED: _drifted(facts),
        PrefetchCondition.EVICTED: _evicted(facts),
        PrefetchCondition.RECONCILING: reconciling,
        PrefetchCondition.STALLED: stalled,
    }


def _summary(facts: Facts) -> tuple[Verdict, Verdict, Verdict]:
    """``Ready``, ``Reconciling`` and ``Stalled``."""
    run, obstacle = facts.seen.run, facts.obstacle
    if facts.complete:
        goal = Verdict(Status.TRUE, PREFETCHED, facts.count)
        return goal, _no(PREFETCHED, "Nothing is left to do"), _no(PREFETCHED, "Nothing is in the way")
    if facts.suspended:
        return (_no(SUSPENDED, "spec.suspend is set: what is there is kept, nothing more is pulled"),) * 3
    if run.started is None and run.fault is None:
        when = "never" if run.upcoming is None else f"{run.upcoming:%Y-%m-%dT%H:%M:%SZ}"
        return (_no(SCHEDULED, f"The first run of spec.schedule: {when}"),) * 3
    if facts.planned and obstacle is None:
        return (_no(PLANNED, "spec.mode is Plan: nothing is pulled; see status.plan"),) * 3
    if obstacle is not None:
        refusal = _no(obstacle.reason, obstacle.message)
        rest = _no(obstacle.reason, "Nothing goes on until what Stalled names has changed")
        return refusal, rest, refusal._replace(status=Status.TRUE)
    activity = _activity(facts)
    return activity, activity._replace(status=Status.TRUE), _no(activity.reason, "Nothing is in the way for good")


def _activity(facts: Facts) -> Verdict:
    """What goes on, as ``Ready`` says it."""
    if facts.away:
        what = f"A supernode cannot be asked: {facts.away.rstrip('. ')}. It goes on by itself when it answers."
        return _no(SUPERNODE_UNAVAILABLE, what)
    if not facts.heard:
        return _no(PROGRESSING, "No supernode has said yet how far the nodes are")
    for failure in facts.failures:
        if failure.image:
            return _no(failure.reason, f"{facts.count}; {_words(failure)}")
    for problem in facts.seen.unresolved.values():
        return _no(problem.reason, f"{facts.count}; {problem.message}")
    return _no(PROGRESSING, facts.count)


def _resolved(facts: Facts) -> Verdict:
    pins = facts.seen.pins
    problems = [*facts.seen.images.problems, *facts.seen.unresolved.values()]
    notes = "".join(f" {each.message}" for each in facts.secrets)
    if problems:
        return _no(problems[0].reason, problems[0].message + notes)
    known = sum(pin.current for pin in pins.values())
    count = f"{known} of {len(pins)} images are resolved"
    if known == len(pins):
        return Verdict(Status.TRUE, "Resolved", count + "." * bool(notes) + notes)
    return PENDING._replace(message=count) if not known else _no("Resolving", count)


def _drifted(facts: Facts) -> Verdict:
    moved = [pin for pin in facts.seen.pins.values() if pin.latest]
    if moved:
        first = moved[0]
        what = f"{first.key.reference} names {first.latest} by now, nodes get {first.digest}"
        others = f", and {len(moved) - 1} more" if len(moved) > 1 else ""
        action = "Set the annotation pantala.dev/requested-at, or spec.updatePolicy Follow, to move the nodes."
        return Verdict(Status.TRUE, "TagMoved", f"{what}{others}. {action}")
    if any(pin.current for pin in facts.seen.pins.values()):
        return _no("AsResolved", "The tags name what nodes get")
    return PENDING._replace(message="Nothing is resolved yet")


def _evicted(facts: Facts) -> Verdict:
    lost = facts.seen.at(Step.EVICTED)
    if lost:
        name, key = lost[0]
        others = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
        what = f"{key.reference} went twice within an hour from {name}{others}; it is not pulled a third time"
        reason = ImageReason.EVICTED.value
        return Verdict(Status.TRUE, reason, reasons.advise(what, reason))
    return _no("NotEvicted", "No image went twice within an hour")


def _pinned(unpinned: tuple[str, ...]) -> Verdict:
    if not unpinned:
        return Verdict(Status.TRUE, "Pinned", "No runtime is known not to honour it")
    what = f"The runtime does not honour pinning on {len(unpinned)} of the nodes, such as {unpinned[0]}"
    return _no(
        "RuntimeTooOld", f"{what}: the kubelet may remove images there. Update it; containerd 1.6.20 is too old."
    )


def _nowhere(seen: Survey) -> Problem:
    if seen.targets.wanted:
        what = f"None of the {len(seen.targets.wanted)} nodes that shall have the images can be reached"
        return reasons.problem(ImageReason.NODE_UNAVAILABLE, what)
    what = seen.targets.why_none or "No node matches spec.target"
    return Problem(Reason.NO_NODE_MATCHES.value, f"{what.rstrip('. ')}. {Reason.NO_NODE_MATCHES.action}")


def _first(failures: tuple[PullFailure, ...]) -> str:
    return _words(failures[0]) if failures else ""


def _words(failure: PullFailure) -> str:
    where = f"{failure.node}, {failure.image}" if failure.image else failure.node
    return f"{where}: {failure.message}"


def _may_be_told(pin: Pin) -> bool:
    """Whether the registry has not answered yet, or will be asked again soon."""
    return pin.problem is None or _passes(pin.problem.reason)


def _passes(reason: str) -> bool:
    return reasons.advice(reason).retry is Retry.SOON


def _no(reason: str, message: str) -> Verdict:
    return Verdict(Status.FALSE, reason, message)
