"""When a schedule is due, in its time zone, over changes of the clock as Debian's cron and CronJobs have it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from pantala_operator.plan.prefetch import reasons
from pantala_operator.plan.prefetch.reasons import ImageReason
from pantala_operator.plan.problem import Problem
from pantala_operator.resources.prefetch import Schedule

_OVERLAP = timedelta(days=1)
"""Looking back this much further makes both directions agree on changes of the clock."""


def fault(schedule: Schedule, now: datetime) -> Problem | None:
    """What is wrong with it, if anything is."""
    try:
        _forward(schedule, now)
    except (CronSimError, ZoneInfoNotFoundError, ValueError, OSError) as error:
        why = str(error).strip("'")
        what = f"spec.schedule {schedule.cron!r} in {schedule.time_zone!r} cannot be read: {why}"
        return reasons.problem(ImageReason.SCHEDULE_INVALID, what)
    return None


def following(schedule: Schedule, after: datetime) -> datetime | None:
    """The first due time later than ``after``; ``None``: there is none within decades. ``schedule`` has no fault."""
    return next(_forward(schedule, after), None)


def latest(schedule: Schedule, after: datetime, until: datetime) -> datetime | None:
    """The last due time later than ``after`` and not later than ``until``. ``schedule`` has no fault."""
    backward = CronSim(schedule.cron, _local(schedule, until + timedelta(seconds=1)), reverse=True)
    near = next(backward, None)
    if near is None:
        return None
    found: datetime | None = None
    for due in _forward(schedule, max(after, near.astimezone(UTC) - _OVERLAP)):
        if due > until:
            return found
        found = due
    return found


def _forward(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    """Due times later than ``after``. What cannot be read raises at once."""
    simulation = CronSim(schedule.cron, _local(schedule, after))
    return (due.astimezone(UTC) for due in simulation)


def _local(schedule: Schedule, at: datetime) -> datetime:
    return at.astimezone(ZoneInfo(schedule.time_zone))
