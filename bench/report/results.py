"""The results of all scenarios in the same form: cases, and the measured values of each run of a case."""

import os
import platform
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import msgspec

from bench.errors import BenchError

Key = str | int | float


class Row(msgspec.Struct):
    """All runs of one case."""

    case: dict[str, Key]
    """What differs between the cases of a scenario, such as the number of peers."""
    runs: list[dict[str, float]] = []
    """The values of each run by name. A run may lack values."""

    def values(self, name: str) -> list[float]:
        """The values of all runs that have the value."""
        return [run[name] for run in self.runs if name in run]

    def median(self, name: str) -> float | None:
        """The median over the runs. ``None``: no run has the value."""
        values = self.values(name)
        return statistics.median(values) if values else None

    @property
    def count(self) -> int:
        """The number of runs of the case. Values that were measured separately do not count as a run."""
        return max((len(self.values(name)) for run in self.runs for name in run), default=0)

    def figures(self) -> dict[str, float]:
        """The median of each value, and its extremes as ``NAME_min`` and ``NAME_max``."""
        found: dict[str, float] = {}
        for name in dict.fromkeys(name for run in self.runs for name in run):
            values = self.values(name)
            found |= {name: statistics.median(values), f"{name}_min": min(values), f"{name}_max": max(values)}
        return found


class Result(msgspec.Struct):
    """The result of one scenario."""

    scenario: str
    plan: dict[str, Key]
    """The parameters, such as the size of the file in bytes."""
    rows: list[Row] = []

    def add(self, case: dict[str, Key], values: dict[str, float]) -> Row:
        """Add a run of a case, and return the row with only this run."""
        row = next((row for row in self.rows if row.case == case), None)
        if row is None:
            row = Row(case)
            self.rows.append(row)
        row.runs.append(values)
        return Row(case, [values])


class Machine(msgspec.Struct, frozen=True):
    """The machine on which the results were measured."""

    cores: int
    kernel: str
    python: str

    @classmethod
    def this(cls) -> Self:
        return cls(os.cpu_count() or 1, platform.release(), platform.python_version())

    def __str__(self) -> str:
        return f"{self.cores} cores, Linux {self.kernel}, Python {self.python}"


class Document(msgspec.Struct):
    """The results of one or several calls of the bench."""

    machine: Machine
    results: list[Result] = []

    def write(self, path: Path) -> None:
        """Replace the file at once, so that an interruption leaves a whole document."""
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        unfinished.write_bytes(self.encoded())
        unfinished.replace(path)

    def encoded(self) -> bytes:
        """The document as JSON, with the medians beside the runs."""
        plain = msgspec.to_builtins(self)
        for result, shown in zip(self.results, plain["results"], strict=True):
            for row, line in zip(result.rows, shown["rows"], strict=True):
                line["medians"] = {name: row.median(name) for run in row.runs for name in run}
        return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"


def read(paths: Iterable[Path]) -> Document:
    """Join the documents of several calls: the runs of equal cases count together. Raises :class:`BenchError`."""
    joined: Document | None = None
    for path in paths:
        try:
            document = msgspec.json.decode(path.read_bytes(), type=Document)
        except (OSError, msgspec.DecodeError) as error:
            raise BenchError(f"{path} is not a result of the bench: {error}") from error
        if joined is None:
            joined = Document(document.machine)
        if joined.machine != document.machine:
            raise BenchError(f"{path} was measured on another machine: {document.machine}.")
        for result in document.results:
            _join(joined, result, path)
    if joined is None:
        raise BenchError("No file is given. Name the JSON files of earlier calls.")
    return joined


def _join(document: Document, result: Result, path: Path) -> None:
    same = next((each for each in document.results if each.scenario == result.scenario), None)
    if same is None:
        same = Result(result.scenario, result.plan)
        document.results.append(same)
    if same.plan != result.plan:
        raise BenchError(f"{path} has other parameters of {result.scenario}: {result.plan} instead of {same.plan}.")
    for row in result.rows:
        for run in row.runs:
            same.add(row.case, run)
