"""How far each image is on each node, and what may happen next: the snapshot that later stages work from. Pure.

Times within a pull are seconds since the epoch, as nodes report them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum, auto
from functools import cached_property
from itertools import pairwise
from typing import Final

import msgspec

from pantala_operator.plan import targets
from pantala_operator.plan.prefetch.images import ImageSet
from pantala_operator.plan.prefetch.inputs import GivenOrder, ImageDemand, ObservedImages
from pantala_operator.plan.prefetch.pins import Pin, omissions
from pantala_operator.plan.prefetch.run import Run
from pantala_operator.plan.targets import Targets
from pantala_operator.resources.api import Toleration
from pantala_operator.resources.prefetch import ImageKey
from pantala_operator.resources.status import Obstacle
from pantala_protocol import reasons
from pantala_protocol.images import Depth, PullPhase, PullState
from pantala_protocol.reasons import Reason, Retry

_LONGEST_PAUSE: Final = 300
"""Seconds; also the pause after failures that something else has to change for."""
_GRACE: Final = 30
"""Seconds added to a pull's timeout before a silent node counts as failed."""
_EVICTION_WINDOW: Final = 3600
_LAST: Final = 1 << 37
"""No calendar has later seconds; a node's wrong clock must not end the planning of all others."""


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

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self in (Step.DUE, Step.PAUSED, Step.FAILED)

    @property
    def startable(self) -> bool:
        return self in (Step.WAITING, Step.DUE)


@dataclass(frozen=True, slots=True)
class PullRules:
    """How pulls of one run are judged."""

    run: str
    started: int
    backoff: int = 10
    limit: int | None = None
    """Retries; ``None``: without a limit."""
    timeout: int = 600


def judged(pull: PullState, rules: PullRules, now: int) -> PullState:
    """The pull as it counts: one that is silent for longer than it may take has failed."""
    if pull.phase is PullPhase.PULLING and now >= (until := _patience(pull, rules)):
        what = f"The node has not reported on this pull for {rules.timeout} s"
        return msgspec.structs.replace(
            pull, phase=PullPhase.FAILED, since=until, reason=Reason.TIMEOUT.value, message=what
        )
    return pull


def step(pull: PullState | None, rules: PullRules, now: int) -> Step:
    """What may happen next to ``pull``; ``None``: the node has not reported any."""
    if pull is None:
        return Step.WAITING
    pull = judged(pull, rules, now)
    match pull.phase:
        case PullPhase.READY:
            return Step.READY
        case PullPhase.PULLING:
            return Step.ACTIVE
        case PullPhase.GONE:
            return Step.EVICTED if evicted(pull, rules.started) else Step.WAITING
        case PullPhase.FAILED:
            if evicted(pull, rules.started):
                return Step.EVICTED
            if pull.run != rules.run:
                return Step.WAITING
            at = retry_at(pull, rules)
            return Step.FAILED if at is None else Step.DUE if at <= now else Step.PAUSED


def changes_at(pull: PullState, rules: PullRules, now: int) -> int | None:
    """When :func:`step` changes without a further report."""
    pull = judged(pull, rules, now)
    if pull.phase is PullPhase.PULLING:
        return _patience(pull, rules)
    return retry_at(pull, rules) if step(pull, rules, now) is Step.PAUSED else None


def retry_at(pull: PullState, rules: PullRules) -> int | None:
    """When a failed pull may be tried again; ``None``: not in this run."""
    again = pause(pull.reason, pull.number, rules.limit, rules.backoff)
    return None if again is None else pull.since + again


def pause(reason: str, tries: int, limit: int | None, backoff: int) -> int | None:
    """Seconds to wait after the failure number ``tries``; ``None``: another try is not allowed or useless."""
    kind = reasons.of_image(reason).retry
    if kind is Retry.NEVER or (limit is not None and tries > limit):
        return None
    longest = max(_LONGEST_PAUSE, backoff)
    # Doubling more than 32 times gives the longest pause in any case.
    growing = min(backoff << min(max(tries - 1, 0), 32), longest)
    return longest if kind is Retry.LATER else growing


