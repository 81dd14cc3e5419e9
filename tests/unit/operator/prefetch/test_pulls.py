"""Pulls by the nodes' runtimes, and the pins of their images."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.prefetch.inputs import RegistryAnswer
from pantala_operator.plan.prefetch.pins import Pin, pin
from pantala_operator.plan.prefetch.pulls import EvaluatedPull, PullRules, Step, evaluate, omissions
from pantala_operator.plan.prefetch.questions import LOOK_INTERVAL
from pantala_operator.plan.prefetch.run import Run
from pantala_operator.resources.prefetch import ImageKey, ImageStatus, PrefetchStatus
from pantala_operator.resources.retries import pause
from pantala_operator.resources.status import advised
from pantala_protocol import reasons
from pantala_protocol.images import PullPhase, PullState
from pantala_protocol.reasons import Reason, Retry
from pantala_protocol.registry import Resolved
from tests.support.prefetch import AMD64, NOW, ONE, ONLY_ONE, SECOND, UNIX, digest, node, refused, resolved, world

RULES = PullRules("run", UNIX, limit=6)
BROKEN = PullState(PullPhase.FAILED, UNIX, "run", reason="Unreachable")
HOUR = 3600


def evaluated(pull: PullState, now: int, rules: PullRules = RULES) -> EvaluatedPull:
    return evaluate(pull, None, rules, now)


def step(pull: PullState, now: int, rules: PullRules = RULES) -> Step:
    return evaluated(pull, now, rules).step


def test_pauses_double_up_to_five_minutes_or_the_first_pause() -> None:
    assert [10, 20, 40, 80, 160, 300, 300] == [pause("Unreachable", tries, None, 10) for tries in range(1, 8)]
    assert 900 == pause("Unreachable", 3, None, 900)
    assert 10 == pause("NewReason", 1, None, 10)
    assert 10 == pause("DigestMismatch", 1, None, 10), "unlike that of a file"


@pytest.mark.parametrize("reason", list(Reason))
def test_each_reason_has_advice_and_its_own_kind_of_retry(reason: Reason) -> None:
    advice = reasons.of_image(reason)
    assert f"It happened. {advice.action}" == advised("It happened", advice)
    assert f"It happened. {reason.action}" == advised(f"It happened. {reason.action}", reasons.of_image("NotFound"))
    expected = {Retry.NEVER: None, Retry.LATER: 300, Retry.SOON: 10}
    assert expected[advice.retry] == pause(reason, 1, None, 10)


@given(st.sampled_from([*Reason, "Other"]), st.integers(1, 10_000), st.integers(0, 50), st.integers(1, 86_400))
def test_retries_end_at_their_limit_and_pauses_are_bounded(reason: str, tries: int, limit: int, backoff: int) -> None:
    found = pause(reason, tries, limit, backoff)
    if tries > limit:
        assert found is None
    if found is not None:
        assert min(backoff, 300) <= found <= max(backoff, 300)


def test_a_failed_pull_waits_and_then_may_start_again() -> None:
    paused, due = evaluated(BROKEN, UNIX), evaluated(BROKEN, UNIX + 10)
    assert (Step.PAUSED, UNIX + 10, "Unreachable") == (paused.step, paused.changes_at, paused.reason)
    assert (Step.DUE, None, "Unreachable") == (due.step, due.changes_at, due.reason)


@pytest.mark.parametrize(
    ("number", "limit", "run", "expected"),
    [
        (6, 6, "run", Step.PAUSED),
        (7, 6, "run", Step.FAILED),
        (1, 0, "run", Step.FAILED),
        (99, 6, "before", Step.WAITING),
    ],
)
def test_the_limit_counts_retries_of_this_run(number: int, limit: int, run: str, expected: Step) -> None:
    tried = msgspec.structs.replace(BROKEN, number=number, run=run)
    assert expected is step(tried, UNIX, replace(RULES, limit=limit))


def test_a_silent_pull_has_failed_some_time_after_its_timeout() -> None:
    silent, until = PullState(PullPhase.PULLING, UNIX, "run"), UNIX + 630
    assert until == evaluated(silent, UNIX).changes_at
    assert Step.ACTIVE is step(silent, until - 1)
    failed = evaluated(silent, until)
    assert (Step.PAUSED, until + 10, "Timeout") == (failed.step, failed.changes_at, failed.reason)
    assert Step.DUE is step(silent, until + 10)


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        ((UNIX,), Step.WAITING),
        ((UNIX, UNIX + HOUR), Step.EVICTED),
        ((UNIX, UNIX + HOUR + 1), Step.WAITING),
        ((UNIX - 2, UNIX - 1), Step.WAITING),
    ],
    ids=["once", "twice", "later", "before this run"],
)
def test_a_removed_image_is_pulled_again_but_only_once_an_hour(gone: tuple[int, ...], expected: Step) -> None:
    assert expected is step(PullState(PullPhase.GONE, UNIX, "run", gone=gone), UNIX)


@given(st.lists(st.integers(0, 100_000), max_size=6))
def test_eviction_is_two_removals_within_an_hour(offsets: list[int]) -> None:
    times = sorted(UNIX + offset for offset in offsets)
    expected = any(later - earlier <= HOUR for earlier, later in combinations(times, 2))
    assert expected == (step(PullState(PullPhase.GONE, UNIX, gone=tuple(times)), UNIX) is Step.EVICTED)


@given(
    st.builds(
        PullState,
        st.sampled_from(list(PullPhase)),
        st.integers(UNIX, UNIX + 100_000),
        run=st.sampled_from(["run", "before"]),
        number=st.integers(1, 9),
        reason=st.sampled_from([*Reason, ""]),
    ),
    st.integers(0, 100_000),
)
def test_a_step_changes_exactly_when_it_is_announced(pull: PullState, offset: int) -> None:
    now = UNIX + offset
    at = evaluated(pull, now).changes_at
    if at is None:
        assert step(pull, now) is step(pull, now + 30 * 24 * HOUR)
        return
    assert now < at
    assert step(pull, now) is step(pull, at - 1)
    assert step(pull, now) is not step(pull, at)


KEY = ImageKey(ONE)
RUN = Run(NOW)
NEEDED = frozenset({AMD64})
REFUSED = refused("Unauthorized", "no")


def status(each: Pin) -> ImageStatus:
    return ImageStatus(each.key.reference, digest=each.digest, latest_digest=each.latest, resolved_time=each.resolved)


def test_a_moved_tag_is_reported_and_not_followed() -> None:
    first = pin(KEY, None, resolved("a"), RUN, follow=False)
    moved = pin(KEY, status(first), resolved("b", NOW + SECOND), RUN, follow=False)
    assert (digest("a"), digest("b"), NOW) == (moved.digest, moved.latest, moved.resolved)
    assert moved.platforms is None, "the known sizes are those of another image"
    back = pin(KEY, status(moved), resolved("a", NOW + 2 * SECOND), RUN, follow=False)
    assert (digest("a"), "") == (back.digest, back.latest)


def test_an_answer_of_another_run_does_not_count() -> None:
    first = pin(KEY, None, resolved("a"), RUN, follow=False)
    fresh = Run(NOW + SECOND)
    moved = replace(first, latest=digest("b"))
    waiting = pin(KEY, status(moved), resolved("a"), fresh, follow=False)
    assert (digest("a"), False, "") == (waiting.digest, waiting.current, waiting.latest)
    assert pin(KEY, status(first), resolved("b", NOW + SECOND), fresh, follow=False).current


def test_a_restart_forgets_nothing() -> None:
    first = pin(KEY, None, resolved("a"), RUN, follow=False)
    moved = pin(KEY, status(first), resolved("b", NOW + SECOND), RUN, follow=False)
    again = pin(KEY, status(moved), None, RUN, follow=False)
    assert (moved.digest, moved.latest, True) == (again.digest, again.latest, again.current)


def test_a_digest_names_itself() -> None:
    key = ImageKey(f"docker.io/library/one@{digest('a')}")
    found = pin(key, None, None, RUN, follow=False)
    assert (digest("a"), True, None) == (found.digest, found.current, found.platforms)
    assert pin(key, None, resolved("a"), RUN, follow=False).platforms is not None


def test_a_platform_is_missing_only_if_it_was_asked_for() -> None:
    found = pin(KEY, None, RegistryAnswer(NOW, Resolved(digest("a")), NEEDED), RUN, follow=False)
    assert {KEY: Reason.PLATFORM_MISSING} == omissions([found], AMD64, None)
    assert {} == omissions([found], "linux/arm64", None)
    assert {} == omissions([pin(KEY, None, resolved("a"), RUN, follow=False)], AMD64, None)


def test_an_image_for_one_platform_is_looked_up_by_it() -> None:
    older = f"{AMD64}/v3"
    answer = resolved("a", asked=frozenset({AMD64, older}))
    any_platform, one = (pin(key, None, answer, RUN, follow=False) for key in (KEY, KEY._replace(platform=AMD64)))
    assert {KEY: Reason.PLATFORM_MISSING} == omissions([any_platform, one], older, None)


def next_question(seen: RegistryAnswer | None, **spec: Any) -> datetime | None:
    """When the registry is asked about an image, in a run that started now; ``seen``: its answer so far."""
    it = world(node("a"), images=ONLY_ONE, **spec)
    it.each = msgspec.structs.replace(it.each, status=PrefetchStatus(observed_generation=1, start_time=NOW))
    it.answers = {} if seen is None else {KEY: seen}
    made = it.plan()
    return NOW if made.questions else made.wake_at


@pytest.mark.parametrize(
    ("seen", "watch", "expected"),
    [
        (None, False, NOW),
        (resolved("a", NOW - SECOND), False, NOW),
        (resolved("a"), False, None),
        (resolved("a"), True, NOW + LOOK_INTERVAL),
        (resolved("a", asked=frozenset()), False, NOW),
        (REFUSED, False, NOW + timedelta(minutes=5)),
        (refused("Unreachable"), False, NOW + timedelta(seconds=5)),
        (refused("Unreachable", tries=3), False, NOW + timedelta(seconds=20)),
        (refused("InvalidImage"), False, None),
    ],
)
def test_when_the_registry_is_asked(seen: RegistryAnswer | None, watch: bool, expected: object) -> None:
    """Whether the tag moves later matters only if nodes pull the image."""
    assert expected == next_question(seen, mode="Run" if watch else "Plan")


def test_no_registry_is_asked_before_the_first_run_and_none_again_about_a_digest() -> None:
    assert () == world(schedule={"cron": "0 6 * * *"}).plan().questions
    it = world(node("a"), images=[{"image": f"one@{digest('a')}"}], completionPolicy="Continuous")
    it.registry = {f"docker.io/library/one@{digest('a')}": resolved("a")}
    assert 1 == len(it.turn().questions)
    assert it.settle().wake_at is None


ANSWERS = st.lists(
    st.tuples(st.integers(-5, 50), st.sampled_from(["a", "b", "c", ""])).map(
        lambda each: resolved(each[1], NOW + each[0] * SECOND) if each[1] else refused("", at=NOW + each[0] * SECOND)
    )
)


@given(ANSWERS)
def test_within_a_run_a_pin_never_changes(answers: list[RegistryAnswer]) -> None:
    former: ImageStatus | None = None
    digests = set()
    for seen in [None, *answers, None]:
        found = pin(KEY, former, seen, RUN, follow=False)
        former = status(found)
        if found.current:
            digests.add(found.digest)
        assert found.latest != found.digest or not found.latest
    assert len(digests) <= 1


@given(ANSWERS)
def test_the_newest_answer_is_reported(answers: list[RegistryAnswer]) -> None:
    former: ImageStatus | None = None
    for seen in sorted(answers, key=lambda each: each.at):
        found = pin(KEY, former, seen, RUN, follow=True)
        former = status(found)
        if seen.resolved.digest and seen.at >= NOW:
            assert seen.resolved.digest == (found.latest or found.digest)
