"""Conditions of a resource, as Kubernetes and kstatus want them. Pure.

``Ready``, ``SourceResolved``, ``Cached`` and ``Distributed`` are good when True; ``Reconciling`` and ``Stalled`` are
abnormal when True. All of them are there from the first visit on, each stamped with the generation it speaks of, since
``kubectl wait`` compares that stamp.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypeVar

import msgspec

K = TypeVar("K", bound=StrEnum)


class ConditionType(StrEnum):
    """What conditions speak of."""

    READY = "Ready"
    SOURCE_RESOLVED = "SourceResolved"
    CACHED = "Cached"
    DISTRIBUTED = "Distributed"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Status(StrEnum):
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
    """What a condition shall say now."""

    status: Status
    reason: str
    message: str


MAX_MESSAGE = 1024
"""Characters of a message that are kept; an origin's or a peer's words may be long."""


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """The condition of one type, if there is one."""
    return next((condition for condition in conditions if condition.type == kind), None)


def is_true(conditions: Iterable[Condition], kind: str) -> bool:
    """Whether the condition is there and True."""
    condition = find(conditions, kind)
    return condition is not None and condition.status == Status.TRUE


def merge(
    previous: Iterable[Condition], verdicts: Mapping[K, Verdict], generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Conditions that say ``verdicts`` of ``generation``.

    The transition time moves only when a status does.
    """
    former = {condition.type: condition for condition in previous}
    merged = []
    for kind, verdict in verdicts.items():
        old = former.get(kind)
        since = old.last_transition_time if old is not None and old.status == verdict.status else now
        message = verdict.message if len(verdict.message) <= MAX_MESSAGE else verdict.message[: MAX_MESSAGE - 1] + "…"
        merged.append(Condition(kind.value, verdict.status.value, verdict.reason, message, since, generation))
    return tuple(merged)


def differ(former: Iterable[Condition], latter: Iterable[Condition]) -> bool:
    """Whether a status, a reason or a generation differs: what is told at once. Messages may wait."""
    return _essence(former) != _essence(latter)


def _essence(conditions: Iterable[Condition]) -> set[tuple[str, str, str, int]]:
    return {(each.type, each.status, each.reason, each.observed_generation) for each in conditions}
