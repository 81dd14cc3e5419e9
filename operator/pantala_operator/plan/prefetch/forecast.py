"""The report of mode ``Plan``: what nodes would fetch, without the layers that are shared or there already. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pantala_operator.plan import targets
from pantala_operator.plan.prefetch import counts
from pantala_operator.plan.prefetch.pins import Pin
from pantala_operator.plan.prefetch.pulls import Snapshot, Step
from pantala_operator.resources.prefetch import Forecast, ImageKey, NodeForecast, PullFailure
from pantala_protocol.images import RuntimeState
from pantala_protocol.reasons import Reason

LISTED: Final = 50
"""Nodes that a status lists at most."""
_UNPACKED: Final = 2.5
"""Bytes on disk of an unpacked layer for each byte of the registry's; compressed layers stay beside them."""


@dataclass(frozen=True, slots=True)
class NodeImages:
    """One node, and how far its images are."""

    node: str
    platform: str
    steps: Mapping[ImageKey, Step]
    runtime: RuntimeState = field(default_factory=RuntimeState)


def report(snapshot: Snapshot) -> Forecast:
    """The report for the nodes of a snapshot."""
    cluster = snapshot.observed.cluster
    nodes = (
        NodeImages(name, cluster.platform(name), steps, snapshot.observed.runtimes.get(name, RuntimeState()))
        for name, steps in snapshot.steps.items()
    )
    return forecast(nodes, snapshot.pins, _left_out(snapshot))


def forecast(nodes: Iterable[NodeImages], pins: Mapping[ImageKey, Pin], left_out: Iterable[PullFailure]) -> Forecast:
    listed, registry = [], dict[str, int]()
    for each in nodes:
        missing = _missing(each, pins)
        registry |= missing
        listed.append(_node(each, _images(each, pins, missing), sum(missing.values())))
    listed.sort(key=lambda each: (-each.size, each.node))
    others = sorted(left_out, key=lambda each: (each.node, each.image))
    busy = [each for each in listed if each.images]
    return Forecast(
        size=sum(each.size for each in listed),
        registry_bytes=sum(registry.values()),
        nodes=tuple(busy[:LISTED]),
        left_out=tuple(others[:LISTED]),
        nodes_total=len(busy),
        left_out_total=len(others),
    )


def _missing(node: NodeImages, pins: Mapping[ImageKey, Pin]) -> dict[str, int]:
    """The blobs that a node would fetch: it has them neither alone nor in an image."""
    there = {digest for digest, has in node.runtime.blobs.items() if has}
    wanted: dict[str, int] = {}
    for key, step in node.steps.items():
        blobs = pins[key].blobs(node.platform) or ()
        if step is Step.READY:
            there.update(blob.digest for blob in blobs)
        elif step is not Step.LEFT_OUT:
            wanted |= {blob.digest: blob.size for blob in blobs}
    return {digest: length for digest, length in wanted.items() if digest not in there}


def _images(node: NodeImages, pins: Mapping[ImageKey, Pin], missing: Mapping[str, int]) -> int:
    """How many images a node lacks: a blob is missing, or the blobs are not known."""
    wanted = (key for key, step in node.steps.items() if step not in (Step.READY, Step.LEFT_OUT))
    known = (pins[key].blobs(node.platform) for key in wanted)
    return sum(blobs is None or any(blob.digest in missing for blob in blobs) for blobs in known)


def _node(node: NodeImages, images: int, fetched: int) -> NodeForecast:
    free = node.runtime.disk_free
    after = None if free is None else free - fetched - int(fetched * _UNPACKED)
    return NodeForecast(node.node, fetched, images, free, after)


def _left_out(snapshot: Snapshot) -> Iterator[PullFailure]:
    """The nodes that the target selects and that get nothing, or not every image; with the reason."""
    demand, cluster, chosen = snapshot.demand, snapshot.observed.cluster, snapshot.targets
    for name in chosen.unavailable:
        yield PullFailure(name, Reason.NODE_UNAVAILABLE, message="The node or its peer cannot be reached; check both")
    for name, node in sorted(cluster.running(demand.pod_selector).items()):
        if name in chosen.wanted or not targets.matches(demand.target, node):
            continue
        peer = cluster.peers.get(name)
        if peer is None:
            yield PullFailure(name, "NoPeer", message="The node has no peer; check the peers' DaemonSet")
        elif peer.unschedulable:
            yield PullFailure(name, "PeerUnschedulable", message="The node's Peer has spec.unschedulable set; unset it")
        elif targets.excluded(demand.target, node):
            yield PullFailure(name, "Tainted", message="A taint excludes the node; add it to spec.target.tolerations")
        else:
            yield PullFailure(name, "NotChosen", message="count or percentage of spec.target chooses other nodes")
    for name, omitted in snapshot.omitted.items():
        for key, reason in omitted.items():
            yield counts.failure(name, key, reason.value, counts.LEFT_OUT)
