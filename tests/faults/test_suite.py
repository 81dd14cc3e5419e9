"""The fault suite finds a product that breaks its promises, and says how to repeat it."""

import dataclasses
import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from faults import __main__ as suite
from faults.catalog import ROWS
from faults.lossy_disk import Change, CrashState, CrashStates, Name, Note, Sync, Write
from faults.row import Plan
from faults.rows import corruptions
from pantala_pieces.file import PieceFile
from pantala_pieces.journal import Journal


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    """The suite hides all logs. Other tests in this process read them."""
    former = structlog.get_config()
    yield
    structlog.configure(**former)


@pytest.mark.parametrize(("kind", "method"), [(Journal, "_sync_names"), (PieceFile, "_sync")])
def test_a_store_that_does_not_sync_is_found(monkeypatch: pytest.MonkeyPatch, kind: type[object], method: str) -> None:
    monkeypatch.setattr(kind, method, lambda _: None)
    tally = suite.measured(ROWS["power-cuts"], 1000)
    assert 10 < tally.broken
    assert "lost" in tally.violations[0]
    assert "python -m faults --rows power-cuts --seed 1 --first 0 --count 1" in tally.violations[0]


def test_a_store_that_compares_no_digest_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def trust(file: PieceFile, on_piece: Callable[[int, bytes], None] | None = None) -> int:
        file._records = {record.piece: record for record in file._journal.read()}
        file.have = sum(1 << number for number in file._records)
        return file.have

    monkeypatch.setattr(PieceFile, "verify", trust)
    tally = suite.measured(ROWS["flips-on-disk"], corruptions.TRIES)
    assert 10 < tally.broken
    assert 10 < tally.counts["delivered"]


def test_a_violation_is_shown_and_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Journal, "_sync_names", lambda _: None)
    file = tmp_path / "counts.json"
    assert 1 == suite.main(["--rows", "power-cuts", "--count", "500", "--json", str(file)])
    assert "repeat it: python -m faults --rows power-cuts" in capsys.readouterr().out
    assert 0 < json.loads(file.read_text())["power-cuts"]["violations"]


def test_a_seed_and_a_number_decide_everything(tmp_path: Path) -> None:
    def numbers(seed: int, first: int) -> list[int]:
        plan = Plan("row", 1, tmp_path, seed, first)
        return [case.chance.randrange(1 << 30) for case in plan.cases()]

    assert numbers(1, 5) == numbers(1, 5)
    assert 4 == len({*map(tuple, (numbers(1, 5), numbers(1, 6), numbers(2, 5), numbers(2, 6)))})


def test_a_synced_file_without_a_synced_name_may_be_lost() -> None:
    changes: list[Change] = [Name(0, "a", 1), Write(1, 0, b"xyz"), Sync(1), Note("stored")]
    seen = {tuple(sorted(state.files.items())) for state in _all(CrashStates(changes)) if state.facts}
    assert {(), (("a", b"xyz"),)} == seen


def test_synced_bytes_and_names_are_never_lost_and_unsynced_ones_may_be_torn() -> None:
    changes: list[Change] = [Name(0, "a", 1), Sync(0), Write(1, 0, b"old"), Sync(1), Write(1, 1, b"new")]
    seen = {state.files.get("a") for state in _all(CrashStates([*changes, Note("end")])) if state.facts}
    assert {b"old", b"ond", b"one", b"onew", b"o\0\0\0"} == seen


def _all(states: CrashStates) -> list[CrashState]:
    chance = random.Random(1)
    return [states.draw(chance) for _ in range(2000)]


@pytest.mark.parametrize(("when", "expected"), [("before", b""), ("inside", b"12"), ("after", b"1234")])
def test_a_process_dies_at_the_chosen_change_of_its_disk(tmp_path: Path, when: str, expected: bytes) -> None:
    program = tmp_path / "writes_twice.py"
    program.write_text(
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "os.pwrite(fd, b'1234', 0)\n"
        "os.pwrite(fd, b'5678', 4)\n"
    )
    folder = tmp_path / "disk"
    folder.mkdir()
    command = (sys.executable, "-m", "faults.crash_point", "1", when, str(folder), "writes_twice", str(folder / "file"))
    paths = f"{Path(__file__).parents[2]}:{tmp_path}"
    done = subprocess.run(command, env={"PYTHONPATH": paths}, check=False, timeout=60)
    assert -9 == done.returncode
    assert expected == (folder / "file").read_bytes()


def test_a_store_that_loses_undamaged_pieces_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal, "read", lambda _: [])
    tally = suite.measured(ROWS["flips-on-disk"], 250)
    assert 10 < tally.broken
    assert "lost" in tally.violations[0]


def test_an_error_names_the_experiment_that_failed() -> None:
    async def fail(plan: Plan, _tally: object) -> None:
        for case in plan.cases():
            if case.number == 3:
                raise RuntimeError("a bug of the product")

    tally = suite.measured(dataclasses.replace(ROWS["power-cuts"], run=fail), 10)
    assert "a bug of the product" in tally.violations[0]
    assert "--rows power-cuts --seed 1 --first 3 --count 1" in tally.violations[0]


def test_a_row_that_injects_nothing_is_not_a_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == suite.main(["--rows", "flips-on-disk", "--seconds", "-1"])
    assert "injected nothing" in capsys.readouterr().out
