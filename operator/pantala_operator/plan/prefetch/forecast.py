"""Makes the report of mode ``Plan``: the layers that each node would fetch, each once. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pantala_operator.plan.prefetch.counts import LEFT_OUT
from pantala_operator.plan.prefetch.pins import Pin
from pantala_operator.plan.prefetch.pulls import Snapshot, Step
from pantala_operator.plan.targets import PassedOver
from pantala_operator.resources.prefetch import Forecast, ImageKey, NodeForecast, PullFailure
from pantala_operator.resources.status import advised
from pantala_protocol import reasons
from pantala_protocol.images import RuntimeState
from pantala_protocol.reasons import Reason

LISTED: Final = 50
"""The most nodes that a status lists."""
_UNPACKED: Final = 2.5
"""The size of an unpacked layer, relative to the compressed layer. The compressed layer also stays on the disk."""


@dataclass(frozen=True, slots=True)
class NodeImages:
    """One node, and the state of each image on it."""

    node: str
    platform: str
    steps: Mapping[ImageKey, Step]
    runtime: RuntimeState = field(default_factory=RuntimeState)


_WHY: Final = {
    PassedOver.NO_PEER: "The node has no peer. Check the peers' DaemonSet.",
    PassedOver.PEER_UNSCHEDULABLE: "The node's Peer has spec.unschedulable set. Set it to false.",
    PassedOver.TAINTED: "A taint excludes the node. Add the taint to spec.target.tolerations.",
    PassedOver.NOT_CHOSEN: "The field count or percentage of spec.target limits the nodes. Raise it.",
}


def report(snapshot: Snapshot) -> Forecast:
    nodes = (
        NodeImages(name, snapshot.platforms[name], steps, snapshot.observed.runtimes.get(name, RuntimeState()))
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
    """The blobs that a node would fetch, with their sizes: neither its runtime nor one of its images has them."""
    there = {digest for digest, has in node.runtime.blobs.items() if has}
    wanted: dict[str, int] = {}
    for key, step in node.steps.items():
        blobs = (pins[key].platforms or {}).get(key.platform or node.platform, ())
        if step is Step.READY:
            there.update(blob.digest for blob in blobs)
        elif step is not Step.LEFT_OUT:
            wanted |= {blob.digest: blob.size for blob in blobs}
    return {digest: length for digest, length in wanted.items() if digest not in there}


def _images(node: NodeImages, pins: Mapping[ImageKey, Pin], missing: Mapping[str, int]) -> int:
    """The number of images that a node does not have completely, or whose blobs are not known."""
    wanted = (key for key, step in node.steps.items() if step not in (Step.READY, Step.LEFT_OUT))
    known = ((pins[key].platforms or {}).get(key.platform or node.platform) for key in wanted)
    return sum(blobs is None or any(blob.digest in missing for blob in blobs) for blobs in known)


def _node(node: NodeImages, images: int, fetched: int) -> NodeForecast:
    free = node.runtime.disk_free
    after = None if free is None else free - fetched - int(fetched * _UNPACKED)
    return NodeForecast(node.node, fetched, images, free, after)


def _left_out(snapshot: Snapshot) -> Iterator[PullFailure]:
    """Yield the selected nodes that get no image, or not every image, each with the reason."""
    for name in snapshot.unavailable:
        yield PullFailure(name, Reason.NODE_UNAVAILABLE, message="The node or its peer cannot be reached. Check both.")
    for name, why in snapshot.targets.passed_over.items():
        yield PullFailure(name, why.value, message=_WHY[why])
    for name, omitted in snapshot.omitted.items():
        for key, reason in omitted.items():
            yield PullFailure(name, reason, key.reference, advised(LEFT_OUT, reasons.of_image(reason)))
