"""Decides when a run starts by schedule, edit or request, and when it misses its deadline. Pure.

A schedule follows changes of the clock as Debian's cron and CronJobs do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from pantala_operator.plan.prefetch.inputs import ImageDemand
from pantala_operator.resources import cron
from pantala_operator.resources.prefetch import Schedule
from pantala_operator.resources.status import Obstacle
from pantala_protocol.reasons import Reason

_OVERLAP = timedelta(days=1)
"""A search begins earlier by this time, so that forward and backward searches agree at changes of the clock."""


@dataclass(frozen=True, slots=True)
class Run:
    """One resolution of all tags, and the pulls that follow from it."""

    started: datetime | None = None
    """The start of the run. ``None`` before the first scheduled time."""
    completed: datetime | None = None
    """The time at which every node had every image for the first time."""
    scheduled: datetime | None = None
    """The newest scheduled time that has started a run."""
    upcoming: datetime | None = None
    """The next scheduled time."""
    deadline: datetime | None = None
    """The time at which the run ends if it is not completed."""
    fresh: bool = False
    """True if the run starts with this plan."""
    fault: Obstacle | None = None
    """Why the schedule cannot be used, if so."""

    token: str = ""
    """A text that distinguishes the orders of this run from the orders of other runs. Empty before the first run."""

    # The stage ``pulls`` sets the following fields, by the nodes' reports.
    overdue: Obstacle | None = None
    """Set if the run has missed its deadline."""
    idle: bool = False
    """True if nothing happens before the next run."""
    resting: bool = False
    """True if a run with policy ``Once`` was completed before this plan, so that nothing changes any more."""
    stopped: bool = False
    """True if running pulls are cancelled, because of the user or the deadline."""
    holding: bool = False
    """True if no pull starts and running pulls are cancelled."""


def current(demand: ImageDemand, now: datetime) -> Run:
    """The run in progress at ``now``.

    Each new generation and each request starts a run. A schedule starts a run at each scheduled time, unless the
    object is suspended. Before the first scheduled time, an edit starts no run.
    """
    former, schedule, limit = demand.former, demand.spec.schedule, demand.spec.active_deadline_seconds
    fault, upcoming, due = (None, None, None) if schedule is None else _scheduled(schedule, demand, now)
    waits = former.start_time is None and schedule is not None
    edited = former.observed_generation != demand.metadata.generation or former.start_time is None
    starts = due is not None or former.last_handled_request != demand.request or (edited and not waits)
    started, completed, deadline = former.start_time, former.completion_time, None
    if starts:
        # Two runs never share a token, even if both start within a second.
        started = now if started is None else max(now, started + timedelta(seconds=1))
        completed = None
    if started is not None and completed is None and limit is not None:
        deadline = started + timedelta(seconds=limit)
    return Run(
        started=started,
        completed=completed,
        scheduled=due or former.last_schedule_time,
        upcoming=upcoming,
        deadline=deadline,
        fresh=starts,
        fault=fault,
        token="" if started is None else started.strftime("%Y%m%dT%H%M%SZ"),
    )


def _scheduled(
    schedule: Schedule, demand: ImageDemand, now: datetime
) -> tuple[Obstacle | None, datetime | None, datetime | None]:
    """An error of the schedule, its next time, and the newest time that starts a run. Each may be ``None``."""
    fault = schedule_fault(schedule, now)
    if fault is not None:
        return fault, None, None
    since = demand.former.last_schedule_time or demand.metadata.creation_timestamp or now
    return None, following(schedule, now), None if demand.spec.suspend else latest(schedule, since, now)


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
    """Yield the scheduled times after ``after``. Raises at once for an invalid schedule."""
    simulation = CronSim(cron.standard(schedule.cron), _local(schedule, after))
    return (due.astimezone(UTC) for due in simulation)


def _local(schedule: Schedule, at: datetime) -> datetime:
    return at.astimezone(ZoneInfo(schedule.time_zone))
