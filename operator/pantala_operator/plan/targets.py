"""Chooses the nodes that get a file or an image. Pure: the same inputs give the same nodes."""

import hashlib
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum

from pantala_operator.resources.api import Node, Target
from pantala_protocol.rules.selection import HEALTH, excluding, has_labels


@dataclass(frozen=True, slots=True)
class PeerState:
    """The facts about a peer that the choice of nodes uses."""

    connected: bool = False
    unschedulable: bool = False
    """True if an administrator allows no new tasks on the peer."""


@dataclass(frozen=True, slots=True)
class Pod:
    """The facts about a running pod that the choice of nodes uses."""

    node: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClusterNodes:
    """The nodes of the cluster, their peers, and the pods of one namespace."""

    nodes: Mapping[str, Node] = field(default_factory=dict)
    peers: Mapping[str, PeerState] = field(default_factory=dict)
    pods: tuple[Pod, ...] | None = ()
    """``None``: the operator may not list pods."""


class PassedOver(StrEnum):
    """Why a node gets nothing although the target selects it by name and labels."""

    NO_PEER = "NoPeer"
    PEER_UNSCHEDULABLE = "PeerUnschedulable"
    TAINTED = "Tainted"
    NOT_CHOSEN = "NotChosen"


@dataclass(frozen=True, slots=True)
class Targets:
    """The chosen nodes."""

    wanted: tuple[str, ...] = ()
    """The nodes in the statement, sorted. An unreachable node stays in the list, so that it keeps its file."""
    desired: frozenset[str] = frozenset()
    """The nodes that count. The work is done when all of them have the file."""
    why_none: str = ""
    """Why no node is selected. Empty if a node is selected."""
    passed_over: Mapping[str, PassedOver] = field(default_factory=dict)
    """The nodes that match, but get nothing, each with the reason."""


def choose(
    target: Target, uid: str, nodes: Mapping[str, Node], peers: Mapping[str, PeerState], holders: Set[str]
) -> Targets:
    """Choose the ``nodes`` that have a peer and match. ``holders`` already have the file.

    A holder keeps its file, with any taint. A tainted node without a connected peer is wanted too, because it may
    have the file. It gets nothing new and does not count.
    """
    matching: dict[str, PassedOver] = {}
    candidates: list[str] = []
    counting: set[str] = set()
    for name, node in sorted(nodes.items()):
        peer, marked = peers.get(name), node.spec.taints or node.spec.unschedulable
        if (target.names and name not in target.names) or not has_labels(node.metadata.labels, target.node_selector):
            continue
        if peer is None:
            matching[name] = PassedOver.NO_PEER
            continue
        if peer.unschedulable:
            matching[name] = PassedOver.PEER_UNSCHEDULABLE
        elif marked and excluding(node.spec.taints, target.tolerations, cordoned=node.spec.unschedulable):
            matching[name] = PassedOver.TAINTED
        else:
            matching[name] = PassedOver.NOT_CHOSEN
        takes_new = matching[name] is PassedOver.NOT_CHOSEN
        if name in holders or takes_new or not peer.connected:
            candidates.append(name)
        if name in holders or (takes_new and not (marked and is_ill(node))):
            counting.add(name)
    chosen = candidates
    if target.is_limited:
        chosen = _limited(target, uid, candidates, holders, counting)
    why_none = "" if chosen else _why_none(len(nodes), matching)
    wanted = frozenset(chosen)
    passed_over = {name: why for name, why in matching.items() if name not in wanted}
    return Targets(tuple(chosen), wanted & counting, why_none, passed_over)


def marked(nodes: Mapping[str, Node], peers: Mapping[str, PeerState]) -> frozenset[str]:
    """The nodes that may get no new file. For a target without a limit, only holders among them matter."""
    return frozenset(
        name
        for name, node in nodes.items()
        if node.spec.taints or node.spec.unschedulable or (name in peers and peers[name].unschedulable)
    )


def is_ill(node: Node) -> bool:
    """True if the cluster cannot reach the node, or the node is not ready."""
    return any(taint.key in HEALTH for taint in node.spec.taints)


def _limited(target: Target, uid: str, candidates: list[str], holders: Set[str], counting: Set[str]) -> list[str]:
    """Choose the wanted number of nodes. Nodes with the file are first, then nodes that count."""

    def preference(name: str) -> tuple[bool, bool, bytes]:
        return name not in holders, name not in counting, hashlib.sha256(f"{uid}/{name}".encode()).digest()

    percentage = target.percentage or 0
    limit = target.count if target.count is not None else -(-len(candidates) * percentage // 100)
    return sorted(sorted(candidates, key=preference)[:limit])


def _why_none(known: int, matching: Mapping[str, PassedOver]) -> str:
    with_peer = sum(why is not PassedOver.NO_PEER for why in matching.values())
    if with_peer:
        return (
            f"{_count(with_peer)} match spec.target, but their taints or their Peers' spec.unschedulable exclude them"
        )
    if matching:
        return f"{_count(len(matching))} match spec.target, but no peer runs there"
    return f"None of the cluster's {_count(known)} matches spec.target"


def _count(nodes: int) -> str:
    return "1 node" if nodes == 1 else f"{nodes} nodes"
