"""What registries are asked, and when. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from pantala_operator.plan.headers import Absent, Denied, Unread
from pantala_operator.plan.prefetch import pins
from pantala_operator.plan.prefetch.pullsecret import docker_config
from pantala_operator.plan.prefetch.scene import Scene
from pantala_operator.plan.problem import SECRET_FORBIDDEN, Problem
from pantala_operator.resources.api import Secret
from pantala_operator.resources.prefetch import ImageKey


@dataclass(frozen=True, slots=True)
class Question:
    """An image that a registry shall be asked about, through a supernode."""

    key: ImageKey
    platforms: tuple[str, ...]
    """For which the blobs are wanted."""
    secrets: tuple[str, ...]
    """Names of the Secrets with credentials."""


def questions(scene: Scene) -> Iterator[Question]:
    """What is asked now. An image is not asked for before its Secrets were read."""
    known = {name for name, reading in scene.observed.secrets.items() if not isinstance(reading, Unread)}
    for key, at in moments(scene):
        secrets = scene.seen.images.secrets[key]
        if at <= scene.now and known.issuperset(secrets):
            yield Question(key, tuple(sorted(scene.platforms(key))), secrets)


def moments(scene: Scene) -> Iterator[tuple[ImageKey, datetime]]:
    """When each image is asked about next."""
    spec, seen = scene.prefetch.spec, scene.seen
    if seen.run.fault is not None or scene.done:
        return
    for key, pin in seen.pins.items():
        if spec.suspend and not (seen.itemized and seen.pulls.get(key) and pin.platforms is None):
            continue  # Nodes keep what they have, and what that is has to be said to them.
        told = scene.observed.resolutions.get(key)
        watch = not spec.planning and not spec.suspend
        at = pins.ask_at(pin, told, scene.seen.run, scene.platforms(key), watch=watch)
        if at is not None:
            yield key, at


def secret_names(scene: Scene) -> tuple[str, ...]:
    """The Secrets that are named, each once."""
    return tuple(sorted({name for names in scene.seen.images.secrets.values() for name in names}))


def secret_problems(scene: Scene) -> Iterator[Problem]:
    """What is wrong with the Secrets. Images may be public all the same."""
    for name in secret_names(scene):
        match scene.observed.secrets.get(name):
            case Absent():
                yield Problem("SecretMissing", f"There is no Secret {name} in the ImagePrefetch's namespace.")
            case Secret() as secret if isinstance(found := docker_config(secret), Problem):
                yield found
            case Denied(message):
                yield Problem(SECRET_FORBIDDEN, f"The Secret {name} may not be read: {message.rstrip('. ')}.")
