"""The command line: what it accepts, what it refuses, and what it says when a scenario cannot run here."""

import argparse
import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench import __main__ as command
from bench.arguments import number, numbers
from bench.catalog import SCENARIOS
from bench.errors import BenchError
from bench.report.results import Document, Key, Machine, Result
from bench.report.svg import Chart
from bench.scenario import Column, Runs, Sample, Scenario


class Counting(Scenario):
    """Gives the numbers from 1 on. A run of 2 fails."""

    name = "counting"
    summary = "counts"
    columns = (Column("number", "{number}"), Column("square", "{square:.0f}"))

    def add_options(self, parser: argparse._ArgumentGroup) -> None:
        parser.add_argument("--until", type=number(9), default=3)

    def plan(self, options: argparse.Namespace) -> dict[str, Key]:
        return {"until": options.until}

    def lacks(self) -> str:
        return ""

    def runs(self, options: argparse.Namespace) -> Runs:
        for each in range(1, options.until + 1):
            yield lambda each=each: self._run(each)  # type: ignore[misc]

    def legend(self, plan: Mapping[str, Key]) -> str:
        return f"until {plan['until']}"

    def charts(self, result: Result) -> list[Chart]:
        return [Chart("squares", (), {})]

    def _run(self, each: int) -> Sample:
        if each == 2:
            raise BenchError("two does not work")
        return Sample({"number": each}, {"square": float(each * each)})


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCENARIOS, "counting", Counting())
    monkeypatch.setattr(signal, "signal", lambda *_: None)


@pytest.mark.usefixtures("counting")
def test_a_failed_run_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["counting", "--calm", "0", "--json", str(tmp_path / "x.json"), "--plot", str(tmp_path / "x.svg")]
    assert 1 == command.main(arguments)
    shown = capsys.readouterr()
    assert "" == shown.out
    assert "A run of counting failed: two does not work" in shown.err
    assert "until 3 Medians of 1." in shown.err
    found = json.loads((tmp_path / "x.json").read_text())["results"][0]["rows"]
    assert [({"number": 1}, 1.0), ({"number": 3}, 9.0)] == [(row["case"], row["medians"]["square"]) for row in found]
    assert (tmp_path / "x.svg").read_text().startswith("<svg")


@pytest.mark.usefixtures("counting")
def test_without_a_file_the_json_goes_to_the_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == command.main(["counting", "--until", "1", "--calm", "0"])
    assert "counting" == json.loads(capsys.readouterr().out)["results"][0]["scenario"]


@pytest.mark.usefixtures("counting")
def test_a_report_prints_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = Result("counting", {"until": 1})
    result.add({"number": 1}, {"square": 1.0})
    Document(Machine(2, "6.1", "3.11.2"), [result]).write(tmp_path / "x.json")
    assert 0 == command.main(["report", str(tmp_path / "x.json")])
    assert "## counting\n\nuntil 1\n\n| number | square |\n| --- | --- |\n| 1 | 1 |\n" in capsys.readouterr().out


def test_a_report_of_a_missing_file_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 1 == command.main(["report", str(tmp_path / "missing.json")])
    assert "missing.json is not a result of the bench" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["data", "stampede"])
def test_without_root_a_scenario_says_what_to_do(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert 2 == command.main([name])
    assert f"{name} cannot run here: " in capsys.readouterr().err


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, **_: None if name in {"tc", "curl"} else f"/bin/{name}")
    assert 2 == command.main(["data", "fast"])
    shown = capsys.readouterr().err
    assert "data cannot run here: tc missing. Install iproute2" in shown
    assert "fast cannot run here: curl missing." in shown


@pytest.mark.parametrize("arguments", [["fest"], ["data", "--peers", "33"], ["data", "--peers", "0"], ["--runs", "x"]])
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert 2 == ended.value.code
    assert "is not a" in capsys.readouterr().err


def test_numbers_count_once() -> None:
    assert [8, 1] == numbers(32)("8,1,8")


def test_the_help_names_each_scenario_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--help"])
    shown = capsys.readouterr().out
    assert [] == [name for name in SCENARIOS if f"  {name} " not in shown]
    assert [] == [scenario.name for scenario in SCENARIOS.values() if " min" not in scenario.summary]
