"""Plans one Task with a file: its task for the statement, and its status. Pure."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import msgspec

from pantala_operator.plan import statement, task_conditions
from pantala_operator.plan.nodes import MAX_NODES, TaskDownloads, TaskNodes, listed, overdue, share_of_copies
from pantala_operator.plan.paths import PublishedPaths
from pantala_operator.plan.secrets import SecretReading, Unread
from pantala_operator.plan.statement import PathClaim, TaskOrigin
from pantala_operator.plan.targets import Targets
from pantala_operator.plan.task_conditions import TaskInputs
from pantala_operator.resources import conditions
from pantala_operator.resources.api import ByteCount, NodeFailure, PeerCount, PieceCount, TaskResource, TaskStatus
from pantala_operator.resources.conditions import ConditionStatus, ConditionType
from pantala_operator.resources.status import Obstacle, expiry
from pantala_protocol.reasons import Reason
from pantala_protocol.rules import quantity
from pantala_protocol.statement import CDNStatus, TaskReport, WantedTask


@dataclass(frozen=True, slots=True)
class ObservedTask:
    """What the operator has observed about a Task, besides the resource itself."""

    secret: SecretReading = field(default_factory=Unread)
    """The last reading of the Secret that ``spec.headersFrom`` names."""
    targets: Targets = field(default_factory=Targets)
    owner: PathClaim | None = None
    """The claim of another Task that owns this Task's path, if any."""
    excess: Obstacle | None = None
    """Set if the namespace has too many Tasks, and this Task is among the youngest."""
    cut: Obstacle | None = None
    """Set if the statement lacks the Task, or its credentials. It changes only the status."""
    report: TaskReport | None = None
    """The report that counts: usually the report of the supernode that owns the task."""
    holders: Set[str] = frozenset()
    """The nodes that have the file at the Task's path."""
    reported: bool = False
    """True if the supernodes have reported their peers."""
    away: str = ""
    """Why no supernode answers. Empty if a supernode answers."""
    downloads: TaskDownloads = field(default_factory=TaskDownloads)
    young: Mapping[str, datetime] = field(default_factory=dict)
    """The nodes that joined the cluster less than ``spec.timeoutSecondsPerNode`` ago, and when that time ends."""
    zones: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """The decisions about one Task."""

    wanted: WantedTask | None
    status: TaskStatus
    delete: bool = False
    """True if the operator should delete the Task, because its time to live is over."""
    settling: bool = False
    """True if the Task was done before an edit, and the supernode has not reported since the edit."""
    wake_at: datetime | None = None
    """The time at which the plan changes without an event. ``None``: never."""
    nodes: TaskNodes = field(default_factory=TaskNodes)


def plan(task: TaskResource, observed: ObservedTask, paths: PublishedPaths, now: datetime) -> TaskPlan:
    """Plan ``task`` at ``now`` (UTC, whole seconds)."""
    source = observed.excess or statement.origin(task, observed.secret)
    path = paths.of(task)
    delivery = _delivery_obstacle(task, path, observed)
    where = path if isinstance(path, str) and delivery is None else ""
    started, completed = _times(task, now)
    known = statement.task_id_of(task, source)
    report = observed.report if observed.report is not None and observed.report.task_id == known else None
    blocked, since = isinstance(source, Obstacle) or delivery is not None, _lacking_since(task, started, completed, now)
    nodes = (
        TaskNodes()
        if not task.spec.to_peers
        else _nodes(task, observed, report, since, now, halted=task.spec.suspend or blocked)
    )
    inputs = _inputs(task, observed, source, delivery, report, nodes, known)
    deadline = _deadline(task, started, completed)
    if deadline is not None and now >= deadline and not inputs.complete:
        what = f"The Task was not Ready within {task.spec.active_deadline_seconds} s"
        inputs = replace(inputs, overdue=Obstacle.of(Reason.DEADLINE_EXCEEDED, what))
    patience = _patience(task, observed, since)
    suspended = task.spec.suspend or inputs.overdue is not None
    if _stays(task, inputs, unread=isinstance(source, Unread)):
        status = task.status
    else:
        completed = completed or (now if inputs.complete else None)
        status = _status(task, inputs, report, known, where, started, completed, now)
    failed, missed = inputs.obstacle is not None and inputs.obstacle.final, deadline if inputs.overdue else None
    ttl = task.spec.ttl_seconds_after_finished
    expires = expiry(ttl, status.conditions, status.completion_time, failed=failed, deadline=missed)
    return TaskPlan(
        wanted=statement.wanted(task, source, where, observed.targets, suspended=suspended),
        status=status,
        settling=_settles(task, inputs),
        delete=expires is not None and now >= expires,
        wake_at=min((at for at in (deadline, expires, *patience) if at is not None and at > now), default=None),
        nodes=nodes,
    )


