"""Makes the snapshot for the later stages: the state of each image on each node, and what may happen next. Pure.

Times within a pull are seconds since the epoch, as nodes report them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum, auto
from itertools import pairwise
from typing import Final

import msgspec

from pantala_operator.plan import targets
from pantala_operator.plan.nodes import Trouble
from pantala_operator.plan.prefetch.images import ImageSet
from pantala_operator.plan.prefetch.inputs import GivenOrder, ImageDemand, ObservedImages
from pantala_operator.plan.prefetch.pins import Pin
from pantala_operator.plan.prefetch.run import Run
from pantala_operator.plan.targets import ClusterNodes, Targets
from pantala_operator.resources.api import Node
from pantala_operator.resources.prefetch import ImageKey
from pantala_operator.resources.retries import pause
from pantala_operator.resources.status import Obstacle
from pantala_protocol.images import PullPhase, PullState
from pantala_protocol.reasons import Reason
from pantala_protocol.rules import quantity
from pantala_protocol.rules.selection import LabelSelector

_GRACE: Final = 30
"""Seconds after a pull's timeout at which a node without a report counts as failed."""
_EVICTION_WINDOW: Final = 3600
_LAST: Final = 1 << 37
"""The latest accepted time, in seconds since the epoch. A node with a wrong clock may report an impossible time."""


class Step(Enum):
    """What may happen next to one image on one node."""

    WAITING = auto()  # not started
    ACTIVE = auto()  # being pulled
    READY = auto()  # there
    DUE = auto()  # failed, may be tried again now
    PAUSED = auto()  # failed, will be tried again
    FAILED = auto()  # failed for good, in this run
    EVICTED = auto()  # removed twice within an hour: not pulled again in this run
    LEFT_OUT = auto()  # the node does not get it


FAILING: Final = frozenset({Step.DUE, Step.PAUSED, Step.FAILED})
"""The steps after a failed attempt."""
STARTABLE: Final = frozenset({Step.WAITING, Step.DUE})


@dataclass(frozen=True, slots=True)
class PullRules:
    """The rules that :func:`evaluate` applies to the pulls of one run."""

    run: str
    started: int
    backoff: int = 10
    limit: int | None = None
    """The number of retries. ``None``: no limit."""
    timeout: int = 600


@dataclass(frozen=True, slots=True)
class EvaluatedPull:
    """One pull, and what may happen next to it."""

    state: PullState
    """The pull's state. A node with a new order counts as pulling even before it reports the pull."""
    step: Step
    changes_at: int | None = None
    """The time at which the step changes without a further report, in seconds since the epoch. ``None``: never."""
    reason: str = ""
    """The reason of a failure. A pull without a report for longer than its timeout counts as failed."""
    message: str = ""
    retrying: bool = False
    """True if the pull repeats a failed pull of this run. A pull after a removal of the image does not count."""


Starts = Mapping[str, tuple[ImageKey, ...]]
"""The images whose pulls start now, by node."""


@dataclass(frozen=True)
class Snapshot:
    """The state of one object's images on all its nodes, at one moment."""

    demand: ImageDemand
    observed: ObservedImages
    now: datetime
    unix: int
    """The time ``now`` in seconds since the epoch."""
    run: Run
    images: ImageSet
    pins: Mapping[ImageKey, Pin]
    unresolved: Mapping[ImageKey, Obstacle]
    """Why no node can start to pull these images. A resolved image stays resolved if a later question fails."""
    targets: Targets
    unavailable: tuple[str, ...]
    """The wanted nodes that cannot be reached."""
    platforms: Mapping[str, str]
    """The platform of each wanted node."""
    omitted: Mapping[str, Mapping[ImageKey, Reason]]
    """The images that a wanted node does not get, with the reason."""
    rules: PullRules
    pulls: Mapping[ImageKey, Mapping[str, EvaluatedPull]]
    """The pulls: image -> node -> pull."""
    steps: Mapping[str, Mapping[ImageKey, Step]]
    """The next step of each image: node -> image -> step. Only reachable nodes are included."""
    everywhere: frozenset[ImageKey]
    """The images of this run that all nodes have."""
    ready: frozenset[str]
    """The nodes that have every image of this run."""
    complete: bool
    """True if every node has every image, and every wanted reference is known."""
    troubles: Mapping[str, Trouble]
    """Why nodes get too few bytes, by node. Empty while no node should get bytes."""
    changes_at: datetime | None
    """The earliest time at which a step changes without a report. ``None``: never."""

    # The stage ``rollout`` sets the following fields.
    starts: Starts = field(default_factory=dict)
    """The pulls that this plan starts. In ``steps`` they are active already."""
    places: Mapping[Step, tuple[tuple[str, ImageKey], ...]] = field(default_factory=dict)
    """The nodes and images at each step."""
    halted: bool = False
    """True if no further node starts, because too many nodes are failing."""
    taken: frozenset[str] = frozenset()
    """The names that this object's Tasks should have, but that belong to Tasks of another owner."""
    unanswered: bool = False
    """See :class:`Questions`. Set after the stage ``questions``."""


