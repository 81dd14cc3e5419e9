"""Remembers when the conditions of each resource changed.

A status keeps only the last change of each condition. Pure.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Set
from datetime import datetime
from typing import Final

from pantala_operator.events import OperatorEvents, ResourceChanged, StatusWritten
from pantala_operator.ports import Clock
from pantala_operator.resources.api import Metadata, TaskResource
from pantala_operator.resources.conditions import Condition
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_protocol.console.views import Moment

MOST_MOMENTS: Final = 40
"""The most changes that are kept of one resource."""
_SUMMARIES: Final = frozenset({"Ready", "Reconciling", "Stalled"})
"""These conditions repeat the reasons of other conditions."""


class ConditionHistory:
    """The changes of conditions since this process started, by the UID of the resource."""

    def __init__(self, events: OperatorEvents, clock: Clock) -> None:
        self._clock = clock
        self._moments: dict[str, deque[Moment]] = {}
        self._seen: dict[str, frozenset[tuple[str, str, str]]] = {}
        events.subscribe(ResourceChanged, self._on_resource)
        events.subscribe(StatusWritten, self._on_write)

    def moments(self, uid: str) -> tuple[Moment, ...]:
        return tuple(self._moments.get(uid, ()))

    def keep_only(self, uids: Set[str]) -> None:
        """Forget all other resources. A full list may show a deletion without an event."""
        for known in (self._moments, self._seen):
            for uid in known.keys() - uids:
                del known[uid]

    def _on_resource(self, event: ResourceChanged) -> None:
        resource = event.resource
        if not isinstance(resource, TaskResource | ImagePrefetch):
            return
        uid = resource.metadata.uid
        if event.deleted:
            self._moments.pop(uid, None)
            self._seen.pop(uid, None)
            return
        self._note(resource)

    def _on_write(self, event: StatusWritten) -> None:
        if isinstance(event.resource, TaskResource | ImagePrefetch):
            self._note(event.resource)

    def _note(self, resource: TaskResource | ImagePrefetch) -> None:
        uid, found = resource.metadata.uid, resource.status.conditions
        now = frozenset((each.type, each.status, each.reason) for each in found)
        before = self._seen.get(uid)
        self._seen[uid] = now
        if before is None or before == now:
            return
        news = [each for each in found if (each.type, each.status, each.reason) not in before]
        at = self._clock.now().timestamp()
        moments = self._moments.setdefault(uid, deque(maxlen=MOST_MOMENTS))
        moments.extend(Moment(at, each.reason, _words(each)) for each in _distinct(news))


def timeline(
    metadata: Metadata,
    found: Iterable[Condition],
    known: Iterable[Moment],
    started: datetime | None = None,
    completed: datetime | None = None,
) -> tuple[Moment, ...]:
    """All moments of one resource, the oldest first. ``known`` is its history, which the conditions complete."""
    known = tuple(known)
    reasons = {moment.reason for moment in known}
    missing = (each for each in _distinct(found) if each.reason not in reasons)
    every = [
        *_moment(metadata.creation_timestamp, "Created", "The resource was created."),
        *_moment(started, "Started", "The operator began this attempt."),
        *known,
        *(Moment(each.last_transition_time.timestamp(), each.reason, _words(each)) for each in missing),
        *_moment(completed, "Completed", "The work was complete."),
    ]
    return tuple(sorted(every, key=lambda moment: moment.at))


def _moment(at: datetime | None, reason: str, message: str) -> Iterator[Moment]:
    if at is not None:
        yield Moment(at.timestamp(), reason, message)


def _distinct(found: Iterable[Condition]) -> Iterator[Condition]:
    """One condition for each reason."""
    reasons: set[str] = set()
    for each in sorted(found, key=lambda condition: condition.type in _SUMMARIES):
        if each.reason not in reasons:
            reasons.add(each.reason)
            yield each


def _words(condition: Condition) -> str:
    return f"{condition.type} is {condition.status}. {condition.message}"
