"""When an origin is tried again, and when it is abandoned."""

import random
import sys
from types import SimpleNamespace

import pytest

from pantala_protocol.reasons import Reason, Retry
from pantala_supernode import errors
from pantala_supernode.cdn.attempts import LATER_DELAY, MAX_DELAY, MAX_RESTARTS, Attempts, RetryBudget


class UpperEnd(random.Random):
    """Chance that always takes the upper end."""

    def uniform(self, a: float, b: float) -> float:
        return b


REFUSED = errors.SourceRefusedError("refused")


@pytest.mark.parametrize(
    ("error", "limit", "expected"),
    [
        (REFUSED, None, [0.5, 1, 2, 4, 8, 16, 32, 60, 60, *[MAX_DELAY] * 2000]),
        (REFUSED, 2, [0.5, 1, None]),
        (REFUSED, 0, [None]),
        (errors.SourceAnswerError("busy", retry_after=90.0), None, [90.0]),
        (errors.SourceForbiddenError("no", retry_after=1.0), 0, [LATER_DELAY]),
        (errors.VolumeFullError("full"), 0, [0.5, 1, 2, 4, 8]),
        (errors.DigestMismatchError("wrong"), None, [None]),
        (errors.SourceDeniedError("denied"), None, [LATER_DELAY]),
    ],
)
def test_the_delay_before_the_next_try_depends_on_the_failure(
    error: errors.SupernodeError, limit: int | None, expected: list[float | None]
) -> None:
    budget = RetryBudget()
    assert expected == [budget.delay(error, limit, UpperEnd()) for _ in expected]


def test_an_origin_that_contradicts_itself_is_abandoned() -> None:
    budget = RetryBudget(restarts=MAX_RESTARTS)
    error = errors.SourceChangedError("changed")
    assert budget.delay(error, None, UpperEnd()) is not None
    budget.restarts += 1
    assert budget.delay(error, None, UpperEnd()) is None


@pytest.mark.parametrize(
    ("kept", "streaks"),
    [
        ([1, 2, 3], [1, 1, 1]),  # each try gets further
        ([2, 4, 8, 8], [1, 1, 1, 2]),
        ([3, 3, 3], [1, 2, 3]),  # the same pieces again
        ([0, 0, 0], [1, 2, 3]),  # nothing arrives
        ([3, 2, 1], [1, 2, 3]),  # each try ends earlier
        ([3, 0, 4], [1, 2, 1]),
        ([1, 1, 2, 2], [1, 2, 1, 2]),
        ([5, 6, 5, 6], [1, 1, 2, 3]),
    ],
)
def test_only_more_pieces_than_ever_shorten_the_next_delay(kept: list[int], streaks: list[int]) -> None:
    attempts, found = Attempts(), []
    for count in kept:
        attempts.recorder = SimpleNamespace(have=(1 << count) - 1)  # type: ignore[assignment]
        attempts.progress()
        attempts.budget.delay(errors.SourceInterruptedError("cut"), None, random.Random(1))
        found.append(attempts.budget.streak)
    assert streaks == found


def test_repeated_cuts_are_counted_by_position() -> None:
    history = Attempts()
    assert [1, 2, 1, 1, 2] == [history.cut(position) for position in (7, 7, 8, 7, 7)]


def test_every_error_has_a_reason_that_says_what_to_do() -> None:
    def tree(kind: type[errors.SupernodeError]) -> list[type[errors.SupernodeError]]:
        return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]

    for kind in tree(errors.SupernodeError):
        assert kind.reason in Reason
        assert kind.reason.retry in Retry
        drawn = (errors.__doc__ or "") + (sys.modules[kind.__module__].__doc__ or "")
        assert kind.__name__ in drawn
