"""Decides what to ask registries, and when. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pantala_operator.plan.prefetch.pulls import Snapshot
from pantala_operator.plan.secrets import Unread
from pantala_operator.resources.prefetch import ImageKey
from pantala_operator.resources.retries import pause
from pantala_protocol import image
from pantala_protocol.images import Depth
from pantala_protocol.registry import Resolve

LOOK_INTERVAL: Final = timedelta(minutes=10)
"""The time between two checks whether a tag has moved."""
_BACKOFF: Final = 5
"""The first pause after a registry did not answer, in seconds."""


@dataclass(frozen=True, slots=True)
class Questions:
    """The questions that a supernode should ask registries now."""

    now: tuple[tuple[ImageKey, Resolve], ...] = ()
    next_at: datetime | None = None
    """The time at which the next question is due. ``None``: never."""
    unanswered: bool = False
    """True if a question that is due, or waits for its Secrets, has no answer yet."""


def ask(snapshot: Snapshot) -> Questions:
    """Find the due questions. No question about an image is due before its Secrets were read."""
    demand, started, secrets = snapshot.demand, snapshot.run.started, snapshot.observed.secrets
    if started is None or snapshot.run.fault is not None or snapshot.run.idle:
        return Questions()
    read = {name for name, reading in secrets.items() if not isinstance(reading, Unread)}
    everywhere = tuple(sorted(set(snapshot.platforms.values())))
    due, later, unanswered = [], [], False
    for key, pin in snapshot.pins.items():
        if demand.spec.suspend and not (demand.itemized and snapshot.pulls.get(key) and pin.platforms is None):
            continue  # Nodes keep their images, and only the orders of peers need the blobs.
        answer, platforms = snapshot.observed.answers.get(key), (key.platform,) if key.platform else everywhere
        parsed = image.parse(key.reference)
        # The orders of peers need the blobs of the run's digest, which the tag may not name any more.
        pinned = demand.depth is Depth.PEER and pin.current
        reference = f"{parsed.name}@{pin.digest}" if pinned else key.reference
        if answer is None or answer.at < started:
            at = started
            unanswered |= answer is None and bool(platforms)
        elif not answer.resolved.digest:
            again = pause(answer.resolved.reason, answer.tries, None, _BACKOFF)
            if again is None:
                continue
            at = answer.at + timedelta(seconds=again)
        elif not answer.platforms.issuperset(platforms):
            at = answer.at
        elif demand.spec.planning or demand.spec.suspend or pinned or parsed.digest:
            continue  # A digest never changes, and a moved tag does not matter while nothing is pulled.
        else:
            at = answer.at + LOOK_INTERVAL
        if at > snapshot.now:
            later.append(at)
        elif platforms and read.issuperset(snapshot.images.secrets[key]):
            due.append((key, Resolve(reference, platforms, snapshot.images.credentials.get(key, ()))))
    return Questions(tuple(due), min(later, default=None), unanswered)
