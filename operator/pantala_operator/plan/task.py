"""The plan of one Task: what is wanted of the supernode, what its status shall say, what happens when. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from pantala_operator.plan import problem, statement, verdict
from pantala_operator.plan.headers import SecretReading, Unread
from pantala_operator.plan.problem import Problem
from pantala_operator.plan.statement import Claim, Origin
from pantala_operator.plan.target import Targets
from pantala_operator.plan.verdict import Facts
from pantala_operator.resources import conditions, quantity
from pantala_operator.resources.api import ByteCount, NodeFailure, PeerCount, PieceCount, TaskResource, TaskStatus
from pantala_operator.resources.conditions import Condition, ConditionType
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import TaskReport, WantedTask

MAX_FAILURES = 10
"""Failures of nodes that a status names."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known beside the Task itself."""

    secret: SecretReading = field(default_factory=Unread)
    """The Secret that ``spec.headersFrom`` names."""
    targets: Targets = field(default_factory=Targets)
    owner: Claim | None = None
    """The Task that has this one's path by right."""
    report: TaskReport | None = None
    """The newest word on the Task of the supernode that counts."""
    holders: frozenset[str] = frozenset()
    """Nodes that have the file at the Task's path."""
    heard: bool = False
    """The supernode has said which peers there are."""
    away: str = ""
    """Why the supernode cannot be asked; empty: it can."""


