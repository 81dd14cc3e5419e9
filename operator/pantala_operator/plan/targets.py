"""Which nodes get a file or an image. Pure: the same inputs give the same nodes."""

import hashlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from pantala_operator.resources.api import Node, Taint, Target, Toleration
from pantala_operator.resources.prefetch import LabelSelector

UNSCHEDULABLE = Taint("node.kubernetes.io/unschedulable", "NoSchedule")
_EXCLUDING = {"NoSchedule", "NoExecute"}
_HEALTH = {"node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"}
"""Taints that report a node's health. A file stays on the node in spite of them."""


@dataclass(frozen=True, slots=True)
class PeerState:
    """One peer, as far as the choice needs it."""

    connected: bool = False
    unschedulable: bool = False
    """An administrator allows nothing new there."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A running pod, as far as the choice needs it."""

    node: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClusterNodes:
    """The nodes of the cluster, their peers, and the pods of one namespace."""

    nodes: Mapping[str, Node] = field(default_factory=dict)
    peers: Mapping[str, PeerState] = field(default_factory=dict)
    pods: tuple[Pod, ...] = ()

    def platform(self, name: str) -> str:
        """The node's platform, from its labels."""
        labels = self.labels(name)
        return f"{labels.get('kubernetes.io/os', 'linux')}/{labels.get('kubernetes.io/arch', 'amd64')}"

    def labels(self, name: str) -> Mapping[str, str]:
        return self.nodes[name].metadata.labels if name in self.nodes else {}

    def running(self, pods: LabelSelector | None) -> Mapping[str, Node]:
        """The nodes that run at least one of these pods; without a selector all nodes."""
        if pods is None:
            return self.nodes
        names = {pod.node for pod in self.pods if pods.matches(pod.labels)}
        return {name: node for name, node in self.nodes.items() if name in names}


@dataclass(frozen=True, slots=True)
class Targets:
    """The chosen nodes."""

    wanted: tuple[str, ...] = ()
    """The nodes in the statement, sorted. An unreachable node stays in the list, so that it keeps its file."""
    desired: frozenset[str] = frozenset()
    """The nodes that count: the work is done when all of them have the file."""
    why_none: str = ""
    """Why no node is selected."""

    @property
    def unavailable(self) -> tuple[str, ...]:
        """Wanted nodes that cannot be reached."""
        return tuple(name for name in self.wanted if name not in self.desired)


def choose(
    target: Target, uid: str, nodes: Mapping[str, Node], peers: Mapping[str, PeerState], holders: Set[str]
) -> Targets:
    """Choose among ``nodes`` those that have a peer and match; ``holders`` have the file already.

    A holder keeps its file whatever its taints. A tainted node without a connected peer is wanted too, because it may
    have the file. It gets nothing new and does not count.
    """
    matching = [nodes[name] for name in sorted(nodes) if name in peers and matches(target, nodes[name])]
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


def matches(target: Target, node: Node) -> bool:
    """Whether ``target`` selects the node by name and labels."""
    labels = node.metadata.labels
    return (not target.names or node.metadata.name in target.names) and target.node_selector.items() <= labels.items()


def excluded(target: Target, node: Node) -> bool:
    """Whether a taint of the node excludes it."""
    return not all(any(_tolerates(each, taint) for each in target.tolerations) for taint in _taints(node))


def _takes_new(node: Node, target: Target, peer: PeerState) -> bool:
    return not peer.unschedulable and not excluded(target, node)


def _taints(node: Node) -> Iterable[Taint]:
    taints = [taint for taint in node.spec.taints if taint.effect in _EXCLUDING and taint.key not in _HEALTH]
    if node.spec.unschedulable and all(taint.key != UNSCHEDULABLE.key for taint in taints):
        taints.append(UNSCHEDULABLE)
    return taints


def is_ill(node: Node) -> bool:
    """Whether the cluster cannot reach the node, or the node is not ready."""
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
        return f"{_count(matching)} match spec.target, but their taints or their Peers' spec.unschedulable exclude them"
    without_peer = [node for name, node in nodes.items() if name not in peers and matches(target, node)]
    if without_peer:
        return f"{_count(without_peer)} match spec.target, but no peer runs there"
    return f"None of the cluster's {_count(list(nodes.values()))} matches spec.target"


def _count(nodes: list[Node]) -> str:
    return f"{len(nodes)} node" if len(nodes) == 1 else f"{len(nodes)} nodes"
