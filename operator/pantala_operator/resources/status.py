"""Derives Ready, Reconciling and Stalled of all kinds of resources, and the Events and expiry from them. Pure.

Each kind calls :func:`evaluate`. At most one of ``Ready``, ``Reconciling`` and ``Stalled`` is True. During a pause, all
three are False.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from pantala_operator.resources import conditions
from pantala_operator.resources.conditions import Condition, ConditionStatus, Verdict
from pantala_protocol import reasons
from pantala_protocol.reasons import Advice, Reason, Retry

PENDING = Verdict(ConditionStatus.UNKNOWN, "Pending", "The supernode has not reported on this condition yet")
SUSPENDED = "Suspended"
PROGRESSING = "Progressing"

_EVENTS = {"Ready": False, "Stalled": True, "Reconciling": True, "Drifted": True, "EvictedByKubelet": True}
"""The conditions that cause an Event when they become True. The value is True if the Event is a warning."""


class Obstacle(NamedTuple):
    """What blocks a resource: the reason for its conditions, and a message that ends with what to do."""

    reason: str
    message: str
    final: bool = False
    """True if only an edit of the spec or a request for a retry removes it. The resource then counts as finished."""

    @classmethod
    def of(cls, reason: Reason, what: str) -> Self:
        return cls._advised(reason, what, Advice(reason.retry, reason.action))

    @classmethod
    def of_image(cls, reason: str, what: str) -> Self:
        """An obstacle that a registry or a node reports, with a ``reason`` that this version may not know."""
        return cls._advised(reason, what, reasons.of_image(reason))

    @classmethod
    def _advised(cls, reason: str, what: str, advice: Advice) -> Self:
        return cls(str(reason), advised(what, advice), final=advice.retry is Retry.NEVER)


class Notice(NamedTuple):
    """A Kubernetes Event that the operator should write."""

    warning: bool
    reason: str
    message: str


class Summary(NamedTuple):
    """The conditions ``Ready``, ``Reconciling`` and ``Stalled``."""

    ready: Verdict
    reconciling: Verdict
    stalled: Verdict


def evaluate(
    activity: Verdict, *, done: Verdict | None = None, pause: Verdict | None = None, obstacle: Obstacle | None = None
) -> Summary:
    """Use the first argument that is set, in the order ``done``, ``pause``, ``obstacle``, ``activity``.

    ``done``: all work is done. ``pause``: the user wants a pause. ``activity``: work is in progress. Each is the
    condition ``Ready`` of this state.
    """
    if done is not None:
        return Summary(done, no(done.reason, "Nothing is left to do"), no(done.reason, "Nothing blocks progress"))
    if pause is not None:
        return Summary(pause, pause, pause)
    if obstacle is not None:
        ready = no(obstacle.reason, obstacle.message)
        waiting = no(obstacle.reason, "No download runs. The condition Stalled says why")
        return Summary(ready, waiting, ready._replace(status=ConditionStatus.TRUE))
    stalled = no(activity.reason, "Nothing blocks progress permanently")
    return Summary(activity, activity._replace(status=ConditionStatus.TRUE), stalled)


def have(ready: int, desired: int, what: str) -> str:
    """How many nodes have something, such as ``2 of 3 nodes have the file``."""
    return f"{ready} of {desired} {'node has' if desired == 1 else 'nodes have'} {what}"


def no(reason: str, message: str) -> Verdict:
    return Verdict(ConditionStatus.FALSE, reason, message)


def yes(reason: str, message: str) -> Verdict:
    return Verdict(ConditionStatus.TRUE, reason, message)


def unavailable(away: str) -> Verdict:
    """The ``Ready`` condition while no supernode answers; ``away`` is the error."""
    reason = Reason.SUPERNODE_UNAVAILABLE
    return no(reason, f"A supernode is unavailable: {away.rstrip('. ')}. {reason.action}")


def kept(former: Iterable[Condition], kind: str) -> Verdict:
    """The condition as it was last written, for a plan without a newer report."""
    found = conditions.find(former, kind)
    return PENDING if found is None else Verdict(ConditionStatus(found.status), found.reason, found.message)


def advised(what: str, advice: Advice | None) -> str:
    """``what`` followed by the advice, unless ``what`` already ends with advice."""
    if advice is None or what.endswith((advice.action, *reasons.ACTIONS)):
        return what
    return f"{what.rstrip('. ')}. {advice.action}"


def notices(former: Iterable[Condition], latter: Iterable[Condition]) -> Iterator[Notice]:
    """The Events for conditions that became True, or that are True for a new reason."""
    before = {(each.type, each.status, each.reason) for each in former}
    now = {each.type: each for each in latter if each.status == ConditionStatus.TRUE and each.reason != PROGRESSING}
    for kind, warning in _EVENTS.items():
        if (new := now.get(kind)) is not None and (kind, new.status, new.reason) not in before:
            yield Notice(warning, new.reason, new.message)


def expiry(
    ttl: int | None,
    current: Iterable[Condition],
    completed: datetime | None,
    *,
    failed: bool,
    deadline: datetime | None = None,
) -> datetime | None:
    """When to delete a finished resource: ``ttl`` seconds after it became Ready, or after it ``failed`` for good.

    ``deadline``: the deadline that has passed, if that is the failure. It may have been stalled long before.
    """
    stalled = conditions.find(current := tuple(current), "Stalled")
    finished: datetime | None = None
    if conditions.is_true(current, "Ready"):
        finished = completed
    elif failed and stalled is not None and stalled.status == ConditionStatus.TRUE:
        finished = max(stalled.last_transition_time, deadline or stalled.last_transition_time)
    return None if ttl is None or finished is None else finished + timedelta(seconds=ttl)
