"""Plans the Tasks that an ImagePrefetch owns: one for each image and digest. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pantala_operator.plan.prefetch.inputs import OwnedTask
from pantala_operator.plan.prefetch.pulls import Snapshot
from pantala_operator.resources.api import API_VERSION, GROUP, TaskResource
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_protocol import image

OWNER_LABEL = f"{GROUP}/image-prefetch"
"""The label of a Task with the UID of the ImagePrefetch that owns it."""


@dataclass(frozen=True, slots=True)
class ChildTasks:
    """The changes to the Tasks of one ImagePrefetch."""

    apply: tuple[Mapping[str, Any], ...] = ()
    """Manifests of the Tasks to create or change."""
    delete: tuple[str, ...] = ()
    """The names of Tasks to delete, because no node needs them any more."""


def child_tasks(snapshot: Snapshot) -> ChildTasks:
    """Plan the Tasks. They stay the same in mode ``Plan``, before the first run and after a run with policy ``Once``.

    A Task with a former digest stays until all nodes have the new digest.
    """
    demand, observed = snapshot.demand, snapshot.observed
    if not demand.owns_tasks or demand.spec.planning or snapshot.run.started is None or snapshot.run.resting:
        return ChildTasks()
    metadata, secrets = demand.metadata, snapshot.images.secrets
    pins = {pin.task: pin for pin in snapshot.pins.values() if pin.task}
    owner = {
        "apiVersion": API_VERSION,
        "kind": ImagePrefetch.kind,
        "name": metadata.name,
        "uid": metadata.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
    tasks = []
    for name, pin in pins.items():
        if name in snapshot.taken:
            continue
        source = {"image": pin.reference} | ({"platform": pin.key.platform} if pin.key.platform else {})
        # The orders of nodes are not part of a Task: they change with every node, and only the supernodes get them.
        spec: dict[str, Any] = {"source": source, "depth": "Runtime", "suspend": demand.spec.suspend}
        if secrets[pin.key]:
            spec["pullSecrets"] = list(secrets[pin.key])
        if demand.spec.retention.pin:
            spec["retention"] = {"pin": True}
        described = {
            "name": name,
            "namespace": metadata.namespace,
            "labels": {OWNER_LABEL: metadata.uid},
            "ownerReferences": [owner],
        }
        tasks.append({"apiVersion": API_VERSION, "kind": TaskResource.kind, "metadata": described, "spec": spec})
    everywhere = snapshot.everywhere if observed.reported else frozenset()
    unfinished = {(image.parse(key.reference).name, key.platform) for key in secrets if key not in everywhere}
    outdated = [task for task in observed.tasks if task.owner == metadata.uid and task.name not in pins]
    return ChildTasks(
        tuple(tasks), tuple(sorted(task.name for task in outdated if _repository(task) not in unfinished))
    )


def _repository(task: OwnedTask) -> tuple[str, str]:
    """The repository of a Task's image, without tag and digest, and its platform."""
    try:
        return image.parse(task.image).name, task.platform
    except ValueError:
        return task.image, task.platform
