"""Keeps the operator running if the plan of one object has a bug. The plans of all other objects continue."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum

import msgspec
import structlog
from cachetools import LRUCache

from pantala_operator.control.writer import Planned, Writer
from pantala_operator.plan.peer import PeerCondition
from pantala_operator.plan.sources import SourcePolicyCondition
from pantala_operator.resources import conditions, status
from pantala_operator.resources.api import PeerResource
from pantala_operator.resources.conditions import Condition, ConditionType, Verdict
from pantala_operator.resources.sources import SourcePolicy
from pantala_operator.resources.status import Obstacle
from pantala_protocol.reasons import Reason

log = structlog.get_logger(__name__)

_SUMMARY = (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED)
_LOGGED = 1000
"""The most bugs that are remembered. A remembered bug is logged once and not at each turn."""


class PlanGuard:
    """Reports the bugs in plans: in the log, in the object's conditions, and as an Event."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._logged: LRUCache[tuple[str, str], bool] = LRUCache(_LOGGED)

    @contextmanager
    def planning(self, each: Planned | None, now: datetime) -> Iterator[None]:
        """Run the plan of an object. The object is planned again when it changes. ``None``: it does not exist yet."""
        try:
            yield
        except Exception as error:
            self._log(each, error)
            if each is not None:
                made = conditions_of(each, error, now)
                failed = msgspec.structs.replace(each.status, conditions=made)
                self._writer.write(each, failed, announce=True)

    def _log(self, each: Planned | None, error: Exception) -> None:
        key = each.metadata.uid if each is not None else "", repr(error)
        if key not in self._logged:
            self._logged[key] = True
            name = f"{type(each).__name__} {each.metadata.key}" if each is not None else "a new Peer"
            log.exception("An object was not planned because of a bug. Please report it.", object=name)


def conditions_of(each: Planned, error: Exception, now: datetime) -> tuple[Condition, ...]:
    """The object's conditions with the bug. Conditions that the bug does not concern stay the same."""
    text = f"The operator cannot plan this object because of a bug ({type(error).__name__})"
    obstacle = Obstacle(Reason.INTERNAL, f"{text}. Read the operator's log, and please report the problem.")
    summary = status.evaluate(status.PENDING, obstacle=obstacle)
    verdicts: Mapping[StrEnum, Verdict]
    match each:
        case PeerResource():
            verdicts = {PeerCondition.READY: summary.ready}
        case SourcePolicy():
            verdicts = {SourcePolicyCondition.ACCEPTED: summary.ready}
        case _:
            verdicts = dict(zip(_SUMMARY, summary, strict=True))
    former = each.status.conditions
    made = {one.type: one for one in conditions.merge(former, verdicts, each.metadata.generation, now)}
    return (*(made.pop(one.type, one) for one in former), *made.values())