def snapshot(
    demand: ImageDemand,
    observed: ObservedImages,
    run: Run,
    images: ImageSet,
    pins: Mapping[ImageKey, Pin],
    now: datetime,
) -> Snapshot:
    """Choose the nodes, and evaluate their pulls. The result may complete the run, or show that it is overdue."""
    unix = int(now.timestamp())
    started = unix if run.started is None else int(run.started.timestamp())
    spec, retry = demand.spec, demand.spec.retry
    rules = PullRules(run.token, started, retry.backoff_seconds, retry.limit, spec.timeout_seconds_per_node)
    pulls: dict[ImageKey, dict[str, EvaluatedPull]] = {}
    for key, pin in pins.items():
        if pin.task:
            given = observed.orders.get(pin.task, {})
            unanswered = {
                name: PullState(PullPhase.PULLING, at, order.run, order.number) for name, (order, at) in given.items()
            }
            known = unanswered | dict(observed.pulls.get(pin.task, {}))
            pulls[key] = {name: evaluate(pull, given.get(name), rules, unix) for name, pull in known.items()}

    nodes, peers = observed.cluster.nodes, observed.cluster.peers
    if spec.target.pod_selector is not None:
        nodes = _with_pods(observed.cluster, spec.target.pod_selector)
    holders = {
        name for each in pulls.values() for name, pull in each.items() if pull.state.phase is not PullPhase.FAILED
    }
    chosen = targets.choose(spec.target, demand.metadata.uid, nodes, peers, holders)
    if not nodes and observed.cluster.nodes:
        where = demand.metadata.namespace
        why = f"No pod that runs in {where} matches spec.target.podSelector"
        chosen = Targets(why_none=why if observed.cluster.pods is not None else _NO_PODS)
    platforms = {}
    for name in chosen.wanted:
        labels = nodes[name].metadata.labels
        platforms[name] = f"{labels.get('kubernetes.io/os', 'linux')}/{labels.get('kubernetes.io/arch', 'amd64')}"
    # All nodes of one platform lack the same images.
    budget = quantity.parse(spec.retention.byte_budget) if spec.retention.byte_budget else None
    alike = {each: omissions(pins.values(), each, budget) for each in set(platforms.values())}
    omitted = {name: alike[platform] for name, platform in platforms.items()}
    steps: dict[str, dict[ImageKey, Step]] = {}
    for name in sorted(name for name in chosen.desired if peers[name].connected):
        found = {key: pulls[key][name].step for key in pulls if name in pulls[key]}
        steps[name] = {key: Step.LEFT_OUT if key in omitted[name] else found.get(key, Step.WAITING) for key in pins}
    everywhere = frozenset(
        key
        for key, pin in pins.items()
        if pin.current and steps and all(node[key] is Step.READY for node in steps.values())
    )
    complete = bool(pins) and not images.problems and len(everywhere) == len(pins)
    run = _evaluated_run(run, demand, now, done=complete and observed.reported)
    changes = [pull.changes_at for each in pulls.values() for pull in each.values() if pull.changes_at is not None]
    return Snapshot(
        demand=demand,
        observed=observed,
        now=now,
        unix=unix,
        run=run,
        images=images,
        pins=pins,
        unresolved={key: pin.problem for key, pin in pins.items() if pin.lacking and pin.problem is not None},
        targets=chosen,
        unavailable=tuple(name for name in chosen.wanted if name not in steps),
        platforms=platforms,
        omitted=omitted,
        rules=rules,
        pulls=pulls,
        steps=steps,
        everywhere=everywhere,
        ready=frozenset(
            name
            for name, node in steps.items()
            if node and all(step is Step.READY and pins[key].current for key, step in node.items())
        ),
        complete=complete,
        troubles={} if spec.suspend or spec.planning or run.started is None else observed.troubles,
        changes_at=None if run.holding or not changes else datetime.fromtimestamp(min(*changes, _LAST), UTC),
    )


