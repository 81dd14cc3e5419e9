"""One image on one node: retries and their pauses, silence, and images that go."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.prefetch import reasons
from pantala_operator.plan.prefetch.pull import Phase, Policy, Pull, Step, changes_at, evicted, pause, retry_at, step
from pantala_operator.plan.prefetch.reasons import ImageReason, advise
from pantala_operator.resources.prefetch import Retry as RetryPolicy
from pantala_protocol.reasons import Retry
from tests.unit.operator.prefetch.world import NOW

POLICY = Policy("run", NOW, RetryPolicy(), limit=6, timeout=600)
BROKEN = Pull(Phase.FAILED, NOW, "run", reason="Unreachable")
SECONDS = st.integers(0, 100_000).map(lambda seconds: timedelta(seconds=seconds))


def test_pauses_double_up_to_five_minutes() -> None:
    found = [pause("Unreachable", tries, None, 10) for tries in range(1, 8)]
    assert [10, 20, 40, 80, 160, 300, 300] == [each.total_seconds() for each in found if each is not None]


def test_a_longer_first_pause_is_kept() -> None:
    assert timedelta(seconds=900) == pause("Unreachable", 3, None, 900)


@pytest.mark.parametrize("reason", list(ImageReason))
def test_each_reason_says_what_to_do_and_is_retried_as_it_deserves(reason: ImageReason) -> None:
    assert advise("It happened", reason).startswith("It happened. ")
    match reasons.advice(reason).retry:
        case Retry.NEVER:
            assert pause(reason, 1, None, 10) is None
        case Retry.LATER:
            assert timedelta(minutes=5) == pause(reason, 1, None, 10)
        case Retry.SOON:
            assert timedelta(seconds=10) == pause(reason, 1, None, 10)


def test_a_reason_nobody_knows_is_retried() -> None:
    assert timedelta(seconds=10) == pause("NeverHeardOf", 1, None, 10)


@given(st.sampled_from([*ImageReason, "Other"]), st.integers(1, 10_000), st.integers(0, 50), st.integers(1, 86_400))
def test_retries_end_at_their_limit_and_pauses_are_bounded(reason: str, tries: int, limit: int, backoff: int) -> None:
    found = pause(reason, tries, limit, backoff)
    if tries > limit:
        assert found is None
    if found is not None:
        assert timedelta(seconds=min(backoff, 300)) <= found <= timedelta(seconds=max(backoff, 300))


def test_a_failed_pull_waits_and_then_may_begin_again() -> None:
    at = NOW + timedelta(seconds=10)
    assert (Step.PAUSED, at) == (step(BROKEN, POLICY, NOW), changes_at(BROKEN, POLICY, NOW))
    assert (Step.DUE, None) == (step(BROKEN, POLICY, at), changes_at(BROKEN, POLICY, at))


def test_the_limit_counts_retries() -> None:
    tried = replace(BROKEN, tries=6)
    assert Step.PAUSED is step(tried, POLICY, NOW)
    assert Step.FAILED is step(replace(tried, tries=7), POLICY, NOW)
    assert Step.FAILED is step(BROKEN, replace(POLICY, limit=0), NOW)


def test_a_failure_of_another_run_is_forgotten() -> None:
    assert Step.WAITING is step(replace(BROKEN, run="before", tries=99), POLICY, NOW)


def test_a_silent_pull_has_failed_some_time_after_its_timeout() -> None:
    silent = Pull(Phase.PULLING, NOW, "run")
    until = NOW + timedelta(seconds=630)
    assert until == changes_at(silent, POLICY, NOW)
    assert Step.ACTIVE is step(silent, POLICY, until - timedelta(seconds=1))
    assert Step.PAUSED is step(silent, POLICY, until)
    assert until + timedelta(seconds=10) == changes_at(silent, POLICY, until)
    assert Step.DUE is step(silent, POLICY, until + timedelta(seconds=10))


def test_an_image_that_went_once_is_pulled_again_and_not_a_third_time() -> None:
    hour, second = timedelta(hours=1), timedelta(seconds=1)
    gone = Pull(Phase.GONE, NOW, "run", gone=(NOW,))
    assert Step.WAITING is step(gone, POLICY, NOW)
    assert Step.EVICTED is step(replace(gone, gone=(NOW, NOW + hour)), POLICY, NOW)
    assert Step.WAITING is step(replace(gone, gone=(NOW, NOW + hour + second)), POLICY, NOW)


def test_a_new_run_forgets_what_went_before_it() -> None:
    twice = Pull(Phase.GONE, NOW, gone=(NOW - timedelta(seconds=2), NOW - timedelta(seconds=1)))
    assert Step.WAITING is step(twice, POLICY, NOW)


@given(st.lists(SECONDS, max_size=6))
def test_eviction_is_two_within_an_hour(offsets: list[timedelta]) -> None:
    times = sorted(NOW + offset for offset in offsets)
    expected = any(
        abs(times[one] - times[other]) <= timedelta(hours=1) for one in range(len(times)) for other in range(one)
    )
    assert expected == evicted(Pull(Phase.GONE, NOW, gone=tuple(times)), NOW)


@given(
    st.builds(
        Pull,
        st.sampled_from(list(Phase)),
        SECONDS.map(lambda offset: NOW + offset),
        run=st.sampled_from(["run", "before"]),
        tries=st.integers(1, 9),
        reason=st.sampled_from([*ImageReason, ""]),
    ),
    SECONDS,
)
def test_what_changes_by_itself_changes_at_the_moment_that_is_named(pull: Pull, offset: timedelta) -> None:
    now = NOW + offset
    at = changes_at(pull, POLICY, now)
    if at is None:
        assert step(pull, POLICY, now) is step(pull, POLICY, now + timedelta(days=30))
        return
    assert now < at
    assert step(pull, POLICY, now) is step(pull, POLICY, at - timedelta(seconds=1))
    assert step(pull, POLICY, now) is not step(pull, POLICY, at)


def test_a_retry_is_counted_from_the_failure() -> None:
    assert NOW + timedelta(seconds=10) == retry_at(BROKEN, POLICY)
