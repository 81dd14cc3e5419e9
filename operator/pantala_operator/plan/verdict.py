"""What a Task's conditions shall say. Pure.

Never are ``Ready`` and ``Stalled``, or ``Reconciling`` and ``Stalled``, True together; exactly one of ``Ready``,
``Reconciling``, ``Stalled`` is True unless the Task is suspended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pantala_operator.plan import problem
from pantala_operator.plan.problem import Problem
from pantala_operator.resources.conditions import Condition, ConditionType, Status, Verdict
from pantala_protocol.reasons import Reason, Retry
from pantala_protocol.statement import CDNStatus, Failure, TaskReport

PENDING = Verdict(Status.UNKNOWN, "Pending", "The supernode has not said anything of this yet")
SUSPENDED = "Suspended"
SUPERNODE_UNAVAILABLE = "SupernodeUnavailable"
PROGRESSING = "Progressing"
_GIVEN_UP = "It was tried often enough; a new value of the annotation pantala.dev/requested-at tries it again."

_AFTER_AN_ANSWER = frozenset({Reason.DIGEST_MISMATCH, Reason.LENGTH_MISMATCH, Reason.SOURCE_INTERRUPTED})
"""Failures that the origin's answer came before."""
_OF_THE_SUPERNODE = frozenset({Reason.VOLUME_FULL, Reason.VOLUME_FAILED, Reason.INTERNAL})
"""Failures that say nothing of the origin."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the verdicts are made of."""

    to_peers: bool
    """Whether nodes get the file."""
    suspended: bool
    """By the user."""
    source: Problem | None
    """Why nothing can be fetched."""
    delivery: Problem | None
    """Why no node can get the file."""
    overdue: Problem | None
    """The deadline has passed."""
    report: TaskReport | None
    """Of the attempt that is wanted."""
    desired: int
    ready: int
    away: str
    """Why the supernode cannot be asked; empty: it can."""
    former: Mapping[str, Condition]
    """What the conditions say of the same task so far; what is not known now stays as it is."""

    @property
    def complete(self) -> bool:
        """Whether all that was asked for is done."""
        if self.source is not None or self.report is None:
            return False
        if self.to_peers:
            return self.delivery is None and 0 < self.desired == self.ready
        return self.report.cdn_status is CDNStatus.SUCCESS

    @property
    def obstacle(self) -> Problem | None:
        """What stands in the way until somebody does something."""
        failure = self.report.failure if self.report is not None else None
        if self.source is not None:
            return self.source
        if failure is not None and failure.final:
            return Problem(failure.reason, _last_words(failure), final=problem.ends(failure.reason))
        return self.overdue or self.delivery


def judge(facts: Facts) -> dict[ConditionType, Verdict]:
    """All six conditions, ``Ready`` first."""
    source = _source_resolved(facts)
    cached = _cached(facts)
    distributed = _distributed(facts)
    ready, reconciling, stalled = _summary(facts, distributed if facts.to_peers else cached)
    return {
        ConditionType.READY: ready,
        ConditionType.SOURCE_RESOLVED: source,
        ConditionType.CACHED: cached,
        ConditionType.DISTRIBUTED: distributed,
        ConditionType.RECONCILING: reconciling,
        ConditionType.STALLED: stalled,
    }


def _source_resolved(facts: Facts) -> Verdict:
    report = facts.report
    if facts.source is not None:
        return _refusal(facts.source)
    if report is None:
        return _former(facts, ConditionType.SOURCE_RESOLVED)
    if report.length is not None or report.pieces_cached or report.cdn_status is CDNStatus.SUCCESS:
        return Verdict(Status.TRUE, "Resolved", "The origin has answered with the file")
    if report.failure is None:
        return PENDING
    if report.failure.reason in _AFTER_AN_ANSWER:
        return Verdict(Status.TRUE, "Resolved", "The origin has answered with a file")
    if report.failure.reason in _OF_THE_SUPERNODE:
        return _former(facts, ConditionType.SOURCE_RESOLVED)
    return _failed(report.failure)


