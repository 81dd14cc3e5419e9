"""Tags are resolved once a run, and all nodes get the same digest."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantala_operator.plan.prefetch.inputs import RegistryAnswer
from pantala_operator.plan.prefetch.pins import Pin, pin
from pantala_operator.plan.prefetch.questions import LOOK_INTERVAL, ask_at
from pantala_operator.plan.prefetch.run import Run
from pantala_operator.resources.prefetch import ImageKey, ImageStatus
from pantala_protocol.reasons import Reason
from pantala_protocol.registry import Resolved
from tests.support.prefetch import AMD64, NOW, ONE, SECOND, digest, refused, resolved

KEY = ImageKey(ONE)
RUN = Run(NOW)
NEEDED = frozenset({AMD64})
REFUSED = refused("Unauthorized", "no")


def status(each: Pin) -> ImageStatus:
    return ImageStatus(each.key.reference, digest=each.digest, latest_digest=each.latest, resolved_time=each.resolved)


def test_a_tag_gets_the_digest_of_the_registrys_answer() -> None:
    found = pin(KEY, None, resolved("a"), RUN, follow=False)
    assert (digest("a"), True, NOW, "", None) == (
        found.digest, found.current, found.resolved, found.latest, found.problem,
    )  # fmt: skip
    assert found.platforms is not None


def test_before_an_answer_nothing_is_known() -> None:
    assert Pin(KEY) == pin(KEY, None, None, RUN, follow=False)


def test_a_moved_tag_is_reported_and_not_followed() -> None:
    first = pin(KEY, None, resolved("a"), RUN, follow=False)
    moved = pin(KEY, status(first), resolved("b", NOW + SECOND), RUN, follow=False)
    assert (digest("a"), digest("b"), NOW) == (moved.digest, moved.latest, moved.resolved)
    assert moved.platforms is None, "the known sizes are those of another image"
    back = pin(KEY, status(moved), resolved("a", NOW + 2 * SECOND), RUN, follow=False)
    assert (digest("a"), "") == (back.digest, back.latest)


def test_a_moved_tag_is_followed_if_the_spec_says_so() -> None:
    first = pin(KEY, None, resolved("a"), RUN, follow=True)
    moved = pin(KEY, status(first), resolved("b", NOW + SECOND), RUN, follow=True)
    assert (digest("b"), "", NOW + SECOND) == (moved.digest, moved.latest, moved.resolved)


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


def test_a_refusal_comes_with_advice() -> None:
    problem = pin(KEY, None, REFUSED, RUN, follow=False).problem
    assert problem is not None
    assert ("Unauthorized", f"{ONE}: no. {Reason.UNAUTHORIZED.action}", False) == problem


def test_a_platform_is_missing_only_if_it_was_asked_for() -> None:
    found = pin(KEY, None, RegistryAnswer(NOW, Resolved(digest("a")), NEEDED), RUN, follow=False)
    assert (True, False) == (found.lacks(AMD64), found.lacks("linux/arm64"))
    assert not pin(KEY, None, resolved("a"), RUN, follow=False).lacks(AMD64)
    forced = pin(KEY._replace(platform=AMD64), None, resolved("a"), RUN, follow=False)
    assert not forced.lacks("linux/arm64")


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
    assert expected == ask_at(KEY, seen, RUN, NEEDED, watch=watch)
    assert ask_at(KEY, seen, Run(), NEEDED, watch=watch) is None


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