def retries(pull: PullState, rules: PullRules) -> bool:
    """Whether a running or starting ``pull`` follows a failure of this run. A pull after a removal does not count."""
    if pull.run != rules.run:
        return False
    if pull.phase is PullPhase.FAILED:
        return True
    gone = sum(at >= rules.started for at in pull.gone)
    return pull.phase is PullPhase.PULLING and pull.number - 1 > gone


def evicted(pull: PullState, started: int) -> bool:
    """Whether the image was removed twice within an hour, in the run that ``started`` then."""
    mine = [at for at in pull.gone if at >= started]
    return any(later - earlier <= _EVICTION_WINDOW for earlier, later in pairwise(mine))


def _patience(pull: PullState, rules: PullRules) -> int:
    return pull.since + rules.timeout + _GRACE


Starts = Mapping[str, tuple[ImageKey, ...]]
"""Pulls that start now, by node."""


@dataclass(frozen=True)
class Snapshot:
    """One demand at one moment."""

    demand: ImageDemand
    observed: ObservedImages
    now: datetime
    run: Run
    images: ImageSet
    pins: Mapping[ImageKey, Pin]
    targets: Targets
    rules: PullRules
    pulls: Mapping[ImageKey, Mapping[str, PullState]]
    """The states by image and node name. A node with a new order counts as pulling before it reports so."""
    steps: Mapping[str, Mapping[ImageKey, Step]]
    """The steps of all images, by node. Only reachable nodes are included."""
    omitted: Mapping[str, Mapping[ImageKey, Reason]]
    """The images that a wanted node does not get, with the reason."""
    platforms: frozenset[str]
    """Of the wanted nodes."""
    overdue: Obstacle | None = None
    """The run has missed its deadline."""
    starts: Starts = field(default_factory=dict)
    """The pulls that start with this plan; in ``steps`` they are active."""
    halted: bool = False
    """No further node starts, because too many nodes are failing."""

    @property
    def unix(self) -> int:
        return int(self.now.timestamp())

    def at(self, *wanted: Step) -> tuple[tuple[str, ImageKey], ...]:
        """The nodes and images that are at one of these steps."""
        return tuple((name, key) for name, node in self.steps.items() for key, each in node.items() if each in wanted)

    @property
    def itemized(self) -> bool:
        """Whether an image is useful only with its blobs known: in a report, and where the peer fetches them."""
        return self.demand.planning or self.demand.depth is Depth.PEER

    def lacks(self, key: ImageKey) -> bool:
        """Whether no node can start with an image: its digest or its needed blobs are not known in this run."""
        pin = self.pins[key]
        return not pin.current or (self.itemized and pin.platforms is None)

    @cached_property
    def unresolved(self) -> Mapping[ImageKey, Obstacle]:
        """Why no node can start with these images. A later question that fails does not affect resolved images."""
        return {key: pin.problem for key, pin in self.pins.items() if pin.problem is not None and self.lacks(key)}

    @cached_property
    def everywhere(self) -> frozenset[ImageKey]:
        """The images of this run that all nodes have."""
        return frozenset(
            key
            for key, pin in self.pins.items()
            if pin.current and self.steps and all(node[key] is Step.READY for node in self.steps.values())
        )

    @cached_property
    def ready(self) -> frozenset[str]:
        """The nodes that have every image of this run."""
        return frozenset(
            name
            for name, node in self.steps.items()
            if node and all(step is Step.READY and self.pins[key].current for key, step in node.items())
        )

    @property
    def complete(self) -> bool:
        """Whether every node has every image, and every wanted reference is known."""
        return bool(self.pins) and not self.images.problems and len(self.everywhere) == len(self.pins)

    @cached_property
    def taken(self) -> frozenset[str]:
        """Names of this demand's Tasks that another owner's Tasks have."""
        others = {each.name for each in self.observed.tasks if each.owner != self.demand.metadata.uid}
        return frozenset(pin.task for pin in self.pins.values() if pin.task in others)

    @property
    def idle(self) -> bool:
        """Whether nothing happens until the next run."""
        return self.run.completed is not None and not self.demand.continuous

    @property
    def resting(self) -> bool:
        """Whether a run of ``Once`` was completed before this plan, so everything stays as it is."""
        return self.idle and self.demand.former.completed is not None and not self.run.fresh

    @property
    def stopped(self) -> bool:
        """Whether the user or the deadline ends running pulls."""
        return self.demand.suspended or self.demand.planning or self.overdue is not None

    @property
    def holding(self) -> bool:
        """Whether no pull starts, and running ones are cancelled."""
        return self.stopped or self.idle or self.run.started is None or self.run.fault is not None

    def needed(self, key: ImageKey) -> frozenset[str]:
        """The platforms that an image is needed for."""
        return frozenset({key.platform}) if key.platform else self.platforms

    def changes(self) -> datetime | None:
        """When the next step changes without a report."""
        if self.holding:
            return None
        found = (changes_at(each, self.rules, self.unix) for pulls in self.pulls.values() for each in pulls.values())
        return min((datetime.fromtimestamp(min(at, _LAST), UTC) for at in found if at is not None), default=None)


