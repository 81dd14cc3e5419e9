"""What is known of an ImagePrefetch at one moment: its images, digests, nodes, and how far each pull is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from pantala_operator.plan.headers import SecretReading
from pantala_operator.plan.prefetch import children, images, pins, reach
from pantala_operator.plan.prefetch.children import Child
from pantala_operator.plan.prefetch.forecast import Inventory, omissions, quantity
from pantala_operator.plan.prefetch.images import ImageSet, Surroundings
from pantala_operator.plan.prefetch.pins import Pin, Resolution
from pantala_operator.plan.prefetch.pull import ONCE_LIMIT, Phase, Policy, Pull, Step, step
from pantala_operator.plan.prefetch.reach import Cluster
from pantala_operator.plan.prefetch.reasons import ImageReason
from pantala_operator.plan.prefetch.run import Run
from pantala_operator.plan.problem import Problem
from pantala_operator.plan.target import Targets
from pantala_operator.resources.prefetch import ImageKey, ImagePrefetch


@dataclass(frozen=True, slots=True)
class Order:
    """What a node shall do about one image: the pull of this number in this run, once; then keep it."""

    run: str
    number: int
    at: datetime
    """When it was given."""
    timeout: int = 600
    """Seconds that the pull may take."""


Pulls = Mapping[str, Mapping[str, Pull]]
"""What nodes reported, by the Task's name and the node's."""
Orders = Mapping[str, Mapping[str, Order]]
"""What nodes shall do, by the Task's name and the node's."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known beside the ImagePrefetch itself."""

    cluster: Cluster = field(default_factory=Cluster)
    around: Surroundings = field(default_factory=Surroundings)
    secrets: Mapping[str, SecretReading] = field(default_factory=dict)
    """The Secrets of its namespace that were read, by name."""
    resolutions: Mapping[ImageKey, Resolution] = field(default_factory=dict)
    children: tuple[Child, ...] = ()
    """The Tasks of its namespace that it owns, or that have a name it wants."""
    pulls: Pulls = field(default_factory=dict)
    """What nodes say; of those that have not spoken to a supernode that started anew, what they said before."""
    orders: Orders = field(default_factory=dict)
    """The orders of the plan before, if this process made one."""
    inventories: Mapping[str, Inventory] = field(default_factory=dict)
    unsurveyed: frozenset[str] = frozenset()
    """Nodes that were asked which blobs they have, and will answer soon: mode ``Plan`` waits for them."""
    heard: bool = False
    """Whether the supernodes have said all that they know of the pulls."""
    prompt: bool = False
    """Whether an end of pulls need not wait for ``heard``: nothing is forgotten by it that nodes have and shall keep,
    but for nodes that are silent while an operator that just started finds an edit."""
    away: str = ""
    """Why a supernode cannot be asked; empty: all can."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The state of everything, drawn from the resource and what was observed."""

    run: Run
    images: ImageSet
    pins: Mapping[ImageKey, Pin]
    tasks: Mapping[ImageKey, str]
    """The name of each pinned image's Task."""
    targets: Targets
    policy: Policy
    pulls: Mapping[ImageKey, Mapping[str, Pull]]
    """As they count: a node that was told to pull and has not said anything yet is pulling."""
    steps: Mapping[str, Mapping[ImageKey, Step]]
    """Of the nodes that can be reached."""
    omitted: Mapping[str, Mapping[ImageKey, ImageReason]]
    """The images that these nodes do not get, with why."""
    platforms: frozenset[str]
    """Of the wanted nodes."""
    itemized: bool = False
    """Whether an image is of use only with its blobs known: for a plan, and where the peer fetches them itself."""

    def lacks(self, key: ImageKey) -> bool:
        """Whether no node can begin with an image: what it is, or what it is made of, is not known in this run."""
        pin = self.pins[key]
        return not pin.current or (self.itemized and pin.platforms is None)

    @property
    def unresolved(self) -> Mapping[ImageKey, Problem]:
        """Why images cannot be begun with. A later look that fails takes nothing from those that can."""
        return {key: pin.problem for key, pin in self.pins.items() if pin.problem is not None and self.lacks(key)}

    @property
    def everywhere(self) -> frozenset[ImageKey]:
        """The images of this run that all nodes have."""
        return frozenset(
            key
            for key, pin in self.pins.items()
            if pin.current and self.steps and all(node[key] is Step.READY for node in self.steps.values())
        )

    @property
    def complete(self) -> bool:
        """Whether every node has every image, and nothing that is wanted could not be read."""
        return bool(self.pins) and not self.images.problems and len(self.everywhere) == len(self.pins)

    @property
    def ready(self) -> frozenset[str]:
        """The nodes that have every image of this run."""
        return frozenset(
            name
            for name, node in self.steps.items()
            if node and all(step is Step.READY and self.pins[key].current for key, step in node.items())
        )

    def at(self, *wanted: Step) -> tuple[tuple[str, ImageKey], ...]:
        """The nodes and images that are at one of these steps."""
        return tuple((name, key) for name, node in self.steps.items() for key, each in node.items() if each in wanted)