def _delivery_obstacle(task: TaskResource, path: str | Obstacle, observed: ObservedTask) -> Obstacle | None:
    if not task.spec.to_peers:
        return None
    if isinstance(path, Obstacle):
        return path
    if not observed.targets.wanted and observed.reported:
        return Obstacle.of(Reason.NO_NODE_MATCHES, observed.targets.why_none or "No node matches spec.target")
    if observed.owner is not None:
        return Obstacle.of(Reason.PATH_CONFLICT, f"The path {path} belongs to the Task {observed.owner.name}")
    return None


def _times(task: TaskResource, now: datetime) -> tuple[datetime, datetime | None]:
    """The start of the current attempt and, if the Task is finished already, the time of its end."""
    if _is_new_attempt(task) or task.status.start_time is None:
        return now, None
    return task.status.start_time, task.status.completion_time


def _is_new_attempt(task: TaskResource) -> bool:
    status = task.status
    return status.observed_generation != task.metadata.generation or status.last_handled_request != task.requested_at


def _inputs(
    task: TaskResource,
    observed: ObservedTask,
    source: TaskOrigin | Obstacle | Unread,
    delivery: Obstacle | None,
    report: TaskReport | None,
    nodes: TaskNodes,
    known: str,
) -> TaskInputs:
    same = bool(known) and task.status.task_id == known
    return TaskInputs(
        to_peers=task.spec.to_peers,
        suspended=task.spec.suspend,
        source=source if isinstance(source, Obstacle) else observed.cut,
        delivery=delivery,
        report=report if report is not None and report.attempt == task.attempt else None,
        nodes=nodes,
        slow=observed.downloads.source,
        away=observed.away,
        former=task.status.conditions if same else (),
    )


def _stays(task: TaskResource, inputs: TaskInputs, *, unread: bool) -> bool:
    """True if a Ready Task keeps its status, because no report contradicts it. ``unread``: its Secret is not read yet.

    So a restart of the operator or of the supernode, or an outage, does not make a finished Task look unfinished. A
    Stalled Task, for example without its Secret, stays Stalled until the operator has read the Secret.
    """
    stays = (unread and conditions.is_true(task.status.conditions, ConditionType.STALLED)) or (
        task.is_ready and (inputs.report is None or bool(inputs.away))
    )
    blocked = inputs.source is not None or inputs.delivery is not None or inputs.overdue is not None
    return stays and not blocked and not _is_new_attempt(task)


def _settles(task: TaskResource, inputs: TaskInputs) -> bool:
    waits = inputs.report is None and not inputs.away and inputs.obstacle is None
    return waits and task.is_ready


def _deadline(task: TaskResource, started: datetime, completed: datetime | None) -> datetime | None:
    seconds = task.spec.active_deadline_seconds
    return None if seconds is None or completed is not None else started + timedelta(seconds=seconds)


def _lacking_since(task: TaskResource, started: datetime, completed: datetime | None, now: datetime) -> datetime:
    """The time since which nodes lack the file: the start, or the first loss after all nodes had the file."""
    if completed is None:
        return started
    former = conditions.find(task.status.conditions, ConditionType.DISTRIBUTED)
    return former.last_transition_time if former is not None and former.status == ConditionStatus.FALSE else now


def _patience(task: TaskResource, observed: ObservedTask, since: datetime) -> Iterator[datetime]:
    """The times at which nodes that lack the file exceed ``spec.timeoutSecondsPerNode``."""
    lacking = observed.targets.desired - observed.holders
    if task.spec.timeout_seconds_per_node is not None and lacking:
        yield since + timedelta(seconds=task.spec.timeout_seconds_per_node)
        for name in observed.young.keys() & lacking:
            yield observed.young[name]


