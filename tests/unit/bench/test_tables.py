"""Tables show medians, targets and only columns that have values."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from bench.catalog import DEFAULT, SCENARIOS
from bench.errors import BenchError
from bench.report.results import Document, Machine, Result
from bench.report.tables import cells, fill, markdown, markdown_table, progress, table

PLAN = {"size": 64 << 20, "peer_megabits": 50, "hub_megabits": 100, "line_seconds": 10.74}


def data() -> Result:
    result = Result("data", {**PLAN})
    for slowest in (1.2, 1.1, 1.3):
        result.add({"peers": 4}, {"slowest": slowest, "origin": 1.0})
    result.add({"peers": 2}, {"slowest": 1.05, "origin": 1.0, "direct": 1.06})
    return result


def test_a_table_has_medians_targets_and_no_empty_column() -> None:
    titles, lines = cells(data().rows, SCENARIOS["data"])
    assert ["peers", "slowest", "[best worst]", "direct", "origin", "target"] == titles
    assert ["4", "1.200", "[1.100 1.300]", "", "1.000x", "slowest <= 1.09"] == lines[0]
    assert ["2", "1.050", "[1.050 1.050]", "1.06", "1.000x", ""] == lines[1]


def test_markdown_has_a_line_for_each_case() -> None:
    lines = markdown_table(data(), SCENARIOS["data"]).splitlines()
    assert "| peers | slowest | [best worst] | direct | origin | target |" == lines[0]
    assert {"---"} == set(lines[1].strip("| ").split(" | "))
    assert 4 == len(lines)


def test_a_report_names_the_machine_and_the_scenarios() -> None:
    text = markdown(Document(Machine(2, "6.1", "3.11.2"), [data()]), list(SCENARIOS.values()))
    assert "Machine: 2 cores, Linux 6.1, Python 3.11.2.\n\n## data\n\n64 MiB, cold." in text


def test_a_terminal_shows_brackets_as_they_are() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(table(data(), SCENARIOS["data"]))
    assert isinstance(console.file, io.StringIO)
    assert "[1.100 1.300]" in console.file.getvalue()


def test_the_progress_of_a_run_is_a_line() -> None:
    row = data().add({"peers": 8}, {"slowest": 1.5})
    assert "data: peers 8, slowest 1.500" == progress(row, SCENARIOS["data"])


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_without_results_has_charts_of_nothing(name: str) -> None:
    plan = {"line_seconds": 1.0}
    for chart in SCENARIOS[name].charts(Result(name, {**plan})):
        assert () == chart.labels


def test_the_default_scenarios_exist() -> None:
    assert set(DEFAULT) < set(SCENARIOS)


PAGE = "a\n<!-- bench fast -->\nf\n<!-- /bench -->\n<!-- bench data -->\nold\n<!-- /bench -->\nend\n"


def test_a_page_gets_the_tables_of_the_results_at_their_places() -> None:
    document = Document(Machine(2, "6.1", "3.11.2"), [data()])
    filled = fill(PAGE, document, list(SCENARIOS.values()))
    begin = "a\n<!-- bench fast -->\nf\n<!-- /bench -->\n<!-- bench data -->\nMedians of 3 runs. 2 cores, Linux 6.1,"
    assert filled.startswith(begin)
    assert filled.endswith(" |\n<!-- /bench -->\nend\n")
    assert "old" not in filled
    assert filled == fill(filled, document, list(SCENARIOS.values()))


def test_a_page_without_a_place_is_an_error() -> None:
    document = Document(Machine(2, "6.1", "3.11.2"), [data()])
    with pytest.raises(BenchError, match="no place for data"):
        fill("", document, list(SCENARIOS.values()))


def test_the_page_of_results_has_a_place_for_each_scenario() -> None:
    docs = Path(__file__).parents[3] / "docs"
    pages = (docs / "performance.md").read_text() + (docs / "scale.md").read_text()
    assert list(SCENARIOS) == re.findall(r"^<!-- bench (\w+) -->$", pages, re.MULTILINE)