@dataclass(frozen=True, slots=True)
class Notice:
    """An Event to be written."""

    warning: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What follows from a Task and what was observed."""

    wanted: WantedTask | None
    status: TaskStatus
    notices: tuple[Notice, ...] = ()
    delete: bool = False
    """Its time to live is over."""
    settling: bool = False
    """It was done before an edit, and the supernode has not said yet whether it still is."""
    wake_at: datetime | None = None
    """When the plan changes though nothing else does."""


def plan(task: TaskResource, observed: Observed, root: str, now: datetime) -> TaskPlan:
    """Plan ``task`` at ``now`` (UTC, whole seconds); ``root`` is the directory of files on nodes."""
    source = statement.origin(task, observed.secret)
    path = statement.path(task, root)
    delivery = _delivery_problem(task, path, observed)
    where = path if isinstance(path, str) and delivery is None else ""
    started, completed = _clock(task, now)
    known = statement.task_id_of(task, source)
    report = observed.report if observed.report is not None and observed.report.task_id == known else None
    facts = _facts(task, observed, source, delivery, report, known)
    deadline = _deadline(task, started, completed)
    if deadline is not None and now >= deadline and not facts.complete:
        facts = replace(facts, overdue=_overdue(task))
    suspended = task.spec.suspend or facts.overdue is not None
    wanted = statement.wanted(task, source, where, observed.targets, suspended=suspended)
    if _stays(task, facts):
        status = task.status
    else:
        completed = completed or (now if facts.complete else None)
        status = _status(task, facts, report, observed, known, where, started, completed, now)
    expiry = _expiry(task, status, facts)
    return TaskPlan(
        wanted=wanted,
        status=status,
        notices=tuple(_notices(task.status.conditions, status.conditions)),
        settling=_settles(task, facts),
        delete=expiry is not None and now >= expiry,
        wake_at=min((at for at in (deadline, expiry) if at is not None and at > now), default=None),
    )


def _delivery_problem(task: TaskResource, path: str | Problem, observed: Observed) -> Problem | None:
    if not task.spec.to_peers:
        return None
    if isinstance(path, Problem):
        return path
    if not observed.targets.wanted and observed.heard:
        return problem.of(Reason.NO_NODE_MATCHES, observed.targets.why_none or "No node matches spec.target")
    if observed.owner is not None:
        return statement.conflict(path, observed.owner)
    return None


def _clock(task: TaskResource, now: datetime) -> tuple[datetime, datetime | None]:
    """When the current attempt started and, if it has, was complete for the first time."""
    if _is_new_attempt(task) or task.status.start_time is None:
        return now, None
    return task.status.start_time, task.status.completion_time


def _is_new_attempt(task: TaskResource) -> bool:
    status = task.status
    return status.observed_generation != task.metadata.generation or status.last_handled_request != task.requested_at


def _facts(
    task: TaskResource,
    observed: Observed,
    source: Origin | Problem | Unread,
    delivery: Problem | None,
    report: TaskReport | None,
    known: str,
) -> Facts:
    same = bool(known) and task.status.task_id == known
    return Facts(
        to_peers=task.spec.to_peers,
        suspended=task.spec.suspend,
        source=source if isinstance(source, Problem) else None,
        delivery=delivery,
        overdue=None,
        report=report if report is not None and report.attempt == task.attempt else None,
        desired=len(observed.targets.desired),
        ready=len(observed.targets.desired & observed.holders),
        away=observed.away,
        former={each.type: each for each in task.status.conditions} if same else {},
    )


def _stays(task: TaskResource, facts: Facts) -> bool:
    """Whether a Task that is Ready stays as it is, since nothing is known that says otherwise.

    So a restart of the operator or of the supernode, or an outage, does not make a finished Task look unfinished.
    """
    return (
        (facts.report is None or bool(facts.away))
        and facts.source is None
        and facts.delivery is None
        and facts.overdue is None
        and not _is_new_attempt(task)
        and conditions.is_true(task.status.conditions, ConditionType.READY)
    )


def _settles(task: TaskResource, facts: Facts) -> bool:
    waits = facts.report is None and not facts.away and facts.obstacle is None
    return waits and conditions.is_true(task.status.conditions, ConditionType.READY)


def _deadline(task: TaskResource, started: datetime, completed: datetime | None) -> datetime | None:
    seconds = task.spec.active_deadline_seconds
    return None if seconds is None or completed is not None else started + timedelta(seconds=seconds)


def _overdue(task: TaskResource) -> Problem:
    return problem.of(Reason.DEADLINE_EXCEEDED, f"The Task is not done after {task.spec.active_deadline_seconds} s")


def _expiry(task: TaskResource, status: TaskStatus, facts: Facts) -> datetime | None:
    ttl = task.spec.ttl_seconds_after_finished
    if ttl is None:
        return None
    finished: datetime | None = None
    stalled = conditions.find(status.conditions, ConditionType.STALLED)
    if conditions.is_true(status.conditions, ConditionType.READY):
        finished = status.completion_time
    elif stalled is not None and stalled.status == "True" and facts.obstacle is not None and facts.obstacle.final:
        finished = stalled.last_transition_time
    return None if finished is None else finished + timedelta(seconds=ttl)


def _status(
    task: TaskResource,
    facts: Facts,
    report: TaskReport | None,
    observed: Observed,
    known: str,
    path: str,
    started: datetime,
    completed: datetime | None,
    now: datetime,
) -> TaskStatus:
    former = task.status if task.status.task_id == known else TaskStatus()
    failures = report.failures[:MAX_FAILURES] if report is not None else ()
    generation = task.metadata.generation
    return TaskStatus(
        observed_generation=generation,
        conditions=conditions.merge(task.status.conditions, verdict.judge(facts), generation, now),
        task_id=known,
        cdn_status=report.cdn_status.value if report is not None else former.cdn_status,
        path=path,
        content_length=report.length if report is not None else former.content_length,
        size=_size(report) if report is not None else former.size,
        digest=report.digest if report is not None else former.digest,
        piece_size=report.piece_size if report is not None else former.piece_size,
        pieces=_pieces(report) if report is not None else former.pieces,
        peers=_peers(facts, report, observed) if facts.to_peers else None,
        summary=f"{facts.ready}/{facts.desired}" if facts.to_peers else "",
        transferred=_bytes(report) if report is not None else former.transferred,
        failures=tuple(NodeFailure(each.peer, each.reason, each.message) for each in failures),
        start_time=started,
        completion_time=completed,
        last_handled_request=task.requested_at,
    )


def _size(report: TaskReport) -> str:
    return "" if report.length is None else quantity.render(report.length)


def _pieces(report: TaskReport) -> PieceCount | None:
    return None if report.pieces_total is None else PieceCount(report.pieces_total, report.pieces_cached)


def _bytes(report: TaskReport) -> ByteCount:
    distributed = report.supernode_bytes + report.peer_bytes
    return ByteCount(report.origin_bytes, report.supernode_bytes, report.peer_bytes, distributed)


def _peers(facts: Facts, report: TaskReport | None, observed: Observed) -> PeerCount:
    active = len(observed.targets.desired.intersection(report.active_peers)) if report is not None else 0
    return PeerCount(facts.desired, facts.ready, active, report.failed_peers if report is not None else 0)


def _notices(former: tuple[Condition, ...], latter: tuple[Condition, ...]) -> Iterator[Notice]:
    """What an onlooker wants to be told: done, stuck, or a failure that may pass."""
    for kind in (ConditionType.READY, ConditionType.STALLED, ConditionType.RECONCILING):
        old, new = conditions.find(former, kind), conditions.find(latter, kind)
        if new is None or new.status != "True" or new.reason == verdict.PROGRESSING:
            continue
        if old is None or (old.status, old.reason) != (new.status, new.reason):
            yield Notice(kind is not ConditionType.READY, new.reason, new.message)
