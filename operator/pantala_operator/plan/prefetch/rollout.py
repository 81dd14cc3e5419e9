"""Which nodes may begin which pulls now. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pantala_operator.plan.prefetch import selector
from pantala_operator.plan.prefetch.pull import Step
from pantala_operator.resources.prefetch import ImageKey, Rollout, Share, Wave


@dataclass(frozen=True, slots=True)
class NodeWork:
    """One node, and how far each of its images is."""

    name: str
    steps: Mapping[ImageKey, Step]
    """In the order in which they are pulled."""
    labels: Mapping[str, str] = field(default_factory=dict)
    retrying: bool = False
    """Whether it pulls an image again of which the last try failed."""

    @property
    def active(self) -> int:
        """How many images it pulls."""
        return sum(step is Step.ACTIVE for step in self.steps.values())

    @property
    def begun(self) -> bool:
        """Whether any of its images was begun."""
        return any(step is not Step.WAITING for step in self.steps.values())

    @property
    def failing(self) -> bool:
        """Whether the last try that ended failed, of any of its images."""
        return self.retrying or any(step.failing for step in self.steps.values())

    @property
    def ready(self) -> bool:
        """Whether it has all images."""
        return all(step is Step.READY for step in self.steps.values())

    @property
    def settled(self) -> bool:
        """Whether each of its images is there, or has failed."""
        return all(step not in (Step.WAITING, Step.ACTIVE) for step in self.steps.values())


Starts = Mapping[str, tuple[ImageKey, ...]]
"""Pulls that begin now, by node."""


def starts(nodes: Iterable[NodeWork], rollout: Rollout, seed: str) -> Starts:
    """The pulls that may begin now, given how far ``nodes`` are; ``seed`` decides among equals."""
    known = list(nodes)
    slots = share(rollout.parallelism, len(known), up=True) - sum(node.active > 0 for node in known)
    stopped = halted(known, rollout)
    begun = [node for node in known if node.begun]
    further = [] if stopped else [node for node in _admitted(known, rollout.waves, seed) if not node.begun]
    chosen: dict[str, tuple[ImageKey, ...]] = {}
    for node in (*sorted(begun, key=lambda node: _order(seed, node)), *further):
        room = max(rollout.per_node - node.active, 0)
        picked = tuple(key for key, step in node.steps.items() if step.startable)[:room]
        if not picked or (not node.active and slots <= 0):
            continue
        slots -= not node.active
        chosen[node.name] = picked
    return chosen


def halted(nodes: Iterable[NodeWork], rollout: Rollout) -> bool:
    """Whether so many nodes are failing that no further one begins."""
    known = list(nodes)
    if rollout.max_failures is None:
        return False
    return sum(node.failing for node in known) > share(rollout.max_failures, len(known), up=False)


def held_back(nodes: Iterable[NodeWork], rollout: Rollout) -> bool:
    """Whether any node could begin and does not, as too many are failing."""
    known = list(nodes)
    could = any(step.startable for node in known if not node.begun for step in node.steps.values())
    return could and halted(known, rollout)


def share(value: Share | None, total: int, *, up: bool) -> int:
    """``value`` of ``total``: a number as it is, a percentage rounded ``up`` or down; ``None``: all."""
    if value is None:
        return total
    if isinstance(value, int):
        return value
    part = total * int(value.removesuffix("%"))
    return -(-part // 100) if up else part // 100


def waves(nodes: Iterable[NodeWork], wanted: tuple[Wave, ...], seed: str) -> list[list[NodeWork]]:
    """The nodes in the order of their waves; those that no wave takes come last."""
    left = sorted(nodes, key=lambda node: _order(seed, node))
    total = len(left)
    groups = []
    for wave in wanted:
        matching = [node for node in left if selector.has_all(wave.node_selector, node.labels)]
        group = matching[: share(wave.nodes, total, up=True)]
        taken = {node.name for node in group}
        left = [node for node in left if node.name not in taken]
        groups.append(group)
    return [*groups, left]


def _admitted(nodes: list[NodeWork], wanted: tuple[Wave, ...], seed: str) -> list[NodeWork]:
    """The nodes of the waves that have begun: each one up to the first that is not settled."""
    admitted: list[NodeWork] = []
    for wave in waves(nodes, wanted, seed):
        admitted += wave
        if not all(node.settled for node in wave):
            break
    return admitted


def _order(seed: str, node: NodeWork) -> bytes:
    return hashlib.sha256(f"{seed}/{node.name}".encode()).digest()
