"""What is planned as an ImagePrefetch, and what all plans of one moment are made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pantala_operator.plan.headers import SecretReading
from pantala_operator.plan.prefetch import task as tasks
from pantala_operator.plan.prefetch import wire
from pantala_operator.plan.prefetch.children import Child
from pantala_operator.plan.prefetch.forecast import Inventory
from pantala_operator.plan.prefetch.pull import Pull
from pantala_operator.plan.prefetch.reach import Cluster
from pantala_operator.resources.api import TaskResource
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.watch.observation import Observation


@dataclass(frozen=True, slots=True)
class Subject:
    """An ImagePrefetch, or a Task that is planned as one."""

    prefetch: ImagePrefetch
    task: TaskResource | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What all plans of one turn share."""

    cluster: Cluster
    pulls: dict[str, dict[str, dict[str, Pull]]]
    inventories: dict[str, Inventory]
    children: dict[str, list[Child]]
    secrets: dict[str, dict[str, SecretReading]]
    heard: bool
    away: str


def subjects_of(known: Observation) -> Iterator[Subject]:
    """All that is planned: what is being deleted wants nothing any more."""
    for prefetch in known.prefetches.items.values():
        if prefetch.metadata.deletion_timestamp is None:
            yield Subject(prefetch)
    for each in known.tasks.items.values():
        if each.spec.is_image and each.metadata.deletion_timestamp is None and not tasks.owner(each):
            yield Subject(tasks.as_prefetch(each), each)


def view_of(known: Observation, *, heard: bool) -> View:
    """What is known now; ``heard``: whether all nodes have spoken that can."""
    reports = known.supernodes.peers
    children: dict[str, list[Child]] = {}
    for each in known.tasks.items.values():
        child = Child(each.metadata.name, tasks.owner(each), each.spec.source.image, each.spec.source.platform)
        children.setdefault(each.metadata.namespace, []).append(child)
    secrets: dict[str, dict[str, SecretReading]] = {}
    for (namespace, name), reading in known.secrets.items():
        secrets.setdefault(namespace, {})[name] = reading
    return View(
        cluster=Cluster(known.nodes.items, known.peer_states()),
        pulls=wire.pulls(reports),
        inventories=wire.inventories(reports),
        children=children,
        secrets=secrets,
        heard=heard,
        away=known.supernodes.away,
    )