def _status(
    task: TaskResource,
    inputs: TaskInputs,
    report: TaskReport | None,
    known: str,
    path: str,
    started: datetime,
    completed: datetime | None,
    now: datetime,
) -> TaskStatus:
    former = task.status if task.status.task_id == known else TaskStatus()
    nodes = inputs.nodes
    late = nodes.late if inputs.to_peers else {}
    failures = list(nodes.failed.items())[: MAX_NODES - min(len(late), MAX_NODES // 2)]
    generation = task.metadata.generation
    return msgspec.structs.replace(
        _with_content(former, report) if report is not None else former,
        observed_generation=generation,
        conditions=conditions.merge(task.status.conditions, task_conditions.evaluate(inputs), generation, now),
        task_id=known,
        path=path,
        peers=_peers(nodes) if inputs.to_peers else None,
        summary=f"{nodes.ready}/{len(nodes.desired)}" if inputs.to_peers else "",
        progress=_progress(inputs, report, former.progress),
        late=listed(late, MAX_NODES - len(failures)),
        failures=tuple(NodeFailure(name, each.reason, each.text) for name, each in failures),
        start_time=started,
        completion_time=completed,
        last_handled_request=task.requested_at,
    )


def _with_content(former: TaskStatus, report: TaskReport) -> TaskStatus:
    """``former``, with the state, size, digest, pieces and bytes of the file from a supernode's report."""
    unknown = report.cdn_status is CDNStatus.UNKNOWN
    return msgspec.structs.replace(
        former,
        cdn_status=former.cdn_status if unknown else report.cdn_status.value,
        content_length=report.length,
        size="" if report.length is None else quantity.render(report.length),
        digest=report.digest,
        piece_size=report.piece_size,
        pieces=None if report.pieces_total is None else PieceCount(report.pieces_total, report.pieces_cached),
        transferred=ByteCount.of(report.origin_bytes, report.supernode_bytes, report.peer_bytes),
    )


def _peers(nodes: TaskNodes) -> PeerCount:
    counts = nodes.counts
    return PeerCount(counts.desired, counts.ready, counts.fetching, counts.failed, counts.waiting, counts.late)


def _nodes(
    task: TaskResource,
    observed: ObservedTask,
    report: TaskReport | None,
    since: datetime,
    now: datetime,
    *,
    halted: bool,
) -> TaskNodes:
    """``since``: when the time of each node began. ``halted``: the Task is suspended or blocked, so no node is late."""
    desired = observed.targets.desired
    return TaskNodes(
        desired=desired,
        holders=observed.holders,
        failures=tuple(each for each in report.failures if each.peer) if report is not None else (),
        failing=report.failed_peers if report is not None else 0,
        active=_active(report, desired) if report is not None else 0,
        downloads=TaskDownloads() if halted or observed.away else observed.downloads,
        overdue=None if halted else overdue(task.spec.timeout_seconds_per_node, since, now),
        young=observed.young.keys(),
        length=report.length if report is not None else task.status.content_length,
        zones=observed.zones,
    )


def _active(report: TaskReport, desired: Set[str]) -> int:
    """How many nodes download the file. None of them can, as long as the supernode has nothing to send."""
    if not (report.pieces_cached or report.supernode_bytes or report.peer_bytes):
        return 0
    if report.active is None:  # from a supernode of the former minor version
        return len(desired & set(report.active_peers))
    return report.active


def _progress(inputs: TaskInputs, report: TaskReport | None, former: str) -> str:
    """The share of all bytes at the supernode and on the nodes that is done, such as ``42%``. Empty: not known."""
    if inputs.complete:
        return "100%"
    nodes = inputs.nodes
    if inputs.to_peers and not nodes.desired:
        return quantity.percent(0, 1)
    if report is None or report.length is None:
        return former
    desired = len(nodes.desired) if inputs.to_peers else 0
    cached = report.pieces_cached / report.pieces_total if report.pieces_total else 0.0
    moved = (report.supernode_bytes + report.peer_bytes) / report.length if report.length else 0.0
    return quantity.percent(share_of_copies(cached, max(moved, nodes.ready), desired), 1)
