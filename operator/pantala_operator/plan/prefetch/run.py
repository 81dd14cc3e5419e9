"""Runs and their schedule: when a run starts, and when its time is over. Pure.

A schedule follows changes of the clock as Debian's cron and CronJobs do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from pantala_operator.plan.prefetch.inputs import ImageDemand
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

    token: str = ""
    """Tells the orders of this run from those of others; empty before the first run."""

    # The nodes' reports decide the rest.
    overdue: Obstacle | None = None
    """The run has missed its deadline."""
    idle: bool = False
    """Nothing happens until the next run."""
    resting: bool = False
    """A run of ``Once`` was completed before this plan, so everything stays as it is."""
    stopped: bool = False
    """The user or the deadline ends running pulls."""
    holding: bool = False
    """No pull starts, and running ones are cancelled."""


def current(demand: ImageDemand, now: datetime) -> Run:
    """The run at ``now``.

    Each new generation and each request starts a run. A schedule starts a run at each scheduled time, unless the
    object is suspended. Before the first scheduled time, an edit starts no run.
    """
    former, schedule = demand.former, demand.schedule
    fault, upcoming, due = (None, None, None) if schedule is None else _scheduled(schedule, demand, now)
    waits = former.started is None and schedule is not None
    edited = former.generation != demand.metadata.generation or former.started is None
    starts = due is not None or former.request != demand.request or (edited and not waits)
    started, completed, deadline = former.started, former.completed, None
    if starts:
        # Two runs never share a token, even if both start within a second.
        started = now if started is None else max(now, started + timedelta(seconds=1))
        completed = None
    if started is not None and completed is None and demand.deadline_seconds is not None:
        deadline = started + timedelta(seconds=demand.deadline_seconds)
    return Run(
        started=started,
        completed=completed,
        scheduled=due or former.scheduled,
        upcoming=upcoming,
        deadline=deadline,
        fresh=starts,
        fault=fault,
        token="" if started is None else started.strftime("%Y%m%dT%H%M%SZ"),
    )


def _scheduled(
    schedule: Schedule, demand: ImageDemand, now: datetime
) -> tuple[Obstacle | None, datetime | None, datetime | None]:
    """What is wrong with the schedule, its next due time, and the newest one that starts a run."""
    fault = schedule_fault(schedule, now)
    if fault is not None:
        return fault, None, None
    since = demand.former.scheduled or demand.metadata.creation_timestamp or now
    return None, following(schedule, now), None if demand.suspended else latest(schedule, since, now)


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
    """Due times later than ``after``. A schedule that cannot be read raises at once."""
    simulation = CronSim(schedule.cron, _local(schedule, after))
    return (due.astimezone(UTC) for due in simulation)


def _local(schedule: Schedule, at: datetime) -> datetime:
    return at.astimezone(ZoneInfo(schedule.time_zone))
