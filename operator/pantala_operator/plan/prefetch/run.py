"""Runs and their schedule: when a run starts, and when its time is over. Pure.

A schedule follows changes of the clock as Debian's cron and CronJobs do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from pantala_operator.plan.prefetch.inputs import ImageDemand
from pantala_operator.resources import cron
from pantala_operator.resources.prefetch import Schedule
from pantala_operator.resources.status import Obstacle
from pantala_protocol.reasons import Reason

_OVERLAP = timedelta(days=1)
"""Looking back this much further makes both directions agree on changes of the clock."""


@dataclass(frozen=True, slots=True)
class Run:
    """One resolution of all tags, and the pulls that follow from it."""

    started: datetime | None = None
    """``None``: before the schedule's first due time."""
    completed: datetime | None = None
    """When all was done for the first time."""
    scheduled: datetime | None = None
    """The newest due time of the schedule that was acted upon."""
    upcoming: datetime | None = None
    """The schedule's next due time."""
    deadline: datetime | None = None
    """When the run is given up if it is not completed."""
    fresh: bool = False
    """It starts with this plan."""
    fault: Obstacle | None = None
    """What is wrong with the schedule."""

    @property
    def token(self) -> str:
        """Tells the orders of this run from those of others; empty before the first run."""
        return "" if self.started is None else self.started.strftime("%Y%m%dT%H%M%SZ")

    def complete_at(self, now: datetime) -> Run:
        """The run, completed at ``now`` unless it was before."""
        return self if self.completed is not None else replace(self, completed=now, deadline=None)


def current(demand: ImageDemand, now: datetime) -> Run:
    """The run at ``now``.

    Each new generation and each request starts a run. A schedule starts a run at each scheduled time, unless the
    object is suspended. Before the first scheduled time, an edit starts no run.
    """
    former, schedule = demand.former, demand.schedule
    requested = former.request != demand.request
    edited = former.generation != demand.metadata.generation
    due = upcoming = fault = None
    if schedule is not None:
        fault = schedule_fault(schedule, now)
        if fault is None:
            upcoming = following(schedule, now)
            since = former.scheduled or demand.metadata.creation_timestamp or now
            due = None if demand.suspended else latest(schedule, since, now)
    waits = former.started is None and schedule is not None
    starts = due is not None or requested or (not waits and (edited or former.started is None))
    started = _later(former.started, now) if starts else former.started
    completed = None if starts else former.completed
    return Run(
        started=started,
        completed=completed,
        scheduled=due or former.scheduled,
        upcoming=upcoming,
        deadline=None if completed is not None else _deadline(demand.deadline_seconds, started),
        fresh=starts,
        fault=fault,
    )


def _deadline(seconds: int | None, started: datetime | None) -> datetime | None:
    return None if seconds is None or started is None else started + timedelta(seconds=seconds)


def _later(former: datetime | None, now: datetime) -> datetime:
    """``now``, or a second after ``former``: two runs never share a token, even if both start within a second."""
    return now if former is None else max(now, former + timedelta(seconds=1))


def schedule_fault(schedule: Schedule, now: datetime) -> Obstacle | None:
    try:
        _forward(schedule, now)
    except (CronSimError, ZoneInfoNotFoundError, ValueError, OSError) as error:
        why = str(error).strip("'")
        what = f"spec.schedule {schedule.cron!r} in {schedule.time_zone!r} cannot be read: {why}"
        return Obstacle.of(Reason.SCHEDULE_INVALID, what)
    return None


def following(schedule: Schedule, after: datetime) -> datetime | None:
    """The first scheduled time after ``after``. ``None``: no such time in the next decades. ``schedule`` is valid."""
    return next(_forward(schedule, after), None)


def latest(schedule: Schedule, after: datetime, until: datetime) -> datetime | None:
    """The last scheduled time after ``after`` and not after ``until``. ``schedule`` is valid."""
    expression = cron.standard(schedule.cron)
    backward = CronSim(expression, _local(schedule, until + timedelta(seconds=1)), reverse=True)
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
    """Due times later than ``after``. A schedule that cannot be read raises at once."""
    simulation = CronSim(cron.standard(schedule.cron), _local(schedule, after))
    return (due.astimezone(UTC) for due in simulation)


def _local(schedule: Schedule, at: datetime) -> datetime:
    return at.astimezone(ZoneInfo(schedule.time_zone))
