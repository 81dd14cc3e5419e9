"""What nodes say and are told, between the messages' terms and the plan's. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from pantala_operator.plan.prefetch import children
from pantala_operator.plan.prefetch.children import Child
from pantala_operator.plan.prefetch.forecast import Inventory
from pantala_operator.plan.prefetch.pins import Blob, Pin, Resolution
from pantala_operator.plan.prefetch.plan import PrefetchPlan
from pantala_operator.plan.prefetch.pull import Phase, Pull
from pantala_operator.plan.prefetch.reach import Cluster
from pantala_operator.plan.prefetch.survey import Order
from pantala_operator.resources.prefetch import ImageKey
from pantala_protocol.images import Depth, ImageBlob, PullOrder, PullPhase, PullState, RuntimeState, WantedImage
from pantala_protocol.registry import Resolved
from pantala_protocol.statement import PeerReport

_PHASES = {
    PullPhase.PULLING: Phase.PULLING,
    PullPhase.READY: Phase.READY,
    PullPhase.FAILED: Phase.FAILED,
    PullPhase.GONE: Phase.GONE,
}


def pulls(reports: Mapping[str, PeerReport]) -> dict[str, dict[str, dict[str, Pull]]]:
    """How far all images are: by namespace, Task's name and node."""
    found: dict[str, dict[str, dict[str, Pull]]] = {}
    for node, report in reports.items():
        for key, state in report.pulls.items():
            namespace, _, name = key.partition("/")
            found.setdefault(namespace, {}).setdefault(name, {})[node] = _pull(state)
    return found


def inventories(reports: Mapping[str, PeerReport]) -> dict[str, Inventory]:
    """What nodes told of their runtimes."""
    return {name: _inventory(report.runtime) for name, report in reports.items() if report.runtime is not None}


def answers(runtime: RuntimeState | None, asked: frozenset[str]) -> bool:
    """Whether a node has said of each blob that was ``asked`` for whether it has it, or cannot say."""
    if runtime is None:
        return False
    return asked <= runtime.blobs.keys() or not (runtime.name or runtime.version)


def resolution(said: Resolved, platforms: Iterable[str], asked: datetime, now: datetime, failures: int) -> Resolution:
    """A registry's word that was ``asked`` for; ``failures`` in a row came before it."""
    if not said.digest:
        return Resolution(now, reason=said.reason or "InvalidAnswer", message=said.message, tries=failures + 1)
    blobs = {name: tuple(Blob(each.digest, each.size) for each in found) for name, found in said.platforms.items()}
    return Resolution(asked, said.digest, blobs, frozenset(platforms))


def wanted(
    namespace: str,
    plan: PrefetchPlan,
    existing: Iterable[Child],
    cluster: Cluster,
    credentials: Mapping[ImageKey, tuple[str, ...]],
    depth: Depth,
    *,
    pin: bool,
) -> tuple[WantedImage, ...] | None:
    """The images of a plan with orders, as they are stated; ``None``: not known yet of all, as after a restart."""
    found = []
    keys = {name: key for key, name in plan.family.names.items()}
    former = {child.name: child.image for child in existing}
    for name, orders in sorted((plan.orders or {}).items()):
        key = keys.get(name)
        image = children.pinned(plan.pins[key]) if key is not None else former.get(name)
        if not orders or image is None:
            continue
        blobs, platforms = _blobs(plan.pins.get(key) if key is not None else None, orders, cluster, depth)
        if depth is Depth.PEER and not blobs:
            return None
        found.append(
            WantedImage(
                key=f"{namespace}/{name}",
                image=image,
                depth=depth,
                pin=pin,
                credentials=credentials.get(key, ()) if key is not None else (),
                blobs=blobs,
                platforms=platforms,
                orders={
                    node: PullOrder(order.run, order.number, order.timeout) for node, order in sorted(orders.items())
                },
            )
        )
    return tuple(found)


def _blobs(
    pin: Pin | None, orders: Mapping[str, Order], cluster: Cluster, depth: Depth
) -> tuple[dict[str, tuple[ImageBlob, ...]], dict[str, str]]:
    if depth is not Depth.PEER or pin is None:
        return {}, {}
    platforms = {node: cluster.platform(node) for node in sorted(orders)}
    found = {platform: pin.blobs(platform) for platform in sorted(set(platforms.values()))}
    blobs = {
        platform: tuple(ImageBlob(blob.digest, blob.size) for blob in each)
        for platform, each in found.items()
        if each is not None
    }
    return blobs, platforms


def _pull(state: PullState) -> Pull:
    return Pull(
        phase=_PHASES[state.phase],
        since=_time(state.since),
        run=state.run,
        tries=state.number,
        fetched=state.fetched,
        reason=state.reason,
        message=state.message,
        gone=tuple(_time(each) for each in state.gone),
    )


def _inventory(runtime: RuntimeState) -> Inventory:
    there = frozenset(digest for digest, has in runtime.blobs.items() if has)
    return Inventory(runtime.disk_free, there, runtime.pins)


def _time(seconds: int) -> datetime:
    # What no calendar has does not end the planning of all others.
    return datetime.fromtimestamp(min(seconds, 1 << 37), UTC)