def _evaluated_run(run: Run, demand: ImageDemand, now: datetime, *, done: bool) -> Run:
    """Complete the run if everything is ``done``, and decide if its pulls may start or must stop."""
    spec = demand.spec
    completed, deadline, overdue = run.completed, run.deadline, None
    if done and not spec.planning:
        completed, deadline = completed or now, None
    elif deadline is not None and now >= deadline:
        what = f"The run is not complete after {spec.active_deadline_seconds} s"
        overdue = Obstacle.of(Reason.DEADLINE_EXCEEDED, what)
    idle = completed is not None and not spec.continuous
    stopped = spec.suspend or spec.planning or overdue is not None
    return replace(
        run,
        completed=completed,
        deadline=deadline,
        overdue=overdue,
        idle=idle,
        resting=idle and demand.former.completion_time is not None and not run.fresh,
        stopped=stopped,
        holding=stopped or idle or run.started is None or run.fault is not None,
    )


def evaluate(pull: PullState, given: GivenOrder | None, rules: PullRules, now: int) -> EvaluatedPull:
    """Decide what may happen next to a pull that a node has reported. ``given`` is the node's order, if it has one."""
    if given is not None and pull.phase is not PullPhase.READY:
        order = given.order
        if pull.run != order.run or pull.number < order.number:
            pull = msgspec.structs.replace(
                pull, phase=PullPhase.PULLING, since=given.at, run=order.run, number=order.number
            )
    if pull.phase is PullPhase.READY:
        return EvaluatedPull(pull, Step.READY)
    since, reason, message = pull.since, pull.reason, pull.message
    gone = [at for at in pull.gone if at >= rules.started]
    if pull.phase in (PullPhase.PULLING, PullPhase.UNKNOWN):
        until = since + rules.timeout + _GRACE
        if now < until:
            retrying = pull.run == rules.run and pull.number - 1 > len(gone)
            return EvaluatedPull(pull, Step.ACTIVE, until, retrying=retrying)
        since, reason = until, Reason.TIMEOUT
        message = f"The node has not reported on this pull for {rules.timeout} s"
    if any(later - earlier <= _EVICTION_WINDOW for earlier, later in pairwise(gone)):
        return EvaluatedPull(pull, Step.EVICTED)
    if pull.phase is PullPhase.GONE or pull.run != rules.run:
        return EvaluatedPull(pull, Step.WAITING)
    again = pause(reason, pull.number, rules.limit, rules.backoff)
    if again is None:
        return EvaluatedPull(pull, Step.FAILED, None, reason, message)
    if since + again <= now:
        return EvaluatedPull(pull, Step.DUE, None, reason, message)
    return EvaluatedPull(pull, Step.PAUSED, since + again, reason, message)


def omissions(pins: Iterable[Pin], platform: str, budget: int | None) -> Mapping[ImageKey, Reason]:
    """The images that a node of ``platform`` does not get: not built for it, or beyond ``budget`` bytes in total.

    Images use up the budget in order. After an image that does not fit, a smaller image may fit. An unknown size counts
    as 0.
    """
    held: dict[str, int] = {}
    omitted = {}
    for each in pins:
        own, made = each.key.platform or platform, each.platforms or {}
        added = {blob.digest: blob.size for blob in made.get(own, ())}
        absent = each.platforms is not None and own in each.asked and own not in made
        # A runtime takes images of its own platform only.
        if absent or own.split("/")[:2] != platform.split("/")[:2]:
            omitted[each.key] = Reason.PLATFORM_MISSING
        elif budget is not None and sum((held | added).values()) > budget:
            omitted[each.key] = Reason.BUDGET_EXCEEDED
        else:
            held |= added
    return omitted


_NO_PODS = "The operator may not list pods, which spec.target.podSelector needs. Set prefetch.podSelectors in the chart"


def _with_pods(cluster: ClusterNodes, wanted: LabelSelector) -> Mapping[str, Node]:
    """The nodes that run at least one pod that the selector matches."""
    names = {pod.node for pod in cluster.pods or () if wanted.matches(pod.labels)}
    return {name: node for name, node in cluster.nodes.items() if name in names}
