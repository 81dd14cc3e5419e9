"""Decides the nodes' orders for each image, and the images of the statement. Pure.

A node carries out an order once, so an order stays the same until the next attempt. A pull without an order ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from pantala_operator.plan.prefetch.inputs import GivenOrder, Orders
from pantala_operator.plan.prefetch.pins import Pin
from pantala_operator.plan.prefetch.pulls import Snapshot
from pantala_protocol import image
from pantala_protocol.images import Depth, PullOrder, PullPhase, WantedImage


@dataclass(frozen=True, slots=True)
class OrderPlan:
    """The orders for all nodes of one object."""

    orders: Orders | None = None
    """All orders. ``None`` if too little is known, so that the former orders stay."""
    images: tuple[WantedImage, ...] | None = None
    """The images and orders for the statement. ``None`` if too little is known."""


def give(snapshot: Snapshot) -> OrderPlan:
    """Give orders for pulls that start, for running pulls, and for images that nodes keep.

    If pulls must stop, the orders to stop do not wait for the reports of all nodes, if that is safe.
    """
    demand, observed, rules = snapshot.demand, snapshot.observed, snapshot.rules
    if not (observed.reported or (snapshot.run.stopped and observed.may_cancel)):
        return OrderPlan()
    orders: dict[str, dict[str, GivenOrder]] = {}
    pins = {pin.task: pin for pin in snapshot.pins.values() if pin.task}
    for task, pin in pins.items():
        orders[task], given, pulls = {}, observed.orders.get(task, {}), snapshot.pulls[pin.key]
        for name in snapshot.targets.wanted:
            former, pull = given.get(name), pulls[name].state if name in pulls else None
            if pin.key in snapshot.starts.get(name, ()):
                number = pull.number + 1 if pull is not None and pull.run == rules.run else 1
                orders[task][name] = GivenOrder(PullOrder(rules.run, number, rules.timeout), snapshot.unix)
            elif pull is None or pin.key in snapshot.omitted[name]:
                continue
            elif pull.phase is PullPhase.READY or not snapshot.run.holding:
                if former is None or (former.order.run, former.order.number) != (pull.run, pull.number):
                    former = GivenOrder(PullOrder(pull.run, pull.number, rules.timeout), pull.since)
                orders[task][name] = former
    references = {task: pin.ordered for task, pin in pins.items()}
    for owned in observed.tasks:
        if owned.owner == demand.metadata.uid and owned.name not in pins:
            # Nodes with the image of a former digest keep it until its Task is deleted, but not under its tag.
            parsed = image.parse(owned.image)
            references[owned.name] = f"{parsed.name}@{parsed.digest}"
            orders[owned.name] = {
                name: GivenOrder(PullOrder(pull.run, pull.number, rules.timeout), pull.since)
                for name, pull in sorted(observed.pulls.get(owned.name, {}).items())
                if pull.phase is PullPhase.READY
            }

    stated: list[WantedImage] = []
    for task, each in sorted(orders.items()):
        if not each:
            continue
        wanted = WantedImage(
            key=f"{demand.metadata.namespace}/{task}",
            image=references[task],
            depth=demand.depth,
            pin=demand.spec.retention.pin,
            credentials=snapshot.images.credentials.get(pins[task].key, ()) if task in pins else (),
            orders={node: order for node, (order, _) in sorted(each.items())},
        )
        if demand.depth is Depth.PEER:
            wanted = _with_blobs(wanted, pins.get(task), snapshot.platforms)
            if not wanted.blobs:  # The blobs of a platform are not known yet, for example after a restart.
                return OrderPlan(orders)
        stated.append(wanted)
    return OrderPlan(orders, tuple(stated))


def _with_blobs(wanted: WantedImage, pin: Pin | None, known: Mapping[str, str]) -> WantedImage:
    """Add the blobs that the peers of its nodes must fetch to an image. ``known``: the platform of each node."""
    if pin is None or pin.platforms is None:
        return wanted
    platforms = {node: known[node] for node in wanted.orders}
    own = {each: pin.key.platform or each for each in sorted(set(platforms.values()))}
    if not pin.asked.issuperset(own.values()):
        return wanted
    blobs = {each: pin.platforms[platform] for each, platform in own.items() if platform in pin.platforms}
    return msgspec.structs.replace(wanted, platforms=platforms, blobs=blobs)