def _cached(facts: Facts) -> Verdict:
    report = facts.report
    if report is None:
        return _former(facts, ConditionType.CACHED)
    if report.cdn_status is CDNStatus.SUCCESS:
        return Verdict(Status.TRUE, "Cached", "The supernode has the whole file")
    if report.failure is not None:
        return _failed(report.failure)
    total = "?" if report.pieces_total is None else str(report.pieces_total)
    if report.cdn_status is CDNStatus.RUNNING:
        return Verdict(Status.FALSE, "Fetching", f"The supernode has {report.pieces_cached} of {total} pieces")
    return Verdict(Status.FALSE, "Waiting", "The supernode has not begun to fetch")


def _distributed(facts: Facts) -> Verdict:
    report = facts.report
    if not facts.to_peers:
        return Verdict(Status.FALSE, "NotWanted", "spec.depth is Supernode: no node gets the file")
    if facts.delivery is not None:
        return _refusal(facts.delivery)
    if report is None:
        return _former(facts, ConditionType.DISTRIBUTED)
    count = f"{facts.ready} of {facts.desired} {'node has' if facts.desired == 1 else 'nodes have'} the file"
    if facts.desired == 0:
        return Verdict(Status.FALSE, "NodesUnavailable", "No node that shall have the file can be reached")
    if facts.ready == facts.desired:
        return Verdict(Status.TRUE, "Distributed", count)
    if report.failures:
        first = report.failures[0]
        return Verdict(Status.FALSE, first.reason, f"{count}; {first.peer}: {_words(first)}")
    return Verdict(Status.FALSE, "Distributing", count)


def _summary(facts: Facts, goal: Verdict) -> tuple[Verdict, Verdict, Verdict]:
    """``Ready``, ``Reconciling`` and ``Stalled``."""
    if facts.complete:
        return goal, _no(goal.reason, "Nothing is left to do"), _no(goal.reason, "Nothing is in the way")
    if facts.suspended:
        what = "spec.suspend is set: what is there is kept, nothing more is fetched or given"
        return (_no(SUSPENDED, what),) * 3
    obstacle = facts.obstacle
    if obstacle is not None:
        refusal = _refusal(obstacle)
        return (
            refusal,
            _no(obstacle.reason, "Nothing goes on until what Stalled names has changed"),
            refusal._replace(status=Status.TRUE),
        )
    activity = _activity(facts, goal)
    return activity, activity._replace(status=Status.TRUE), _no(activity.reason, "Nothing is in the way for good")


def _activity(facts: Facts, goal: Verdict) -> Verdict:
    """What goes on, as ``Ready`` says it."""
    if facts.away:
        message = f"The supernode cannot be asked: {facts.away.rstrip('. ')}. It goes on by itself when it answers."
        return Verdict(Status.FALSE, SUPERNODE_UNAVAILABLE, message)
    failure = facts.report.failure if facts.report is not None else None
    if failure is not None:
        return _failed(failure)
    if facts.report is not None and facts.report.failures and goal.status is not Status.TRUE:
        return goal
    return Verdict(Status.FALSE, PROGRESSING, goal.message)


def _former(facts: Facts, kind: ConditionType) -> Verdict:
    former = facts.former.get(kind)
    return PENDING if former is None else Verdict(Status(former.status), former.reason, former.message)


def _failed(failure: Failure) -> Verdict:
    return Verdict(Status.FALSE, failure.reason or Reason.INTERNAL.value, _words(failure))


def _refusal(obstacle: Problem) -> Verdict:
    return Verdict(Status.FALSE, obstacle.reason, obstacle.message)


def _words(failure: Failure) -> str:
    return problem.advise(failure.message or failure.reason, failure.reason)


def _last_words(failure: Failure) -> str:
    passing = failure.reason in Reason._value2member_map_ and Reason(failure.reason).retry is Retry.SOON
    return f"{_words(failure)} {_GIVEN_UP}" if passing else _words(failure)


def _no(reason: str, message: str) -> Verdict:
    return Verdict(Status.FALSE, reason, message)
