"""Resources and the console's messages as tables."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from pantala_cli.access.kinds import TASK, condition
from pantala_cli.show import columns, resources, tables, terminal, words
from tests.support.cli import cells, rendered, swarm

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def shown_task(*, generation: int = 1, **status: Any) -> dict[str, Any]:
    metadata = {"name": "n", "namespace": "s", "generation": generation, "creationTimestamp": "2026-01-01T23:59:00Z"}
    return {"metadata": metadata, "spec": {}, "status": status}


def ready(status: str, generation: int = 1) -> list[dict[str, Any]]:
    return [{"type": "Ready", "status": status, "reason": "R", "message": "m", "observedGeneration": generation}]


def test_a_task_without_a_status() -> None:
    body = shown_task()
    del body["status"]
    line = resources.summary(body, TASK)
    expected = ("s", "n", "Unknown", "NotSeenYet", None, None)
    assert expected == (line.namespace, line.name, line.ready, line.reason, line.progress, line.length)
    shown = cells(tables.tasks([line], NOW.timestamp()))
    assert ["n", "Unknown", "NotSeenYet", "-", "-", "-", "-", "60s"] == shown[1]


def test_a_condition_of_a_former_generation_does_not_count() -> None:
    assert {} == condition(shown_task(generation=2, conditions=ready("True", 1)), "Ready")


@pytest.mark.parametrize(
    ("expected", "status"),
    [
        (None, {}),
        (1.0, {"conditions": ready("True"), "progress": "40%"}),
        (0.0, {"progress": "0%"}),
        (0.42, {"progress": "42%"}),
        (0.99, {"progress": "100%"}),
        (None, {"progress": "-"}),
    ],
)
def test_progress_comes_from_the_status(expected: float | None, status: dict[str, Any]) -> None:
    assert expected == resources.progress(shown_task(**status))


@pytest.mark.parametrize(
    ("count", "shown"), [(None, "-"), (0, "0"), (1023, "1023"), (1536, "1.5Ki"), (1 << 40, "1Ti"), (1 << 51, "2Pi")]
)
def test_sizes(count: int | None, shown: str) -> None:
    assert shown == words.size(count)


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
    assert shown == words.duration(NOW.timestamp() - words.epoch(created))


@pytest.mark.parametrize(("part", "shown"), [(None, "-"), (0.0, "0%"), (0.29, "29%"), (0.9999, "99%"), (1.0, "100%")])
def test_only_what_is_complete_shows_100_percent(part: float | None, shown: str) -> None:
    assert shown == words.share(part)


def test_the_wide_table_shows_states_rates_and_the_time_left() -> None:
    console, _ = swarm()
    heading, line = cells(tables.tasks(console.tasks, console.at, wide=True))
    shown = dict(zip(heading, line, strict=True))
    assert ("1/4", "1", "1", "1") == (shown["NODES"], shown["FETCHING"], shown["LATE"], shown["FAILED"])
    assert ("40Mi/s", "75s", "1.00x") == (shown["RATE"], shown["ETA"], shown["ORIGIN"])


def test_names_are_never_cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A narrow terminal wraps the lines of a table, as with kubectl."""
    monkeypatch.setenv("COLUMNS", "40")
    names = [f"ip-10-20-30-{number}.eu-central-1.compute.internal.a-long-cluster-name.example" for number in (1, 2)]
    terminal.show(tables.peers([resources.peer({"metadata": {"name": name}}) for name in names]))
    assert names == [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]


def test_the_wide_table_of_peers_shows_the_mirror_and_the_clock() -> None:
    conditions = [{"type": "MirrorConfigured", "status": "False", "reason": "NotConfigured"}]
    peer = resources.peer({"metadata": {"name": "a"}, "status": {"conditions": conditions}})
    shown = dict(zip(*cells(tables.peers([peer], wide=True)), strict=False))
    assert ("False", "-") == (shown["MIRROR"], shown["CLOCK"])


def test_plain_tables_look_as_rich_draws_them() -> None:
    console, detail = swarm()
    for table in (
        tables.tasks(console.tasks, console.at, namespaces=True, wide=True),
        tables.peers(console.peers),
        tables.progress_of_nodes(detail.nodes, 1 << 30, console.at),
    ):
        drawn = [line.rstrip() for line in rendered(table).splitlines()]
        assert drawn == list(columns.lines(table, lambda text: text.plain))


def test_a_table_of_5000_tasks_takes_less_than_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    console, _ = swarm()
    began = time.process_time()
    terminal.show(tables.tasks(console.tasks * 5000, console.at))
    assert time.process_time() - began < 1
    assert 5001 == capsys.readouterr().out.count("\n")


def test_a_moment_of_another_day_has_its_date() -> None:
    at = datetime(2026, 11, 28, 23, 59, 59, tzinfo=UTC).timestamp()
    assert ("23:59:59Z", "11-28 23:59:59Z") == (words.clock(at, at), words.clock(at, at + 1))
