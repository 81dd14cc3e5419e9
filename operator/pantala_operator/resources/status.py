"""The status engine of all kinds: one rule for Ready, Reconciling and Stalled, and what follows from conditions. Pure.

Each kind supplies inputs: what ``Ready`` says if everything is done, a pause that the user wants, an obstacle, and the
activity otherwise. Of ``Ready``, ``Reconciling`` and ``Stalled`` at most one is True; during a pause none is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from pantala_operator.resources import conditions
from pantala_operator.resources.conditions import Condition, ConditionStatus, Verdict
from pantala_protocol import reasons
from pantala_protocol.reasons import Advice, Reason, Retry

PENDING = Verdict(ConditionStatus.UNKNOWN, "Pending", "The supernode has not reported on this yet")
SUSPENDED = "Suspended"
PROGRESSING = "Progressing"

_EVENTS = {"Ready": False, "Stalled": True, "Reconciling": True, "Drifted": True, "EvictedByKubelet": True}
"""Conditions that cause an Event when they become True, and whether it is a warning."""


class Obstacle(NamedTuple):
    """What prevents progress until somebody acts: a condition's reason, and a message that ends with the advice."""

    reason: str
    message: str
    final: bool = False
    """Only a new spec or a new request removes it, so the resource counts as finished."""

    @classmethod
    def of(cls, reason: Reason, what: str) -> Obstacle:
        return cls._advised(reason, what, Advice(reason.retry, reason.action))

    @classmethod
    def of_image(cls, reason: str, what: str) -> Obstacle:
        """An obstacle that a registry or a node names; its reason may be unknown here."""
        return cls._advised(reason, what, reasons.of_image(reason))

    @classmethod
    def _advised(cls, reason: str, what: str, advice: Advice) -> Obstacle:
        return cls(str(reason), advised(what, advice), final=advice.retry is Retry.NEVER)


class Notice(NamedTuple):
    """An Event to be written."""

    warning: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class StatusInputs:
    """What the three summary conditions follow from."""

    activity: Verdict
    """What ``Ready`` says while work goes on."""
    done: Verdict | None = None
    """What ``Ready`` says because everything is done."""
    pause: Verdict | None = None
    """Why nothing happens although nothing is wrong."""
    obstacle: Obstacle | None = None


class Summary(NamedTuple):
    """The three summary conditions."""

    ready: Verdict
    reconciling: Verdict
    stalled: Verdict


def evaluate(inputs: StatusInputs) -> Summary:
    if (done := inputs.done) is not None:
        return Summary(done, no(done.reason, "Nothing is left to do"), no(done.reason, "Nothing blocks progress"))
    if inputs.pause is not None:
        return Summary(inputs.pause, inputs.pause, inputs.pause)
    if (obstacle := inputs.obstacle) is not None:
        ready = no(obstacle.reason, obstacle.message)
        waiting = no(obstacle.reason, "Nothing continues. The condition Stalled says why")
        return Summary(ready, waiting, ready._replace(status=ConditionStatus.TRUE))
    activity = inputs.activity
    stalled = no(activity.reason, "Nothing blocks progress permanently")
    return Summary(activity, activity._replace(status=ConditionStatus.TRUE), stalled)


def no(reason: str, message: str) -> Verdict:
    return Verdict(ConditionStatus.FALSE, reason, message)


def unavailable(away: str) -> Verdict:
    """The activity while no answer comes from a supernode; ``away`` says why."""
    message = f"A supernode does not answer: {away.rstrip('. ')}. The operator retries until it answers."
    return no("SupernodeUnavailable", message)


def kept(former: Iterable[Condition], kind: str) -> Verdict:
    """A condition as it was written last; it stays while nothing newer is known."""
    found = conditions.find(former, kind)
    return PENDING if found is None else Verdict(ConditionStatus(found.status), found.reason, found.message)


def advised(what: str, advice: Advice | None) -> str:
    """``what``, followed by the advice unless it ends with it already."""
    if advice is None or what.endswith(advice.action):
        return what
    return f"{what.rstrip('. ')}. {advice.action}"


def notices(former: Iterable[Condition], latter: Iterable[Condition]) -> Iterator[Notice]:
    """The Events for conditions that became True, or are True for another reason."""
    before = {(each.type, each.status, each.reason) for each in former}
    now = {each.type: each for each in latter if each.status == ConditionStatus.TRUE and each.reason != PROGRESSING}
    for kind, warning in _EVENTS.items():
        if (new := now.get(kind)) is not None and (kind, new.status, new.reason) not in before:
            yield Notice(warning, new.reason, new.message)


def expiry(
    ttl: int | None, current: Iterable[Condition], completed: datetime | None, *, failed: bool
) -> datetime | None:
    """When a finished resource is deleted: ``ttl`` seconds after it was done, or after it ``failed`` for good."""
    stalled = conditions.find(current := tuple(current), "Stalled")
    finished: datetime | None = None
    if conditions.is_true(current, "Ready"):
        finished = completed
    elif failed and stalled is not None and stalled.status == ConditionStatus.TRUE:
        finished = stalled.last_transition_time
    return None if ttl is None or finished is None else finished + timedelta(seconds=ttl)
