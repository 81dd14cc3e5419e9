"""Conditions of a resource, as Kubernetes and kstatus expect them. Pure.

``Reconciling``, ``Stalled``, ``Drifted`` and ``EvictedByKubelet`` should be False, all other conditions True. Every
condition exists from the first plan on. It names the generation of the spec that it describes, because ``kubectl wait``
compares that number.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypeVar

import msgspec

from pantala_protocol.rules import text

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
    """The status, reason and message that a plan gives to one condition. :func:`merge` adds the times."""

    status: ConditionStatus
    reason: str
    message: str


MAX_MESSAGE = 4096
"""The most bytes of a message. It may join texts from several processes. Each text was shortened when it arrived."""


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    return next((condition for condition in conditions if condition.type == kind), None)


def is_true(conditions: Iterable[Condition], kind: str) -> bool:
    condition = find(conditions, kind)
    return condition is not None and condition.status == ConditionStatus.TRUE


def merge(
    previous: Iterable[Condition], verdicts: Mapping[K, Verdict], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The conditions for ``generation``. A transition time changes only if that condition's status changes."""
    former = {condition.type: condition for condition in previous}
    merged = []
    for kind, verdict in verdicts.items():
        old = former.get(kind)
        since = old.last_transition_time if old is not None and old.status == verdict.status else now
        message = text.clean(verdict.message, MAX_MESSAGE)
        merged.append(Condition(kind.value, verdict.status.value, verdict.reason, message, since, generation))
    return tuple(merged)


def differ(former: Iterable[Condition], latter: Iterable[Condition]) -> bool:
    """True if a status, a reason or a generation differs. Then the writer does not wait. A message alone may wait."""
    return _essence(former) != _essence(latter)


def _essence(conditions: Iterable[Condition]) -> set[tuple[str, str, str, int]]:
    return {(each.type, each.status, each.reason, each.observed_generation) for each in conditions}
