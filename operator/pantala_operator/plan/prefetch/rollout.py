"""Decides which pulls start now, within the limits of ``spec.rollout``. Pure."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pantala_operator.plan.prefetch.pulls import FAILING, STARTABLE, Snapshot, Starts, Step
from pantala_operator.resources.prefetch import ImageKey, Rollout, Share, Wave
from pantala_protocol.rules.selection import has_labels


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """One node, and the next step of each of its images."""

    name: str
    place: bytes
    """A hash that decides the order of nodes that are otherwise equal."""
    steps: Mapping[ImageKey, Step]
    """The next step of each image, in the order of the pulls."""
    labels: Mapping[str, str] = field(default_factory=dict)
    retrying: bool = False
    """True if the node repeats a pull that failed."""


def advance(snapshot: Snapshot) -> Snapshot:
    """Choose the pulls that start now, and count them as active.

    An image without a digest of this run, or without its Task, cannot start.
    """
    demand, observed, rollout = snapshot.demand, snapshot.observed, snapshot.demand.spec.rollout
    others = {each.name for each in observed.tasks if each.owner != demand.metadata.uid}
    taken = frozenset(pin.task for pin in snapshot.pins.values() if pin.task in others)
    blocked = {key for key, pin in snapshot.pins.items() if pin.lacking or pin.task in taken}
    nodes = [
        NodeProgress(
            name,
            hashlib.sha256(f"{demand.metadata.uid}/{name}".encode()).digest(),
            {key: step for key, step in steps.items() if key not in blocked or step not in STARTABLE},
            observed.cluster.nodes[name].metadata.labels,
            any(snapshot.pulls[key][name].retrying for key, step in steps.items() if step is Step.ACTIVE),
        )
        for name, steps in snapshot.steps.items()
    ]
    chosen: Starts = {}
    if not snapshot.run.holding and observed.reported:
        chosen = starts(nodes, rollout)
    places: dict[Step, list[tuple[str, ImageKey]]] = {step: [] for step in Step}
    steps: dict[str, dict[ImageKey, Step]] = {}
    for name, node in snapshot.steps.items():
        steps[name] = {key: Step.ACTIVE if key in chosen.get(name, ()) else step for key, step in node.items()}
        for key, step in steps[name].items():
            places[step].append((name, key))
    return replace(
        snapshot,
        steps=steps,
        starts=chosen,
        places={step: tuple(each) for step, each in places.items()},
        halted=rollout.max_failures is not None and halted(nodes, rollout) and _holds_back(nodes),
        taken=taken,
    )


def starts(nodes: Iterable[NodeProgress], rollout: Rollout) -> Starts:
    """The pulls that may start now, given how far ``nodes`` are. Nodes that have begun come first."""
    known = sorted(nodes, key=lambda node: node.place)
    active = {node.name: sum(step is Step.ACTIVE for step in node.steps.values()) for node in known}
    slots = len(known) if rollout.parallelism is None else share(rollout.parallelism, len(known), up=True)
    slots -= sum(pulls > 0 for pulls in active.values())
    begun = {node.name for node in known if any(step is not Step.WAITING for step in node.steps.values())}
    admitted = _admitted(known, rollout.waves) if rollout.waves else known
    if rollout.max_failures is not None and halted(known, rollout):
        admitted = []
    chosen: dict[str, tuple[ImageKey, ...]] = {}
    first = [node for node in known if node.name in begun]
    for node in (*first, *(node for node in admitted if node.name not in begun)):
        room = max(rollout.per_node - active[node.name], 0)
        picked = tuple(key for key, step in node.steps.items() if step in STARTABLE)[:room]
        if not picked or (not active[node.name] and slots <= 0):
            continue
        slots -= not active[node.name]
        chosen[node.name] = picked
    return chosen


def halted(nodes: Iterable[NodeProgress], rollout: Rollout) -> bool:
    """True if too many nodes are failing. A node is failing if it repeats a pull, or if its last attempt failed."""
    known = list(nodes)
    if rollout.max_failures is None:
        return False
    failing = sum(node.retrying or not FAILING.isdisjoint(node.steps.values()) for node in known)
    return failing > share(rollout.max_failures, len(known), up=False)


def share(value: Share, total: int, *, up: bool) -> int:
    """Convert a :data:`Share` to a number: a percentage of ``total`` is rounded ``up`` or down."""
    if isinstance(value, int):
        return value
    part = total * int(value.removesuffix("%"))
    return -(-part // 100) if up else part // 100


def waves(nodes: Iterable[NodeProgress], wanted: tuple[Wave, ...]) -> list[list[NodeProgress]]:
    """Divide the nodes into the wanted waves, in their order. Nodes without a wave form the last wave."""
    left = sorted(nodes, key=lambda node: node.place)
    total = len(left)
    groups = []
    for wave in wanted:
        matching = [node for node in left if has_labels(node.labels, wave.node_selector)]
        group = matching if wave.nodes is None else matching[: share(wave.nodes, total, up=True)]
        taken = {node.name for node in group}
        left = [node for node in left if node.name not in taken]
        groups.append(group)
    return [*groups, left]


def _admitted(nodes: list[NodeProgress], wanted: tuple[Wave, ...]) -> list[NodeProgress]:
    """The nodes of the waves that may start: up to the first wave with an image that is neither ready nor failed."""
    admitted: list[NodeProgress] = []
    for wave in waves(nodes, wanted):
        admitted += wave
        if any(step in (Step.WAITING, Step.ACTIVE) for node in wave for step in node.steps.values()):
            break
    return admitted


def _holds_back(nodes: Iterable[NodeProgress]) -> bool:
    """True if one of the nodes has not begun and could start."""
    return any(node.steps and all(step is Step.WAITING for step in node.steps.values()) for node in nodes)
