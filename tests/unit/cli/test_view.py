"""The tables of resources."""

from datetime import UTC, datetime
from typing import Any

import pytest

from pantala_cli import view

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def task(*, generation: int = 1, **status: Any) -> dict[str, Any]:
    metadata = {"name": "n", "namespace": "s", "generation": generation, "creationTimestamp": "2026-01-01T23:59:00Z"}
    return {"metadata": metadata, "spec": {}, "status": status}


def ready(status: str, generation: int = 1) -> list[dict[str, Any]]:
    return [{"type": "Ready", "status": status, "reason": "R", "message": "m", "observedGeneration": generation}]


def test_a_task_without_a_status() -> None:
    body = task()
    del body["status"]
    assert ("s", "n", "Unknown", "NotSeenYet", "-", "-", "-", "-", "60s") == view.task_line(body, NOW)


def test_a_condition_of_a_former_generation_does_not_count() -> None:
    assert {} == view.condition(task(generation=2, conditions=ready("True", 1)), "Ready")


@pytest.mark.parametrize(
    ("expected", "status"),
    [
        (None, {}),
        (1.0, {"conditions": ready("True")}),
        (0.0, {"contentLength": 100, "peers": {"desired": 3}, "pieces": {"total": 10, "cached": 0}}),
        (0.125, {"contentLength": 100, "peers": {"desired": 3}, "pieces": {"total": 10, "cached": 5}}),
        (
            0.99,
            {
                "contentLength": 100,
                "peers": {"desired": 1},
                "pieces": {"total": 1, "cached": 1},
                "bytes": {"distributed": 900},
            },
        ),
        (0.0, {"contentLength": 0, "peers": {"desired": 3}}),
    ],
)
def test_progress_is_the_share_of_all_that_is_moved(expected: float | None, status: dict[str, Any]) -> None:
    assert expected == view.progress(task(**status))


@pytest.mark.parametrize(
    ("count", "shown"), [(None, "-"), (0, "0"), (1023, "1023"), (1536, "1.5Ki"), (1 << 40, "1Ti"), (1 << 51, "2048Ti")]
)
def test_sizes(count: int | None, shown: str) -> None:
    assert shown == view.size(count)


@pytest.mark.parametrize(
    ("created", "shown"),
    [
        ("2026-01-01T23:59:15Z", "45s"),
        ("2026-01-01T23:48:00Z", "12m"),
        ("2026-01-01T21:00:00Z", "3h"),
        ("2025-12-24T00:00:00Z", "9d"),
        ("2026-01-02T00:00:09Z", "0s"),
    ],
)
def test_ages(created: str, shown: str) -> None:
    assert shown == view.age(created, NOW)
