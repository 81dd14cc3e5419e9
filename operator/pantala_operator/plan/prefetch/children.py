"""The Tasks that an ImagePrefetch owns: one for each image and digest. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from pantala_operator.plan.prefetch.pins import Pin
from pantala_operator.resources.api import API_VERSION, GROUP
from pantala_operator.resources.prefetch import KIND, ImageKey, ImagePrefetch
from pantala_protocol import image

OWNER_LABEL = f"{GROUP}/image-prefetch"
"""Label of a Task: the UID of the ImagePrefetch that owns it."""
_LONGEST_NAME = 253
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Child:
    """A Task that is there, as far as its owner needs it."""

    name: str
    owner: str = ""
    """UID of the controller in its owner references; empty: none."""
    image: str = ""
    """``spec.source.image``."""
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """What is to be done about the Tasks."""

    names: Mapping[ImageKey, str] = field(default_factory=dict)
    """The Task of each image that is pinned."""
    apply: tuple[Mapping[str, Any], ...] = ()
    """Tasks to be applied, as the API server takes them."""
    delete: tuple[str, ...] = ()
    """Names of Tasks that nothing needs any more."""
    taken: tuple[str, ...] = ()
    """Names that Tasks of somebody else have."""


def family(
    prefetch: ImagePrefetch,
    pins: Iterable[Pin],
    secrets: Mapping[ImageKey, tuple[str, ...]],
    existing: Iterable[Child],
    everywhere: Set[ImageKey],
) -> Family:
    """The Tasks for ``pins``, beside those ``existing`` in the namespace.

    A Task of a former digest stays until all nodes have the new one: ``everywhere`` are the images for which they do.
    """
    uid = prefetch.metadata.uid
    pinned = [pin for pin in pins if pin.digest]
    names = {pin.key: name(prefetch, pin) for pin in pinned}
    there = {child.name: child for child in existing}
    taken = {each for each in names.values() if each in there and there[each].owner != uid}
    unfinished = {
        (image.parse(key.reference).name, key.platform) for key in (*secrets, *names) if key not in everywhere
    }
    obsolete = [
        child.name
        for child in there.values()
        if child.owner == uid and child.name not in names.values() and _meant(child) not in unfinished
    ]
    return Family(
        names=names,
        apply=tuple(manifest(prefetch, pin, secrets.get(pin.key, ())) for pin in pinned if names[pin.key] not in taken),
        delete=tuple(sorted(obsolete)),
        taken=tuple(sorted(taken)),
    )


def name(prefetch: ImagePrefetch, pin: Pin) -> str:
    """The Task's name: the same for the same ImagePrefetch, image, platform and digest, and valid."""
    content = "\0".join((prefetch.metadata.uid, *pin.key, pin.digest))
    suffix = hashlib.sha256(content.encode()).hexdigest()[:_DIGITS]
    return f"{prefetch.metadata.name[: _LONGEST_NAME - 1 - _DIGITS].rstrip('.-')}-{suffix}"


def manifest(prefetch: ImagePrefetch, pin: Pin, secrets: tuple[str, ...]) -> Mapping[str, Any]:
    """The Task for one image, owned and controlled by ``prefetch``.

    Which nodes pull when is not in it: it changes with every node, and is told to the supernode only.
    """
    metadata = prefetch.metadata
    source = {"image": pinned(pin)} | ({"platform": pin.key.platform} if pin.key.platform else {})
    spec: dict[str, Any] = {"source": source, "depth": "Runtime", "suspend": prefetch.spec.suspend}
    if secrets:
        spec["pullSecrets"] = list(secrets)
    if prefetch.spec.retention.pin:
        spec["retention"] = {"pin": True}
    return {
        "apiVersion": API_VERSION,
        "kind": "Task",
        "metadata": {
            "name": name(prefetch, pin),
            "namespace": metadata.namespace,
            "labels": {OWNER_LABEL: metadata.uid},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": KIND,
                    "name": metadata.name,
                    "uid": metadata.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": spec,
    }


def pinned(pin: Pin) -> str:
    """The image with its digest, and with its tag if it has one: pods ask by that name."""
    reference = image.parse(pin.key.reference)
    tag = f":{reference.tag}" if reference.tag else ""
    return f"{reference.name}{tag}@{pin.digest}"


def _meant(child: Child) -> tuple[str, str]:
    """Which repository a Task's image is from, for which platform."""
    try:
        return image.parse(child.image).name, child.platform
    except ValueError:
        return child.image, child.platform
