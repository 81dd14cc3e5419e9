"""What registries are asked, and when. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pantala_operator.plan.prefetch.inputs import RegistryAnswer
from pantala_operator.plan.prefetch.pulls import Snapshot, pause
from pantala_operator.plan.prefetch.run import Run
from pantala_operator.plan.secrets import Unread
from pantala_operator.resources.prefetch import ImageKey
from pantala_protocol import image
from pantala_protocol.registry import Resolve

LOOK_INTERVAL: Final = timedelta(minutes=10)
"""How often a tag is resolved again, to see whether it moved."""
_BACKOFF: Final = 5
"""Seconds: the first pause after a registry did not answer."""


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions to registries, through a supernode."""

    now: tuple[tuple[ImageKey, Resolve], ...] = ()
    next_at: datetime | None = None
    """When the next question is due."""


def ask(snapshot: Snapshot) -> Questions:
    """The due questions. An image waits until its Secrets were read."""
    secrets = snapshot.observed.secrets
    read = {name for name, reading in secrets.items() if not isinstance(reading, Unread)}
    due, later = [], []
    for key in snapshot.pins:
        at, names = _due(snapshot, key), snapshot.images.secrets[key]
        if at is not None and at > snapshot.now:
            later.append(at)
        elif at is not None and read.issuperset(names) and (platforms := tuple(sorted(snapshot.needed(key)))):
            due.append((key, Resolve(key.reference, platforms, snapshot.images.credentials(key))))
    return Questions(tuple(due), min(later, default=None))


def _due(snapshot: Snapshot, key: ImageKey) -> datetime | None:
    """When the registry is asked about an image next."""
    demand, pin = snapshot.demand, snapshot.pins[key]
    if snapshot.run.fault is not None or snapshot.idle:
        return None
    if demand.suspended and not (snapshot.itemized and snapshot.pulls.get(key) and pin.platforms is None):
        return None  # Otherwise nodes keep what they have, and their orders need its blobs.
    watch = not demand.planning and not demand.suspended
    return ask_at(key, snapshot.observed.answers.get(key), snapshot.run, snapshot.needed(key), watch=watch)


def ask_at(
    key: ImageKey, answer: RegistryAnswer | None, run: Run, platforms: frozenset[str], *, watch: bool
) -> datetime | None:
    """When the registry is asked about ``platforms`` next; ``None``: not again.

    ``watch``: a tag that moves matters.
    """
    if run.started is None:
        return None
    if answer is None or answer.at < run.started:
        return run.started
    if not answer.resolved.digest:
        again = pause(answer.resolved.reason, answer.tries, None, _BACKOFF)
        return None if again is None else answer.at + timedelta(seconds=again)
    if not platforms <= answer.platforms:
        return answer.at
    return answer.at + LOOK_INTERVAL if watch and not image.parse(key.reference).digest else None
