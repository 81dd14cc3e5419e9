"""Finds the images of a demand, by name or from workloads, and the credentials for them. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pantala_operator.plan.prefetch.inputs import ImageDemand, Surroundings, Workload
from pantala_operator.plan.secrets import SecretReading, pull_secrets
from pantala_operator.resources.prefetch import From, ImageKey
from pantala_operator.resources.status import Obstacle
from pantala_protocol import image
from pantala_protocol.reasons import Reason

MAX_IMAGES = 256
"""The most images of one object, so that its status stays small."""
_MAX_SECRETS: Final = 32
"""The most pull secrets of one image, as in a Task. Each has at most 1 MiB, and a request to a supernode 64 MiB."""


@dataclass(frozen=True, slots=True)
class ImageSet:
    """The wanted images, each once, in the order in which the spec names them."""

    secrets: Mapping[ImageKey, tuple[str, ...]]
    """The names of each image's pull secrets."""
    problems: tuple[Obstacle, ...]
    """Why some wanted images are not in the set."""
    secret_names: tuple[str, ...]
    """The names of all pull secrets."""
    secret_faults: tuple[str, ...] = ()
    """Errors of unusable pull secrets. Their images may be public, so they are tried anyway."""
    credentials: Mapping[ImageKey, tuple[str, ...]] = field(default_factory=dict)
    """The content of each image's usable pull secrets."""


def gather(demand: ImageDemand, around: Surroundings, readings: Mapping[str, SecretReading]) -> ImageSet:
    """Find the images of ``demand``. Two references to the same image count as one.

    ``readings``: the Secrets of its namespace, by name.
    """
    secrets: dict[ImageKey, tuple[str, ...]] = {}
    problems: list[Obstacle] = []
    named: list[tuple[str, str, tuple[str, ...]]] = [(each.image, each.platform, ()) for each in demand.spec.images]
    if demand.spec.source is not None:
        named += _from_workloads(demand.spec.source, demand.metadata.namespace, around, problems)
    for reference, platform, own in named:
        try:
            parsed = image.parse(reference)
            parsed.check_length()
        except ValueError as error:
            problems.append(Obstacle.of(Reason.INVALID_IMAGE, f"{reference[:140]}: {error}"))
            continue
        key = ImageKey(str(parsed), platform)
        both = dict.fromkeys((*secrets.get(key, ()), *demand.spec.pull_secrets, *own))
        secrets[key] = tuple(both)[: _MAX_SECRETS + 1]  # one more, to report it
    if len(secrets) > MAX_IMAGES:
        what = f"{len(secrets)} images are wanted, but at most {MAX_IMAGES} are allowed. The other images are ignored"
        problems.append(Obstacle.of(Reason.TOO_MANY_IMAGES, what))
        secrets = dict(list(secrets.items())[:MAX_IMAGES])
    if not secrets and not problems:
        problems.append(Obstacle.of(Reason.NO_IMAGE, "Neither spec.images nor a workload of spec.from names an image"))
    names = tuple(sorted({name for each in secrets.values() for name in each}))
    if not names:
        return ImageSet(secrets, tuple(problems), ())
    configs, faults = pull_secrets(names, readings)
    if max(map(len, secrets.values())) > _MAX_SECRETS:
        faults = (
            *faults,
            f"An image has more than {_MAX_SECRETS} pull secrets. Only the first {_MAX_SECRETS} are used. List fewer.",
        )
    credentials = {
        key: tuple(configs[name] for name in each[:_MAX_SECRETS] if name in configs) for key, each in secrets.items()
    }
    return ImageSet(secrets, tuple(problems), names, faults, credentials)


def of_template(template: Mapping[str, Any]) -> tuple[str, ...]:
    """The image references in a pod template: in volumes, init containers and containers. Invalid parts are ignored."""
    spec = _mapping(template.get("spec"))
    found = [_mapping(volume.get("image")).get("reference") for volume in _items(spec, "volumes")]
    found += [each.get("image") for kind in ("initContainers", "containers") for each in _items(spec, kind)]
    return tuple(dict.fromkeys(each for each in found if isinstance(each, str) and each))


def _from_workloads(
    source: From, namespace: str, around: Surroundings, problems: list[Obstacle]
) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield the images of workloads: reference, platform, and the names of the pull secrets that the workload adds."""
    for workload in _followed(source, namespace, around, problems):
        # A Secret is never used outside of its namespace.
        own = _secrets(workload.template)[: _MAX_SECRETS + 1] if workload.namespace == namespace else ()
        for reference in of_template(workload.template):
            yield reference, "", own


def _followed(source: From, namespace: str, around: Surroundings, problems: list[Obstacle]) -> Iterable[Workload]:
    if (wanted := source.workload_ref) is not None:
        name = (wanted.kind, namespace, wanted.name)
        found = [each for each in around.workloads if (each.kind, each.namespace, each.name) == name]
        if not found:
            what = f"The {wanted.kind} {wanted.name} does not exist in the namespace {namespace}"
            problems.append(Obstacle.of(Reason.WORKLOAD_MISSING, what))
        return found
    if (chosen := source.namespace_selector) is None:
        return ()
    if not around.privileged:
        what = f"An ImagePrefetch in {namespace} may not select workloads of other namespaces"
        problems.append(Obstacle.of(Reason.NAMESPACES_FORBIDDEN, what))
        return ()
    namespaces = {name for name, labels in around.namespaces.items() if chosen.matches(labels)}
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
