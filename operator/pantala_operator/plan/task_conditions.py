"""The conditions of a Task with a file. Pure.

Exactly one of ``Ready``, ``Reconciling`` and ``Stalled`` is True unless the Task is suspended.
"""

from dataclasses import dataclass, field

from pantala_operator.plan.nodes import TaskNodes, Trouble, late_verdict
from pantala_operator.resources import status
from pantala_operator.resources.conditions import Condition, ConditionStatus, ConditionType, Verdict
from pantala_operator.resources.status import PENDING, PROGRESSING, SUSPENDED, Obstacle, have, no, yes
from pantala_protocol import reasons
from pantala_protocol.reasons import Reason, Retry
from pantala_protocol.statement import CDNStatus, Failure, TaskReport

_GIVEN_UP = "All retries failed. To try again, set the annotation pantala.dev/requested-at to a new value."
_AFTER_AN_ANSWER = frozenset(
    {Reason.DIGEST_MISMATCH, Reason.LENGTH_MISMATCH, Reason.SOURCE_INTERRUPTED, Reason.VOLUME_FULL}
)
"""The reasons of failures that happen after the origin has answered."""
_OF_THE_SUPERNODE = frozenset({Reason.VOLUME_FAILED, Reason.QUOTA_EXCEEDED, Reason.INTERNAL})
"""The reasons of failures of the supernode itself, which say nothing about the origin."""


@dataclass(frozen=True, slots=True)
class TaskInputs:
    """The inputs from which :func:`evaluate` derives the conditions."""

    to_peers: bool
    """True if nodes should get the file."""
    suspended: bool
    """True if the user has suspended the Task."""
    source: Obstacle | None = None
    """Why the file cannot be fetched from its origin, if so."""
    delivery: Obstacle | None = None
    """Why no node can get the file, if so."""
    overdue: Obstacle | None = None
    """Set if the Task's deadline has passed."""
    report: TaskReport | None = None
    """The newest report, if it belongs to the current attempt."""
    nodes: TaskNodes = field(default_factory=TaskNodes)
    slow: Trouble | None = None
    """Why the supernode gets too few bytes. ``None`` if it gets enough."""
    away: str = ""
    """Why no supernode answers. Empty if a supernode answers."""
    former: tuple[Condition, ...] = ()
    """The former conditions, if they are about the same content. They stay until a newer report arrives."""

    @property
    def complete(self) -> bool:
        if self.source is not None or self.report is None:
            return False
        if self.to_peers:
            return self.delivery is None and 0 < len(self.nodes.desired) == self.nodes.ready
        return self.report.cdn_status is CDNStatus.SUCCESS

    @property
    def obstacle(self) -> Obstacle | None:
        """What blocks the Task until a user acts. ``None`` if nothing blocks it."""
        failure = self.report.failure if self.report is not None else None
        if self.source is not None:
            return self.source
        if failure is not None and failure.final:
            return _final(failure)
        return self.overdue or self.delivery


def evaluate(inputs: TaskInputs) -> dict[ConditionType, Verdict]:
    """All six conditions, ``Ready`` first."""
    cached, distributed = _cached(inputs), _distributed(inputs)
    goal = distributed if inputs.to_peers else cached
    what = "spec.suspend is set. Existing copies stay. Nothing more is fetched or distributed"
    summary = status.evaluate(
        _activity(inputs, goal),
        done=goal if inputs.complete else None,
        pause=no(SUSPENDED, what) if inputs.suspended else None,
        obstacle=inputs.obstacle,
    )
    return {
        ConditionType.READY: summary.ready,
        ConditionType.SOURCE_RESOLVED: _source_resolved(inputs),
        ConditionType.CACHED: cached,
        ConditionType.DISTRIBUTED: distributed,
        ConditionType.RECONCILING: summary.reconciling,
        ConditionType.STALLED: summary.stalled,
    }


def _source_resolved(inputs: TaskInputs) -> Verdict:
    report = inputs.report
    if inputs.source is not None:
        return no(inputs.source.reason, inputs.source.message)
    if report is None:
        return status.kept(inputs.former, ConditionType.SOURCE_RESOLVED)
    if report.length is not None or report.pieces_cached or report.cdn_status is CDNStatus.SUCCESS:
        return yes("Resolved", "The origin serves the file")
    if report.failure is None:
        return PENDING
    if report.failure.reason in _AFTER_AN_ANSWER:
        return yes("Resolved", "The origin serves a file")
    if report.failure.reason in _OF_THE_SUPERNODE:
        return status.kept(inputs.former, ConditionType.SOURCE_RESOLVED)
    return _failed(report.failure)


def _cached(inputs: TaskInputs) -> Verdict:
    report = inputs.report
    if report is None:
        return status.kept(inputs.former, ConditionType.CACHED)
    if report.cdn_status is CDNStatus.SUCCESS:
        return yes("Cached", "The supernode has the whole file")
    if report.failure is not None:
        return _failed(report.failure)
    total = "" if report.pieces_total is None else f" of {report.pieces_total}"
    has = f"The supernode has {report.pieces_cached}{total} pieces"
    if inputs.slow is not None:
        return no(inputs.slow.reason, f"{has}. {inputs.slow.text}")
    if report.cdn_status is CDNStatus.RUNNING:
        return no("Fetching", has)
    return no("Waiting", "The supernode has not started to fetch the file")


def _distributed(inputs: TaskInputs) -> Verdict:
    report, nodes = inputs.report, inputs.nodes
    if not inputs.to_peers:
        return no("NotWanted", "spec.depth is Supernode, so no node gets the file")
    if inputs.delivery is not None:
        return no(inputs.delivery.reason, inputs.delivery.message)
    if report is None:
        return status.kept(inputs.former, ConditionType.DISTRIBUTED)
    progress = have(nodes.ready, len(nodes.desired), "the file")
    if not nodes.desired:
        return no("NodesUnavailable", "None of the selected nodes can be reached. Check the nodes and their peers")
    if nodes.ready == len(nodes.desired):
        return yes("Distributed", progress)
    if behind := nodes.failed or nodes.late:
        return late_verdict(progress, behind)
    return no("Distributing", progress)


def _activity(inputs: TaskInputs, goal: Verdict) -> Verdict:
    report = inputs.report
    if inputs.away:
        return status.unavailable(inputs.away)
    if report is not None and report.failure is not None:
        return _failed(report.failure)
    if inputs.slow is not None and report is not None and report.cdn_status is not CDNStatus.SUCCESS:
        return _cached(inputs)
    if report is not None and (inputs.nodes.failed or inputs.nodes.late) and goal.status is not ConditionStatus.TRUE:
        return goal
    return no(PROGRESSING, goal.message)


def _failed(failure: Failure) -> Verdict:
    return no(failure.reason or Reason.INTERNAL, _words(failure))


def _words(failure: Failure) -> str:
    """The failure's message with the advice."""
    return status.advised(failure.message or failure.reason, reasons.of_file(failure.reason))


def _final(failure: Failure) -> Obstacle:
    """The obstacle after the last retry. It is final, unless the supernode still retries from time to time."""
    advice = reasons.of_file(failure.reason)
    passing = advice is not None and advice.retry is Retry.SOON
    message = f"{_words(failure)} {_GIVEN_UP}" if passing else _words(failure)
    return Obstacle(failure.reason, message, final=advice is None or advice.retry is not Retry.LATER)
