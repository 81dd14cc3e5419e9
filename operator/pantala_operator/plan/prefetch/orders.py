"""The nodes' orders for each image, and the images as they are stated to the supernodes. Pure.

A node carries out an order once, so an order stays the same until the next try. An order that is left out ends a pull.
"""

from dataclasses import dataclass

from pantala_operator.plan.prefetch.inputs import GivenOrder, Orders
from pantala_operator.plan.prefetch.pulls import Snapshot
from pantala_operator.resources.prefetch import ImageKey
from pantala_protocol.images import Depth, PullOrder, PullPhase, PullState, WantedImage


@dataclass(frozen=True, slots=True)
class OrderPlan:
    """What the nodes must do."""

    orders: Orders | None = None
    """All orders; ``None``: too little is known, so the orders given before stay."""
    images: tuple[WantedImage, ...] | None = None
    """The orders as they are stated; ``None``: too little is known."""


def give(snapshot: Snapshot) -> OrderPlan:
    """The orders of pulls that start, of pulls that run, and of images that are kept.

    The operator may cancel pulls before the pulling nodes have reported.
    """
    observed = snapshot.observed
    if not (observed.reported or (snapshot.stopped and observed.may_cancel)):
        return OrderPlan()
    orders: dict[str, dict[str, GivenOrder]] = {}
    for key, pin in snapshot.pins.items():
        if pin.task:
            found = ((name, _order(snapshot, key, name)) for name in snapshot.targets.wanted)
            orders[pin.task] = {name: order for name, order in found if order is not None}
    for task in observed.tasks:
        if task.owner == snapshot.demand.metadata.uid and task.name not in orders:
            orders[task.name] = _kept(snapshot, task.name)
    return OrderPlan(orders, _stated(snapshot, orders))


def _order(snapshot: Snapshot, key: ImageKey, name: str) -> GivenOrder | None:
    pull, run = snapshot.pulls[key].get(name), snapshot.rules.run
    if key in snapshot.starts.get(name, ()):
        number = pull.number + 1 if pull is not None and pull.run == run else 1
        return GivenOrder(PullOrder(run, number, snapshot.rules.timeout), snapshot.unix)
    if pull is None or key in snapshot.omitted.get(name, ()):
        return None
    if snapshot.holding and pull.phase is not PullPhase.READY:
        return None
    former = snapshot.observed.orders.get(snapshot.pins[key].task, {}).get(name)
    if former is not None and (former.order.run, former.order.number) == (pull.run, pull.number):
        return former
    return _same(snapshot, pull)


def _kept(snapshot: Snapshot, task: str) -> dict[str, GivenOrder]:
    """Nodes with the image of a former digest keep it until its Task is deleted."""
    pulls = sorted(snapshot.observed.pulls.get(task, {}).items())
    return {name: _same(snapshot, pull) for name, pull in pulls if pull.phase is PullPhase.READY}


def _same(snapshot: Snapshot, pull: PullState) -> GivenOrder:
    return GivenOrder(PullOrder(pull.run, pull.number, snapshot.rules.timeout), pull.since)


def _stated(snapshot: Snapshot, orders: Orders) -> tuple[WantedImage, ...] | None:
    """The images with orders; ``None``: their blobs are not known yet, as after a restart."""
    demand, found = snapshot.demand, []
    pins = {pin.task: pin for pin in snapshot.pins.values() if pin.task}
    former = {task.name: task.image for task in snapshot.observed.tasks if task.owner == demand.metadata.uid}
    for name, given in sorted(orders.items()):
        pin = pins.get(name)
        image = pin.reference if pin is not None else former.get(name)
        if not given or image is None:
            continue
        platforms, blobs = {}, {}
        if demand.depth is Depth.PEER and pin is not None:
            platforms = {node: snapshot.observed.cluster.platform(node) for node in sorted(given)}
            made = {each: pin.blobs(each) for each in sorted(set(platforms.values()))}
            blobs = {platform: each for platform, each in made.items() if each is not None}
        if demand.depth is Depth.PEER and not blobs:
            return None
        found.append(
            WantedImage(
                key=f"{demand.metadata.namespace}/{name}",
                image=image,
                depth=demand.depth,
                pin=demand.pin,
                credentials=snapshot.images.credentials(pin.key) if pin is not None else (),
                blobs=blobs,
                platforms=platforms,
                orders={node: each.order for node, each in sorted(given.items())},
            )
        )
    return tuple(found)
