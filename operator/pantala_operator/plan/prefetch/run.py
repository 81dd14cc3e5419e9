"""Runs: when one starts, when it is given up, when it has been finished for long enough. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pantala_operator.plan.prefetch import schedule
from pantala_operator.plan.problem import Problem
from pantala_operator.resources.prefetch import ImagePrefetch


@dataclass(frozen=True, slots=True)
class Run:
    """One resolution of all tags, and the pulls that follow from it."""

    started: datetime | None = None
    """``None``: the schedule's first due time is yet to come."""
    completed: datetime | None = None
    """When all was done for the first time."""
    scheduled: datetime | None = None
    """The schedule's due time that was acted upon last."""
    upcoming: datetime | None = None
    """The schedule's next due time."""
    fresh: bool = False
    """It starts with this plan."""
    fault: Problem | None = None
    """What is wrong with the schedule."""

    @property
    def token(self) -> str:
        """Tells orders of this run from those of others; empty before the first."""
        return "" if self.started is None else self.started.strftime("%Y%m%dT%H%M%SZ")

    def completing(self, now: datetime) -> Run:
        """The run, done at ``now`` unless it was before."""
        return self if self.completed is not None else replace(self, completed=now)


def current(prefetch: ImagePrefetch, now: datetime) -> Run:
    """The run that is on at ``now``.

    One starts with each new generation and request. With a schedule, one starts at each due time that is not passed
    while suspended, and an edit starts none before the first.
    """
    spec, status = prefetch.spec, prefetch.status
    requested = status.last_handled_request != prefetch.requested_at
    edited = status.observed_generation != prefetch.metadata.generation
    due = upcoming = fault = None
    if spec.schedule is not None:
        fault = schedule.fault(spec.schedule, now)
        if fault is None:
            upcoming = schedule.following(spec.schedule, now)
            since = status.last_schedule_time or prefetch.metadata.creation_timestamp or now
            due = None if spec.suspend else schedule.latest(spec.schedule, since, now)
    waits = status.start_time is None and spec.schedule is not None
    begins = due is not None or requested or (not waits and (edited or status.start_time is None))
    return Run(
        started=_later(status.start_time, now) if begins else status.start_time,
        completed=None if begins else status.completion_time,
        scheduled=due or status.last_schedule_time,
        upcoming=upcoming,
        fresh=begins,
        fault=fault,
    )


def deadline(prefetch: ImagePrefetch, run: Run) -> datetime | None:
    """When the run is given up, if it is not done by then."""
    seconds = prefetch.spec.active_deadline_seconds
    if seconds is None or run.started is None or run.completed is not None:
        return None
    return run.started + timedelta(seconds=seconds)


def expiry(prefetch: ImagePrefetch, finished: datetime | None) -> datetime | None:
    """When an ImagePrefetch that ``finished`` then is deleted."""
    seconds = prefetch.spec.ttl_seconds_after_finished
    return None if seconds is None or finished is None else finished + timedelta(seconds=seconds)


def _later(former: datetime | None, now: datetime) -> datetime:
    """``now``, or a second after ``former``: no two runs have one token, even if both start within a second."""
    return now if former is None else max(now, former + timedelta(seconds=1))
