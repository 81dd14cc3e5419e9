"""Which images an ImagePrefetch means: those it names, and those of the workloads it follows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pantala_operator.plan.prefetch import reasons, selector
from pantala_operator.plan.prefetch.reasons import ImageReason
from pantala_operator.plan.problem import Problem
from pantala_operator.resources.prefetch import ImageKey, PrefetchSpec
from pantala_protocol import image

MAX_IMAGES = 256
"""Images of one ImagePrefetch, so that its status stays small."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment, StatefulSet or DaemonSet, whatever its replicas."""

    kind: str
    namespace: str
    name: str
    template: Mapping[str, Any] = field(default_factory=dict)
    """``spec.template`` as the API server gives it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What can be followed."""

    workloads: tuple[Workload, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels of the namespaces, by name."""
    privileged: bool = False
    """Whether the ImagePrefetch may look into other namespaces."""


@dataclass(frozen=True, slots=True)
class ImageSet:
    """The images, each once, in the order they were named, and what is wrong with the rest."""

    secrets: Mapping[ImageKey, tuple[str, ...]] = field(default_factory=dict)
    """The wanted images, with the names of the Secrets for each."""
    problems: tuple[Problem, ...] = ()

    @property
    def keys(self) -> tuple[ImageKey, ...]:
        """The wanted images."""
        return tuple(self.secrets)


def gather(spec: PrefetchSpec, namespace: str, around: Surroundings) -> ImageSet:
    """The images of ``spec`` in ``namespace``; references that mean the same are one."""
    secrets: dict[ImageKey, tuple[str, ...]] = {}
    problems: list[Problem] = []
    for reference, platform, own in _named(spec, namespace, around, problems):
        try:
            key = ImageKey(str(image.parse(reference)), platform)
        except ValueError as error:
            problems.append(reasons.problem(ImageReason.INVALID_IMAGE, f"{reference[:140]}: {error}"))
            continue
        secrets[key] = tuple(dict.fromkeys((*secrets.get(key, ()), *spec.pull_secrets, *own)))
    if len(secrets) > MAX_IMAGES:
        what = f"{len(secrets)} images are wanted, {MAX_IMAGES} at most are possible; the others are left out"
        problems.append(reasons.problem(ImageReason.TOO_MANY_IMAGES, what))
        secrets = dict(list(secrets.items())[:MAX_IMAGES])
    if not secrets and not problems:
        problems.append(reasons.problem(ImageReason.NO_IMAGE, "There is no image to prefetch"))
    return ImageSet(secrets, tuple(problems))


def of_template(template: Mapping[str, Any]) -> tuple[str, ...]:
    """The references in a pod's template: image volumes, init containers, containers. The malformed is passed over."""
    spec = _mapping(template.get("spec"))
    found = [_mapping(volume.get("image")).get("reference") for volume in _items(spec, "volumes")]
    found += [each.get("image") for kind in ("initContainers", "containers") for each in _items(spec, kind)]
    return tuple(dict.fromkeys(each for each in found if isinstance(each, str) and each))


def _named(
    spec: PrefetchSpec, namespace: str, around: Surroundings, problems: list[Problem]
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """References, platforms, and the Secrets that come with them."""
    for each in spec.images:
        yield each.image, each.platform, ()
    for workload in _followed(spec, namespace, around, problems):
        # Secrets of other namespaces stay there.
        own = _secrets(workload.template) if workload.namespace == namespace else ()
        for reference in of_template(workload.template):
            yield reference, "", own


def _followed(spec: PrefetchSpec, namespace: str, around: Surroundings, problems: list[Problem]) -> Iterable[Workload]:
    if spec.source is None:
        return ()
    if (wanted := spec.source.workload_ref) is not None:
        name = (wanted.kind, namespace, wanted.name)
        found = [each for each in around.workloads if (each.kind, each.namespace, each.name) == name]
        if not found:
            what = f"There is no {wanted.kind} {wanted.name} in the namespace {namespace}"
            problems.append(reasons.problem(ImageReason.WORKLOAD_MISSING, what))
        return found
    if (chosen := spec.source.namespace_selector) is None:
        return ()
    if not around.privileged:
        what = f"An ImagePrefetch in the namespace {namespace} may not follow other namespaces"
        problems.append(reasons.problem(ImageReason.NAMESPACES_FORBIDDEN, what))
        return ()
    namespaces = {name for name, labels in around.namespaces.items() if selector.matches(chosen, labels)}
    found = [each for each in around.workloads if each.namespace in namespaces]
    return sorted(found, key=lambda each: (each.namespace, each.kind, each.name))


def _secrets(template: Mapping[str, Any]) -> tuple[str, ...]:
    names = [each.get("name") for each in _items(_mapping(template.get("spec")), "imagePullSecrets")]
    return tuple(name for name in names if isinstance(name, str) and name)


def _items(parent: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    items = parent.get(name)
    return [_mapping(each) for each in items] if isinstance(items, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
