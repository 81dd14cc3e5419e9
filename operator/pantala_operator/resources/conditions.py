"""Conditions of a resource, as Kubernetes and kstatus expect them. Pure.

``Reconciling`` and ``Stalled`` are bad when True; all others are good. Every condition exists from the first plan on.
Its generation is the one that it speaks of, because ``kubectl wait`` compares that.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypeVar

import msgspec

K = TypeVar("K", bound=StrEnum)


class ConditionType(StrEnum):
    """The types of a Task's conditions."""

    READY = "Ready"
    SOURCE_RESOLVED = "SourceResolved"
    CACHED = "Cached"
    DISTRIBUTED = "Distributed"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class ConditionStatus(StrEnum):
    """A condition's value."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """One condition as the API server keeps it."""

    type: str
    status: str
    reason: str
    message: str
    last_transition_time: datetime
    observed_generation: int = 0


class Verdict(NamedTuple):
    """What a condition says now."""

    status: ConditionStatus
    reason: str
    message: str


MAX_MESSAGE = 1024
"""Characters of a message that are kept; an origin or a peer may send long ones."""


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    return next((condition for condition in conditions if condition.type == kind), None)


def is_true(conditions: Iterable[Condition], kind: str) -> bool:
    """Whether the condition exists and is True."""
    condition = find(conditions, kind)
    return condition is not None and condition.status == ConditionStatus.TRUE


def merge(
    previous: Iterable[Condition], verdicts: Mapping[K, Verdict], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The conditions of ``generation``. The transition time moves only with the status."""
    former = {condition.type: condition for condition in previous}
    merged = []
    for kind, verdict in verdicts.items():
        old = former.get(kind)
        since = old.last_transition_time if old is not None and old.status == verdict.status else now
        message = verdict.message if len(verdict.message) <= MAX_MESSAGE else verdict.message[: MAX_MESSAGE - 1] + "…"
        merged.append(Condition(kind.value, verdict.status.value, verdict.reason, message, since, generation))
    return tuple(merged)


def differ(former: Iterable[Condition], latter: Iterable[Condition]) -> bool:
    """Whether a status, a reason or a generation differs. Such a change is written at once; a message may wait."""
    return _essence(former) != _essence(latter)


def _essence(conditions: Iterable[Condition]) -> set[tuple[str, str, str, int]]:
    return {(each.type, each.status, each.reason, each.observed_generation) for each in conditions}
