"""When runs start and stop, and when a schedule is due, over changes of the clock."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pantala_operator.plan.prefetch import run as runs
from pantala_operator.plan.prefetch.inputs import GivenOrder
from pantala_operator.plan.prefetch.plan import PrefetchPlan, demand_of, plan
from pantala_operator.plan.prefetch.run import Run, following, latest, schedule_fault
from pantala_operator.resources.prefetch import ImagePrefetch, PrefetchStatus, Schedule
from pantala_protocol.rules.requests import REQUESTED_AT
from tests.support.prefetch import NO, NOW, ONLY_ONE, READY, SECOND, World, prefetch, settled, world

BERLIN = "Europe/Berlin"
NIGHTLY = Schedule("30 2 * * *", BERLIN)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def berlin(*parts: int, fold: int = 0) -> datetime:
    year, month, day, hour, minute = parts
    return datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(BERLIN), fold=fold).astimezone(UTC)


def current(each: ImagePrefetch, now: datetime) -> Run:
    return runs.current(demand_of(each), now)


def ran(each: ImagePrefetch, at: datetime, completed: datetime | None = None, **changes: object) -> ImagePrefetch:
    """The ImagePrefetch after a plan at that time."""
    run = current(each, at)
    status = PrefetchStatus(
        observed_generation=each.metadata.generation,
        start_time=run.started,
        completion_time=completed,
        last_schedule_time=run.scheduled,
        last_handled_request=each.requested_at,
    )
    return msgspec.structs.replace(each, status=status, **changes)


def test_a_run_starts_at_once_and_continues() -> None:
    first = current(prefetch(), NOW)
    assert (NOW, True) == (first.started, first.fresh)
    again = current(ran(prefetch(), NOW, completed=NOW), NOW + HOUR)
    assert (NOW, NOW, False) == (again.started, again.completed, again.fresh)


@pytest.mark.parametrize("changed", [prefetch(generation=2), prefetch(annotations={REQUESTED_AT: "again"})])
def test_an_edit_and_a_request_start_a_run(changed: ImagePrefetch) -> None:
    former = ran(prefetch(), NOW, completed=NOW)
    run = current(msgspec.structs.replace(changed, status=former.status), NOW + HOUR)
    assert (NOW + HOUR, None, True) == (run.started, run.completed, run.fresh)


def test_the_removal_of_a_request_starts_no_run() -> None:
    """``kubectl replace`` removes an annotation that the file does not have."""
    former = ran(prefetch(annotations={REQUESTED_AT: "x"}), NOW, completed=NOW)
    removed = msgspec.structs.replace(prefetch(), status=former.status)
    assert not current(removed, NOW + HOUR).fresh
    again = msgspec.structs.replace(prefetch(annotations={REQUESTED_AT: "y"}), status=former.status)
    assert current(again, NOW + HOUR).fresh


def test_two_runs_never_have_the_same_token() -> None:
    former = ran(prefetch(), NOW)
    edited = msgspec.structs.replace(prefetch(generation=2), status=former.status)
    assert current(former, NOW).token != current(edited, NOW).token


def test_with_a_schedule_nothing_starts_before_the_first_due_time() -> None:
    each = prefetch(schedule={"cron": "30 2 * * *", "timeZone": BERLIN})
    due = berlin(2026, 1, 1, 2, 30)
    waiting = current(each, due - SECOND)
    assert (None, due, False) == (waiting.started, waiting.upcoming, waiting.fresh)
    edited = msgspec.structs.replace(prefetch(generation=2, schedule={"cron": "30 2 * * *", "timeZone": BERLIN}))
    assert current(msgspec.structs.replace(edited, status=ran(each, due - SECOND).status), due - SECOND).started is None
    first = current(each, due)
    assert (due, due, due + DAY) == (first.started, first.scheduled, first.upcoming)


def test_one_run_makes_up_for_all_that_were_missed() -> None:
    each = ran(prefetch(schedule={"cron": "30 2 * * *", "timeZone": BERLIN}), berlin(2026, 1, 1, 2, 30))
    late = berlin(2026, 1, 9, 12, 0)
    run = current(each, late)
    assert (late, berlin(2026, 1, 9, 2, 30)) == (run.started, run.scheduled)
    assert not current(ran(each, late), late + HOUR).fresh


def test_due_times_pass_while_suspended_and_one_run_makes_up_for_them() -> None:
    hourly = {"cron": "0 * * * *"}
    each = ran(prefetch(suspend=True, schedule=hourly), NOW)
    assert current(each, NOW + 5 * HOUR).started is None
    resumed = msgspec.structs.replace(prefetch(generation=2, schedule=hourly), status=each.status)
    assert NOW + 5 * HOUR == current(resumed, NOW + 5 * HOUR).started


@pytest.mark.parametrize(
    ("cron", "zone", "says"),
    [
        ("61 2 * * *", "Etc/UTC", "the minute 61 is not"),
        ("30 2 30 2 *", "Etc/UTC", "Bad day-of-month"),
        ("0 0 * * *", "Mars/Base", "Mars"),
    ],
)
def test_an_invalid_schedule_is_reported(cron: str, zone: str, says: str) -> None:
    run = current(prefetch(schedule={"cron": cron, "timeZone": zone}), NOW)
    assert run.fault is not None
    assert ("ScheduleInvalid", True, True) == (run.fault.reason, run.fault.final, says in run.fault.message)
    assert run.fault.message.endswith("Correct spec.schedule.")


@pytest.mark.parametrize(
    ("after", "due"),
    [
        (berlin(2026, 3, 28, 12, 0), berlin(2026, 3, 29, 3, 0)),
        (berlin(2026, 3, 29, 3, 0), berlin(2026, 3, 30, 2, 30)),
        (berlin(2026, 10, 24, 12, 0), berlin(2026, 10, 25, 2, 30)),
        (berlin(2026, 10, 25, 2, 30), berlin(2026, 10, 26, 2, 30)),
    ],
)
def test_a_skipped_time_is_due_right_after_and_a_repeated_one_once(after: datetime, due: datetime) -> None:
    assert due == following(NIGHTLY, after)


@given(
    st.lists(st.text("0123456789*,-/#LWjanmo", min_size=1, max_size=6), min_size=5, max_size=5).map(" ".join),
    st.sampled_from([BERLIN, "Etc/UTC", "Nowhere", "Europe", "../x", "a\0b"]),
)
def test_any_text_is_read_or_refused(cron: str, zone: str) -> None:
    wanted = Schedule(cron, zone)
    if schedule_fault(wanted, NOW) is None:
        following(wanted, NOW)


CRONS = st.sampled_from(["30 2 * * *", "*/7 * * * *", "0 3 * * mon", "15 1,2,3 * * *", "0 0 29 2 *", "5 4 1 */3 *"])
ZONES = st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Etc/UTC", "Asia/Kathmandu"])
TIMES = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)).map(
    lambda at: at.replace(microsecond=0)
)


@given(CRONS, ZONES, TIMES)
@example("30 2 * * *", BERLIN, berlin(2026, 3, 28, 12, 0))
@example("30 2 * * *", BERLIN, berlin(2026, 10, 24, 12, 0))
def test_due_times_grow_and_are_found_again(cron: str, zone: str, at: datetime) -> None:
    wanted = Schedule(cron, zone)
    due = following(wanted, at)
    assert due is not None
    assert due > at
    assert due == latest(wanted, at, due)
    assert latest(wanted, at, due - SECOND) is None
    later = following(wanted, due)
    assert later is not None
    assert later > due
    assert due == latest(wanted, at, later - SECOND)


@given(ZONES, TIMES)
def test_a_daily_time_is_due_once_a_day(zone: str, at: datetime) -> None:
    wanted, days = Schedule("30 2 * * *", zone), []
    for _ in range(5):
        due = following(wanted, at)
        assert due is not None
        days.append(due.astimezone(ZoneInfo(zone)).date())
        at = due
    assert [days[0] + DAY * number for number in range(5)] == days


def test_a_run_has_a_deadline_until_it_is_completed() -> None:
    each = prefetch(activeDeadlineSeconds=60)
    assert NOW + 60 * SECOND == current(each, NOW).deadline
    assert current(ran(each, NOW, completed=NOW), NOW).deadline is None
    assert settled(activeDeadlineSeconds=60).plan().wake_at is None
    assert current(prefetch(), NOW).deadline is None


def halfway(**spec: Any) -> World:
    """Node a has the image, b and c pull it."""
    it = world(images=ONLY_ONE, outcome=lambda _image, name, _: READY if name == "a" else None, **spec)
    it.turn(5)
    assert {"b": 1, "c": 1} == it.active()
    return it


def early(it: World, *, may_cancel: bool = True, remembers: bool = True) -> PrefetchPlan[PrefetchStatus]:
    """The plan before all nodes have reported; a process that just started does not remember its orders."""
    orders = it.orders if remembers else {}
    return plan(it.each, replace(it.observe(), reported=False, may_cancel=may_cancel, orders=orders), it.now)


def given_orders(made: PrefetchPlan[PrefetchStatus]) -> dict[str, GivenOrder]:
    assert made.orders.orders is not None
    (orders,) = made.orders.orders.values()
    return dict(orders)


@pytest.mark.parametrize("remembers", [True, False], ids=["supernode restarted", "operator restarted"])
@pytest.mark.parametrize("spec", [{"suspend": True}, {"mode": "Plan"}], ids=str)
def test_an_edit_that_stops_cancels_pulls_before_all_nodes_report(spec: dict[str, Any], remembers: bool) -> None:
    """Nodes that have the image keep it."""
    it = halfway()
    before = given_orders(it.plan())["a"].order
    it.edit(images=ONLY_ONE, **spec)
    assert {"a": before} == {name: each.order for name, each in given_orders(early(it, remembers=remembers)).items()}


def test_a_deadline_cancels_pulls_before_all_nodes_report() -> None:
    it = halfway(activeDeadlineSeconds=60)
    it.now = NOW + 60 * SECOND
    assert ["a"] == list(given_orders(early(it)))


def test_nothing_else_cancels_pulls_before_all_nodes_report() -> None:
    it = halfway()
    assert early(it).orders.orders is None
    it.edit(images=ONLY_ONE)
    assert early(it).orders.orders is None


def test_after_a_restart_an_older_suspension_waits_for_all_nodes() -> None:
    """A silent node may have the image and must keep it."""
    it = halfway()
    it.edit(images=ONLY_ONE, suspend=True)
    it.turn(2)
    assert early(it, may_cancel=False).orders.orders is None


@pytest.mark.parametrize("reported", [True, False])
def test_suspending_keeps_images_and_resuming_continues_the_pulls(reported: bool) -> None:
    it = halfway()
    it.edit(images=ONLY_ONE, suspend=True)
    if reported:
        it.turn()
        assert [(NO, "Suspended")] * 3 == it.summary()
    else:
        it.latest = early(it)
        it.work()
    assert ({}, [{"a"}]) == (it.active(), it.ordered())
    it.edit(generation=3, images=ONLY_ONE)
    it.finish()
    assert "3/3" == it.each.status.summary
