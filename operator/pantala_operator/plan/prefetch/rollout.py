"""Which pulls start now, within the limits of the rollout. Pure."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pantala_operator.plan.prefetch.pulls import Snapshot, Starts, Step, retries
from pantala_operator.resources.prefetch import ImageKey, Rollout, Share, Wave, has_labels


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """One node, and how far each of its images is."""

    name: str
    steps: Mapping[ImageKey, Step]
    """In the order in which they are pulled."""
    labels: Mapping[str, str] = field(default_factory=dict)
    retrying: bool = False
    """It repeats a pull that failed."""

    @property
    def active(self) -> int:
        """How many images it pulls."""
        return sum(step is Step.ACTIVE for step in self.steps.values())

    @property
    def begun(self) -> bool:
        """Whether any of its images was started."""
        return any(step is not Step.WAITING for step in self.steps.values())

    @property
    def startable(self) -> bool:
        return any(step.startable for step in self.steps.values())

    @property
    def failing(self) -> bool:
        """Whether the last finished try of any of its images failed."""
        return self.retrying or any(step.failing for step in self.steps.values())

    @property
    def settled(self) -> bool:
        """Whether each of its images is there, or has failed."""
        return all(step not in (Step.WAITING, Step.ACTIVE) for step in self.steps.values())


def advance(snapshot: Snapshot) -> Snapshot:
    """Choose the pulls that start now, and count them as active."""
    demand, nodes = snapshot.demand, _progress(snapshot)
    holds = halted(nodes, demand.rollout) and any(node.startable for node in nodes if not node.begun)
    if snapshot.holding or not snapshot.observed.reported:
        return replace(snapshot, halted=holds)
    chosen = starts(nodes, demand.rollout, demand.metadata.uid)
    steps = {
        name: {key: Step.ACTIVE if key in chosen.get(name, ()) else step for key, step in node.items()}
        for name, node in snapshot.steps.items()
    }
    return replace(snapshot, steps=steps, starts=chosen, halted=holds)


def _progress(snapshot: Snapshot) -> list[NodeProgress]:
    """The nodes. An image without a digest of this run, or without its Task, cannot start."""
    blocked = {key for key, pin in snapshot.pins.items() if snapshot.lacks(key) or pin.task in snapshot.taken}
    return [
        NodeProgress(
            name,
            {key: step for key, step in steps.items() if key not in blocked or not step.startable},
            snapshot.observed.cluster.labels(name),
            any(
                retries(snapshot.pulls[key][name], snapshot.rules)
                for key, step in steps.items()
                if step is Step.ACTIVE and name in snapshot.pulls[key]
            ),
        )
        for name, steps in snapshot.steps.items()
    ]


def starts(nodes: Iterable[NodeProgress], rollout: Rollout, seed: str) -> Starts:
    """The pulls that may start now, given how far ``nodes`` are; ``seed`` decides among equals."""
    known = list(nodes)
    slots = share(rollout.parallelism, len(known), up=True) - sum(node.active > 0 for node in known)
    begun = [node for node in known if node.begun]
    fresh = [node for node in _admitted(known, rollout.waves, seed) if not node.begun]
    chosen: dict[str, tuple[ImageKey, ...]] = {}
    for node in (*sorted(begun, key=lambda node: _order(seed, node)), *([] if halted(known, rollout) else fresh)):
        room = max(rollout.per_node - node.active, 0)
        picked = tuple(key for key, step in node.steps.items() if step.startable)[:room]
        if not picked or (not node.active and slots <= 0):
            continue
        slots -= not node.active
        chosen[node.name] = picked
    return chosen


def halted(nodes: Iterable[NodeProgress], rollout: Rollout) -> bool:
    """Whether so many nodes are failing that no further node starts."""
    known = list(nodes)
    if rollout.max_failures is None:
        return False
    return sum(node.failing for node in known) > share(rollout.max_failures, len(known), up=False)


def share(value: Share | None, total: int, *, up: bool) -> int:
    """``value`` of ``total``: a number as it is, a percentage rounded ``up`` or down; ``None``: all."""
    if value is None:
        return total
    if isinstance(value, int):
        return value
    part = total * int(value.removesuffix("%"))
    return -(-part // 100) if up else part // 100


def waves(nodes: Iterable[NodeProgress], wanted: tuple[Wave, ...], seed: str) -> list[list[NodeProgress]]:
    """The nodes in the order of their waves; nodes of no wave come last."""
    left = sorted(nodes, key=lambda node: _order(seed, node))
    total = len(left)
    groups = []
    for wave in wanted:
        matching = [node for node in left if has_labels(node.labels, wave.node_selector)]
        group = matching[: share(wave.nodes, total, up=True)]
        taken = {node.name for node in group}
        left = [node for node in left if node.name not in taken]
        groups.append(group)
    return [*groups, left]


def _admitted(nodes: list[NodeProgress], wanted: tuple[Wave, ...], seed: str) -> list[NodeProgress]:
    """The nodes of the started waves: all waves up to the first that is not settled."""
    admitted: list[NodeProgress] = []
    for wave in waves(nodes, wanted, seed):
        admitted += wave
        if not all(node.settled for node in wave):
            break
    return admitted


def _order(seed: str, node: NodeProgress) -> bytes:
    return hashlib.sha256(f"{seed}/{node.name}".encode()).digest()
