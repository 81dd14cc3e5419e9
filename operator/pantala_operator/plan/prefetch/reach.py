"""Which nodes an ImagePrefetch reaches, and why not the others. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace

from pantala_operator.plan.prefetch import selector
from pantala_operator.plan.prefetch.reasons import ImageReason
from pantala_operator.plan.target import PeerState, Targets, choose
from pantala_operator.resources.api import Node, Toleration
from pantala_operator.resources.prefetch import ImagePrefetch, PrefetchTarget, PullFailure

_ANY_TAINT = Toleration(operator="Exists")


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod that runs, as far as the choice needs it."""

    node: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where the choice is made."""

    nodes: Mapping[str, Node] = field(default_factory=dict)
    peers: Mapping[str, PeerState] = field(default_factory=dict)
    pods: tuple[Pod, ...] = ()
    """Of the ImagePrefetch's namespace."""

    def platform(self, name: str) -> str:
        """The node's platform, as its labels tell it."""
        labels = self.nodes[name].metadata.labels if name in self.nodes else {}
        return f"{labels.get('kubernetes.io/os', 'linux')}/{labels.get('kubernetes.io/arch', 'amd64')}"

    def labels(self, name: str) -> Mapping[str, str]:
        """The node's labels."""
        return self.nodes[name].metadata.labels if name in self.nodes else {}


def reach(prefetch: ImagePrefetch, cluster: Cluster, holders: Set[str]) -> Targets:
    """The nodes that get the images; ``holders`` have some already. Those whose peer is away do not count."""
    spec, nodes = prefetch.spec, _eligible(prefetch.spec.target, cluster)
    if not nodes and cluster.nodes:
        return Targets(why_none=f"No pod that runs in {prefetch.metadata.namespace} matches spec.target.podSelector")
    startup = spec.startup_taint
    tolerated = () if startup is None else (Toleration(startup.key, "Exists"),)
    chosen = choose(spec.target.nodes(*tolerated), prefetch.metadata.uid, nodes, cluster.peers, holders)
    return replace(chosen, desired=frozenset(name for name in chosen.desired if cluster.peers[name].connected))


def unavailable(targets: Targets) -> tuple[str, ...]:
    """Nodes that shall have the images and cannot be reached."""
    return tuple(name for name in targets.wanted if name not in targets.desired)


def left_out(target: PrefetchTarget, cluster: Cluster, targets: Targets) -> Iterator[PullFailure]:
    """The nodes that ``target`` selects and that get nothing, with why."""
    for name in unavailable(targets):
        yield PullFailure(name, ImageReason.NODE_UNAVAILABLE, message="The node or its peer cannot be reached")
    selected = _eligible(target, cluster)
    for name in sorted(_selected(target, selected.values()) - set(targets.wanted)):
        peer = cluster.peers.get(name)
        if peer is None:
            yield PullFailure(name, "NoPeer", message="No peer runs there; check the peers' DaemonSet")
        elif peer.unschedulable:
            yield PullFailure(name, "PeerUnschedulable", message="Its Peer's spec.unschedulable is set")
        elif _tainted(target, name, cluster):
            yield PullFailure(name, "Tainted", message="A taint keeps it off; add it to spec.target.tolerations")
        else:
            yield PullFailure(name, "NotChosen", message="spec.target.count or percentage takes others")


def _eligible(target: PrefetchTarget, cluster: Cluster) -> Mapping[str, Node]:
    """The nodes that run one of the wanted pods; without a wish for pods, all."""
    if target.pod_selector is None:
        return cluster.nodes
    running = {pod.node for pod in cluster.pods if selector.matches(target.pod_selector, pod.labels)}
    return {name: node for name, node in cluster.nodes.items() if name in running}


def _selected(target: PrefetchTarget, nodes: Iterable[Node]) -> set[str]:
    return {
        node.metadata.name
        for node in nodes
        if (not target.names or node.metadata.name in target.names)
        and selector.has_all(target.node_selector, node.metadata.labels)
    }


def _tainted(target: PrefetchTarget, name: str, cluster: Cluster) -> bool:
    """Whether the node would be chosen on its own if no taint counted, and is not with its taints."""
    alone, peers = {name: cluster.nodes[name]}, {name: PeerState(connected=True)}
    free = PrefetchTarget(node_selector=target.node_selector, names=target.names)
    own = PrefetchTarget(node_selector=target.node_selector, names=target.names, tolerations=target.tolerations)
    with_taints = choose(own.nodes(), "", alone, peers, frozenset()).wanted
    return not with_taints and bool(choose(free.nodes(_ANY_TAINT), "", alone, peers, frozenset()).wanted)
