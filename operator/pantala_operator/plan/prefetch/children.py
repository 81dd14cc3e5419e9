"""The Tasks that an ImagePrefetch owns: one for each image and digest. Pure."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from pantala_operator.plan.prefetch.inputs import ImageDemand, OwnedTask
from pantala_operator.plan.prefetch.pins import Pin
from pantala_operator.plan.prefetch.pulls import Snapshot
from pantala_operator.resources.api import API_VERSION, GROUP
from pantala_operator.resources.prefetch import KIND, ImageKey
from pantala_protocol import image

OWNER_LABEL = f"{GROUP}/image-prefetch"
"""Label of a Task: the UID of the ImagePrefetch that owns it."""


@dataclass(frozen=True, slots=True)
class ChildTasks:
    """The changes to the Tasks of one ImagePrefetch."""

    apply: tuple[Mapping[str, Any], ...] = ()
    """Tasks to be applied, as the API server takes them."""
    delete: tuple[str, ...] = ()
    """Names of Tasks that nothing needs any more."""


def child_tasks(snapshot: Snapshot) -> ChildTasks:
    """The Tasks of an ImagePrefetch. In mode ``Plan``, before the first run and after a run of ``Once`` they stay."""
    demand, observed = snapshot.demand, snapshot.observed
    if not demand.owns_tasks or demand.planning or snapshot.run.started is None or snapshot.resting:
        return ChildTasks()
    everywhere = snapshot.everywhere if observed.reported else frozenset()
    return changes(demand, snapshot.pins.values(), snapshot.images.secrets, observed.tasks, everywhere)


def changes(
    demand: ImageDemand,
    pins: Iterable[Pin],
    secrets: Mapping[ImageKey, tuple[str, ...]],
    existing: Iterable[OwnedTask],
    everywhere: Set[ImageKey],
) -> ChildTasks:
    """The Tasks for ``pins``, besides those that exist in the namespace.

    A Task of a former digest stays until all nodes have the new one: ``everywhere`` are the images for which they do.
    """
    uid = demand.metadata.uid
    pinned = {pin.task: pin for pin in pins if pin.task}
    there = {task.name: task for task in existing}
    unfinished = {
        (image.parse(key.reference).name, key.platform)
        for key in (*secrets, *(pin.key for pin in pinned.values()))
        if key not in everywhere
    }
    return ChildTasks(
        apply=tuple(
            manifest(demand, pin, secrets.get(pin.key, ()))
            for name, pin in pinned.items()
            if name not in there or there[name].owner == uid
        ),
        delete=tuple(
            sorted(
                task.name
                for task in there.values()
                if task.owner == uid and task.name not in pinned and _repository(task) not in unfinished
            )
        ),
    )


def manifest(demand: ImageDemand, pin: Pin, secrets: tuple[str, ...]) -> Mapping[str, Any]:
    """The Task for one image, owned and controlled by the ImagePrefetch.

    The orders of its nodes are not part of it: they change with every node, and only the supernodes get them.
    """
    metadata = demand.metadata
    source = {"image": pin.reference} | ({"platform": pin.key.platform} if pin.key.platform else {})
    spec: dict[str, Any] = {"source": source, "depth": "Runtime", "suspend": demand.suspended}
    if secrets:
        spec["pullSecrets"] = list(secrets)
    if demand.pin:
        spec["retention"] = {"pin": True}
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": metadata.name,
        "uid": metadata.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "Task",
        "metadata": {
            "name": pin.task,
            "namespace": metadata.namespace,
            "labels": {OWNER_LABEL: metadata.uid},
            "ownerReferences": [owner],
        },
        "spec": spec,
    }


def _repository(task: OwnedTask) -> tuple[str, str]:
    """The repository and platform of a Task's image."""
    try:
        return image.parse(task.image).name, task.platform
    except ValueError:
        return task.image, task.platform
