"""What nodes shall do about each image. Pure."""

from __future__ import annotations

from pantala_operator.plan.prefetch.pull import Phase
from pantala_operator.plan.prefetch.scene import Scene
from pantala_operator.plan.prefetch.survey import Order, Orders
from pantala_operator.resources.prefetch import ImageKey


def orders(scene: Scene) -> Orders:
    """The orders of all Tasks: pulls that begin, those that began before, and images that are kept.

    An order is carried out once, so that it stays as it is until the next try; one that is left out ends a pull.
    """
    given: dict[str, dict[str, Order]] = {}
    for key, task in scene.seen.tasks.items():
        found = ((name, _order(scene, key, name)) for name in scene.seen.targets.wanted)
        given[task] = {name: order for name, order in found if order is not None}
    for child in scene.observed.children:
        if child.owner == scene.uid and child.name not in given:
            given[child.name] = _kept(scene, child.name)
    return given


def _order(scene: Scene, key: ImageKey, name: str) -> Order | None:
    seen, timeout = scene.seen, scene.prefetch.spec.timeout_seconds_per_node
    said = seen.pulls[key].get(name)
    if key in scene.starts.get(name, ()):
        again = said is not None and said.run == seen.policy.run
        return Order(seen.policy.run, said.tries + 1 if said is not None and again else 1, scene.now, timeout)
    if said is None or key in seen.omitted.get(name, ()):
        return None
    if scene.holding and said.phase is not Phase.READY:
        return None
    former = scene.observed.orders.get(seen.tasks[key], {}).get(name)
    if former is not None and (former.run, former.number) == (said.run, said.tries):
        return former
    return Order(said.run, said.tries, said.since, timeout)


def _kept(scene: Scene, task: str) -> dict[str, Order]:
    """Nodes that have the image of a former digest keep it until its Task goes."""
    timeout = scene.prefetch.spec.timeout_seconds_per_node
    said = sorted(scene.observed.pulls.get(task, {}).items())
    return {name: Order(each.run, each.tries, each.since, timeout) for name, each in said if each.phase is Phase.READY}
