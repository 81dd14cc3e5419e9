"""Conditions keep Kubernetes' promises."""

from datetime import UTC, datetime, timedelta

from pantala_operator.resources.conditions import (
    MAX_MESSAGE,
    Condition,
    ConditionStatus,
    ConditionType,
    Verdict,
    differ,
    is_true,
    merge,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def verdict(status: ConditionStatus, reason: str = "R", message: str = "m") -> dict[ConditionType, Verdict]:
    return {ConditionType.READY: Verdict(status, reason, message)}


def test_the_transition_time_moves_with_the_status_only() -> None:
    first = merge((), verdict(ConditionStatus.FALSE), 1, NOW)
    same = merge(first, verdict(ConditionStatus.FALSE, "Other", "other"), 1, LATER)
    assert [NOW] == [each.last_transition_time for each in same]
    assert ["Other"] == [each.reason for each in same]
    changed = merge(same, verdict(ConditionStatus.TRUE), 1, LATER)
    assert [LATER] == [each.last_transition_time for each in changed]


def test_every_condition_is_stamped_with_the_generation_though_nothing_changed() -> None:
    first = merge((), verdict(ConditionStatus.TRUE), 1, NOW)
    assert [2] == [each.observed_generation for each in merge(first, verdict(ConditionStatus.TRUE), 2, LATER)]


def test_long_messages_are_cut() -> None:
    (condition,) = merge((), verdict(ConditionStatus.FALSE, message="x" * 5000), 1, NOW)
    assert (MAX_MESSAGE, "…") == (len(condition.message), condition.message[-1])


def test_which_changes_are_written_at_once() -> None:
    """A message alone may wait."""
    base = Condition("Ready", "False", "R", "1 of 3", NOW, 1)
    assert not differ([base], [Condition("Ready", "False", "R", "2 of 3", LATER, 1)])
    assert differ([base], [Condition("Ready", "True", "R", "1 of 3", NOW, 1)])
    assert differ([base], [Condition("Ready", "False", "S", "1 of 3", NOW, 1)])
    assert differ([base], [Condition("Ready", "False", "R", "1 of 3", NOW, 2)])
    assert differ([], [base])


def test_an_absent_condition_is_not_true() -> None:
    assert not is_true((), "Ready")
    assert is_true(merge((), verdict(ConditionStatus.TRUE), 1, NOW), "Ready")
    assert not is_true(merge((), verdict(ConditionStatus.UNKNOWN), 1, NOW), "Ready")
