"""The interface of a scenario: its options, its measurement, and the form of its results."""

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from bench.report.results import Key, Result, Row
from bench.report.svg import Chart


@dataclass(frozen=True)
class Sample:
    """One run of one case."""

    case: dict[str, Key]
    values: dict[str, float]


Run = Callable[[], Sample]
"""One run of one case, ready to begin. It raises :class:`bench.errors.BenchError` if it fails."""

Runs = Generator[Run, None, None]
Targets = Mapping[tuple[Key, ...], str]
"""The targets for the medians, by the values of the case."""


@dataclass(frozen=True)
class Column:
    """A column of a scenario's table."""

    title: str
    template: str
    """A format string for the case and the medians, such as ``{slowest:.3f}``. Extremes: ``NAME_min``, ``NAME_max``.
    Without one of its values the cell is empty."""

    def text(self, row: Row) -> str:
        try:
            return self.template.format_map({**row.case, **row.figures()})
        except KeyError:
            return ""


class Scenario(ABC):
    """One kind of measurement."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """What is measured, and how long the measurement takes, for the help."""
    columns: ClassVar[Sequence[Column]]
    targets: ClassVar[Targets] = {}

    @abstractmethod
    def add_options(self, parser: argparse._ArgumentGroup) -> None:
        """Add the scenario's own options."""

    @abstractmethod
    def plan(self, options: argparse.Namespace) -> dict[str, Key]:
        """The parameters that the results depend on."""

    def lacks(self) -> str:
        """Why the scenario cannot run here, as a sentence. Empty if it can."""
        return ""

    @abstractmethod
    def runs(self, options: argparse.Namespace) -> Runs:
        """Each case ``options.runs`` times. The caller waits for a calm machine, calls the run, and asks for the next.

        Raises :class:`bench.errors.BenchError` if nothing can be measured.
        """

    @abstractmethod
    def legend(self, plan: Mapping[str, Key]) -> str:
        """The explanation of the table for readers."""

    def charts(self, result: Result) -> list[Chart]:
        """Plots of the medians."""
        return []

    def target(self, row: Row) -> str:
        """The targets for the medians of this row. Empty: no targets."""
        return self.targets.get(tuple(row.case.values()), "")


def series(rows: Sequence[Row], name: str) -> tuple[float | None, ...]:
    """A value of each row, for a plot."""
    return tuple(row.median(name) for row in rows)