def snapshot(
    demand: ImageDemand,
    observed: ObservedImages,
    run: Run,
    images: ImageSet,
    pins: Mapping[ImageKey, Pin],
    now: datetime,
) -> Snapshot:
    """Choose the nodes, and find out how far they are. The run is completed, or overdue, by what comes out."""
    started = int((run.started or now).timestamp())
    rules = PullRules(run.token, started, demand.backoff_seconds, demand.retry_limit, demand.pull_timeout)
    pulls = {
        key: _counted(observed.pulls.get(pin.task, {}), observed.orders.get(pin.task, {}))
        for key, pin in pins.items()
        if pin.task
    }
    chosen = _targets(demand, observed, pulls)
    platforms = {name: observed.cluster.platform(name) for name in chosen.wanted}
    # Nodes of one platform are alike.
    alike = {each: omissions(pins.values(), each, demand.byte_budget) for each in set(platforms.values())}
    omitted = {name: alike[platform] for name, platform in platforms.items()}
    seconds = int(now.timestamp())
    steps = {
        name: {
            key: Step.LEFT_OUT if key in omitted[name] else step(pulls.get(key, {}).get(name), rules, seconds)
            for key in pins
        }
        for name in sorted(chosen.desired)
    }
    found = Snapshot(
        demand, observed, now, run, images, pins, chosen, rules, pulls, steps, omitted, frozenset(platforms.values())
    )
    if found.complete and observed.reported and not demand.planning:
        return replace(found, run=run.complete_at(now))
    if run.deadline is not None and now >= run.deadline:
        what = f"The run is not complete after {demand.deadline_seconds} s"
        return replace(found, overdue=Obstacle.of(Reason.DEADLINE_EXCEEDED, what))
    return found


def _counted(reported: Mapping[str, PullState], orders: Mapping[str, GivenOrder]) -> dict[str, PullState]:
    """The nodes' reports; a node that has not answered its order yet counts as pulling since then."""
    counted = dict(reported)
    for name, (order, at) in orders.items():
        pull = reported.get(name)
        if pull is None:
            counted[name] = PullState(PullPhase.PULLING, at, order.run, order.number)
        elif pull.phase is not PullPhase.READY and (pull.run != order.run or pull.number < order.number):
            counted[name] = msgspec.structs.replace(
                pull, phase=PullPhase.PULLING, since=at, run=order.run, number=order.number
            )
    return counted


def _targets(
    demand: ImageDemand, observed: ObservedImages, pulls: Mapping[ImageKey, Mapping[str, PullState]]
) -> Targets:
    """The nodes that get the images. A node whose peer is away does not count."""
    cluster, taint, target = observed.cluster, demand.startup_taint, demand.target
    nodes = cluster.running(demand.pod_selector)
    if not nodes and cluster.nodes:
        where = demand.metadata.namespace
        return Targets(why_none=f"No pod that runs in {where} matches spec.target.podSelector")
    if taint is not None:
        tolerations = (*target.tolerations, Toleration(taint.key, "Exists"))
        target = msgspec.structs.replace(target, tolerations=tolerations)
    holders = {name for each in pulls.values() for name, pull in each.items() if pull.phase is not PullPhase.FAILED}
    chosen = targets.choose(target, demand.metadata.uid, nodes, cluster.peers, holders)
    return replace(chosen, desired=frozenset(name for name in chosen.desired if cluster.peers[name].connected))
