"""Which nodes shall have a file. Pure: the same inputs give the same nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from pantala_operator.resources.api import Node, Taint, Target, Toleration

UNSCHEDULABLE = Taint("node.kubernetes.io/unschedulable", "NoSchedule")
_KEEPING_AWAY = {"NoSchedule", "NoExecute"}
_HEALTH = {"node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"}
"""Taints that speak of a node's health, not of anybody's wish: they do not part a node from its file."""


@dataclass(frozen=True, slots=True)
class PeerState:
    """One peer, as far as the choice needs it."""

    connected: bool = False
    unschedulable: bool = False
    """An administrator wants nothing new there."""


@dataclass(frozen=True, slots=True)
class Targets:
    """The choice."""

    wanted: tuple[str, ...] = ()
    """Stated to the supernode, sorted. A node that is away stays here, so that its file is not dropped."""
    desired: frozenset[str] = frozenset()
    """Those that count: the Task is done when all of them have the file."""
    why_none: str = ""
    """What kept all nodes out, when none is wanted."""


def choose(
    target: Target, uid: str, nodes: Mapping[str, Node], peers: Mapping[str, PeerState], holders: Set[str]
) -> Targets:
    """Choose among ``nodes`` those that have a peer and match; ``holders`` have the file already.

    A holder keeps its file whatever its taints. So does a tainted node whose peer is not connected: what it has is
    not known, nothing new can be given to it, and it does not count.
    """
    matching = [nodes[name] for name in sorted(nodes) if name in peers and _matches(target, nodes[name])]
    open_to_new = {node.metadata.name for node in matching if _takes_new(node, target, peers[node.metadata.name])}
    healthy = {node.metadata.name for node in matching if not is_ill(node)}
    candidates = [
        name
        for name in (node.metadata.name for node in matching)
        if name in holders or name in open_to_new or not peers[name].connected
    ]
    counting = {name for name in candidates if name in holders or (name in open_to_new and name in healthy)}
    chosen = candidates
    limit = _limit(target, len(candidates))
    if limit is not None:
        chosen = sorted(candidates, key=lambda name: _preference(uid, name, holders, counting))[:limit]
    if not chosen:
        return Targets(why_none=_why_none(target, nodes, peers, matching))
    return Targets(tuple(sorted(chosen)), frozenset(chosen) & counting)


def _matches(target: Target, node: Node) -> bool:
    labels = node.metadata.labels
    return (not target.names or node.metadata.name in target.names) and all(
        labels.get(key) == value for key, value in target.node_selector.items()
    )


def _takes_new(node: Node, target: Target, peer: PeerState) -> bool:
    return not peer.unschedulable and all(
        any(_tolerates(toleration, taint) for toleration in target.tolerations) for taint in _taints(node)
    )


def _taints(node: Node) -> Iterable[Taint]:
    taints = [taint for taint in node.spec.taints if taint.effect in _KEEPING_AWAY and taint.key not in _HEALTH]
    if node.spec.unschedulable and all(taint.key != UNSCHEDULABLE.key for taint in taints):
        taints.append(UNSCHEDULABLE)
    return taints


def is_ill(node: Node) -> bool:
    """Whether the node itself is away."""
    return any(taint.key in _HEALTH for taint in node.spec.taints)


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.operator == "Exists":
        return not toleration.key or toleration.key == taint.key
    return toleration.key == taint.key and toleration.value == taint.value


def _limit(target: Target, candidates: int) -> int | None:
    if target.count is not None:
        return target.count
    if target.percentage is not None:
        return -(-candidates * target.percentage // 100)
    return None


def _preference(uid: str, name: str, holders: Set[str], counting: Set[str]) -> tuple[bool, bool, bytes]:
    weight = hashlib.sha256(f"{uid}/{name}".encode()).digest()
    return name not in holders, name not in counting, weight


def _why_none(target: Target, nodes: Mapping[str, Node], peers: Mapping[str, PeerState], matching: list[Node]) -> str:
    if matching:
        return f"{_count(matching)} match spec.target, but taints or their Peers' spec.unschedulable keep the file away"
    without_peer = [node for name, node in nodes.items() if name not in peers and _matches(target, node)]
    if without_peer:
        return f"{_count(without_peer)} match spec.target, but no peer runs there"
    return f"None of the cluster's {_count(list(nodes.values()))} matches spec.target"


def _count(nodes: list[Node]) -> str:
    return f"{len(nodes)} node" if len(nodes) == 1 else f"{len(nodes)} nodes"