def survey(prefetch: ImagePrefetch, observed: Observed, run: Run, now: datetime) -> Survey:
    """Draw the state of ``prefetch`` in ``run``."""
    wanted = images.gather(prefetch.spec, prefetch.metadata.namespace, observed.around)
    pinned = _pins(prefetch, observed, run, wanted)
    tasks = {key: children.name(prefetch, pin) for key, pin in pinned.items() if pin.digest}
    policy = _policy(prefetch, run, now)
    pulls = {key: _pulls(observed.pulls.get(name, {}), observed.orders.get(name, {})) for key, name in tasks.items()}
    holders = {name for each in pulls.values() for name, pull in each.items() if pull.phase is not Phase.FAILED}
    targets = reach.reach(prefetch, observed.cluster, holders)
    platforms = {name: observed.cluster.platform(name) for name in targets.wanted}
    omitted = _omitted(prefetch, pinned, platforms)
    steps = {
        name: {
            key: Step.LEFT_OUT if key in omitted[name] else step(pulls.get(key, {}).get(name), policy, now)
            for key in pinned
        }
        for name in sorted(targets.desired)
    }
    return Survey(
        run=run,
        images=wanted,
        pins=pinned,
        tasks=tasks,
        targets=targets,
        policy=policy,
        pulls=pulls,
        steps=steps,
        omitted=omitted,
        platforms=frozenset(platforms.values()),
        itemized=prefetch.spec.itemized,
    )


def _pins(prefetch: ImagePrefetch, observed: Observed, run: Run, wanted: ImageSet) -> dict[ImageKey, Pin]:
    former = {each.key: each for each in prefetch.status.images}
    follow = prefetch.spec.follows
    return {
        key: pins.pin(key, former.get(key), observed.resolutions.get(key), run, follow=follow) for key in wanted.keys
    }


def _policy(prefetch: ImagePrefetch, run: Run, now: datetime) -> Policy:
    spec = prefetch.spec
    limit = spec.retry.limit
    if limit is None and not spec.continuous:
        limit = ONCE_LIMIT
    return Policy(run.token, run.started or now, spec.retry, limit, spec.timeout_seconds_per_node)


def _pulls(reported: Mapping[str, Pull], orders: Mapping[str, Order]) -> dict[str, Pull]:
    """What nodes reported; one that has an order and has not answered it counts as pulling since then."""
    counted = dict(reported)
    for name, order in orders.items():
        pull = reported.get(name)
        if pull is None:
            counted[name] = Pull(Phase.PULLING, order.at, order.run, order.number)
        elif pull.phase is not Phase.READY and (pull.run != order.run or pull.tries < order.number):
            counted[name] = replace(pull, phase=Phase.PULLING, since=order.at, run=order.run, tries=order.number)
    return counted


def _omitted(
    prefetch: ImagePrefetch, pinned: Mapping[ImageKey, Pin], platforms: Mapping[str, str]
) -> dict[str, Mapping[ImageKey, ImageReason]]:
    """For each wanted node the images that it does not get; nodes of one platform are alike."""
    text = prefetch.spec.retention.byte_budget
    budget = quantity(text) if text else None
    alike = {platform: omissions(pinned.values(), platform, budget) for platform in set(platforms.values())}
    return {name: alike[platform] for name, platform in platforms.items()}
