"""Results join, have medians, and survive the way through a file."""

from pathlib import Path

import msgspec
import pytest

from bench.errors import BenchError
from bench.report.results import Document, Machine, Result, Row, read

MACHINE = Machine(2, "6.1", "3.11.2")


def document(*runs: dict[str, float], size: int = 64, peers: int = 4) -> Document:
    result = Result("data", {"size": size})
    for run in runs:
        result.add({"peers": peers}, run)
    return Document(MACHINE, [result])


def test_figures_are_the_median_and_the_extremes_of_the_runs_that_have_a_value() -> None:
    row = Row({"peers": 4}, [{"slowest": 1.3, "direct": 2.2}, {"slowest": 1.1}, {"slowest": 1.2}])
    assert {
        "slowest": 1.2, "slowest_min": 1.1, "slowest_max": 1.3, "direct": 2.2, "direct_min": 2.2, "direct_max": 2.2,
    } == row.figures()  # fmt: skip
    assert (None, 3) == (row.median("else"), row.count)


def test_a_run_is_added_to_its_case() -> None:
    result = Result("fast", {})
    result.add({"peers": 1, "way": "cold"}, {"rate": 5.0})
    alone = result.add({"peers": 1, "way": "cold"}, {"rate": 7.0})
    result.add({"peers": 1, "way": "warm"}, {"rate": 9.0})
    assert [{"rate": 7.0}] == alone.runs
    assert [[{"rate": 5.0}, {"rate": 7.0}], [{"rate": 9.0}]] == [row.runs for row in result.rows]


def test_the_runs_of_several_files_count_together(tmp_path: Path) -> None:
    one, two, three = tmp_path / "1.json", tmp_path / "2.json", tmp_path / "3.json"
    document({"slowest": 1.0}).write(one)
    document({"slowest": 3.0}, {"slowest": 2.0}).write(two)
    document({"slowest": 9.0}, peers=8).write(three)
    joined = read([one, two, three])
    assert MACHINE == joined.machine
    assert [({"peers": 4}, 2.0), ({"peers": 8}, 9.0)] == [
        (row.case, row.median("slowest")) for row in joined.results[0].rows
    ]


def test_a_file_has_the_medians_for_other_programs(tmp_path: Path) -> None:
    document({"slowest": 1.0}, {"slowest": 3.0}).write(tmp_path / "result.json")
    plain = msgspec.json.decode((tmp_path / "result.json").read_bytes())
    assert {"slowest": 2.0} == plain["results"][0]["rows"][0]["medians"]
    assert ["result.json"] == [path.name for path in tmp_path.iterdir()]


def test_other_parameters_do_not_join(tmp_path: Path) -> None:
    document({"slowest": 1.0}).write(tmp_path / "64.json")
    document({"slowest": 1.0}, size=4).write(tmp_path / "4.json")
    with pytest.raises(BenchError, match=r"4\.json has other parameters of data"):
        read([tmp_path / "64.json", tmp_path / "4.json"])


def test_another_machine_does_not_join(tmp_path: Path) -> None:
    document({"slowest": 1.0}).write(tmp_path / "here.json")
    other = document({"slowest": 1.0})
    other.machine = Machine(64, "6.1", "3.11.2")
    other.write(tmp_path / "there.json")
    with pytest.raises(BenchError, match=r"there\.json was measured on another machine"):
        read([tmp_path / "here.json", tmp_path / "there.json"])


@pytest.mark.parametrize("content", [b"", b"{}", b'{"machine": 1}'])
def test_a_file_of_another_kind_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BenchError, match="not a result of the bench"):
        read([tmp_path / "x.json"])
