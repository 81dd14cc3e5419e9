"""The supernode's API under load by Dragonfly's clients and by peers, which transfer no bytes."""

import argparse
import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bench.arguments import number, numbers
from bench.control import load
from bench.report.results import Key, Result
from bench.report.svg import Chart
from bench.scenario import Column, Runs, Sample, Scenario, Targets, series

_KINDS = ("dfget", "native")


class ControlScenario(Scenario):
    """How many cycles of requests per second the supernode answers."""

    name = "control"
    summary = "requests per second of 50 and 500 simulated clients (1 min a run)"
    columns = (
        Column("clients", "{clients}"),
        Column("kind", "{kind}"),
        Column("registrations/s", "{registrations:.0f}"),
        Column("cycles/s", "{cycles:.0f}"),
        Column("[worst best]", "[{cycles_min:.0f} {cycles_max:.0f}]"),
        Column("work p50 ms", "{p50_ms:.0f}"),
        Column("p99 ms", "{p99_ms:.0f}"),
        Column("waits", "{waits:.1%}"),
        Column("CPU ms/cycle", "{cpu_ms:.3f}"),
        Column("foreign", "{foreign:.2f}"),
    )
    targets: ClassVar[Targets] = {
        ("dfget", 500): "cycles >= 2,500/s, p99 < 250 ms",
        ("native", 500): "cycles >= 4,000/s",
    }

    def add_options(self, parser: argparse._ArgumentGroup) -> None:
        parser.add_argument(
            "--clients", type=numbers(2000), default=[50, 500], metavar="N,N", help="numbers of clients (50,500)"
        )
        parser.add_argument("--seconds", type=number(600), default=4, metavar="S", help="that each case counts for (4)")

    def plan(self, options: argparse.Namespace) -> dict[str, Key]:
        return {"pieces": load.PIECES, "seconds": options.seconds}

    def runs(self, options: argparse.Namespace) -> Runs:
        for _ in range(options.runs):
            for kind in _KINDS:
                for clients in options.clients:
                    yield functools.partial(_load, kind, clients, options.seconds)

    def legend(self, plan: Mapping[str, Key]) -> str:
        return (
            f"{plan['pieces']} pieces, no bytes moved. Clients and supernode share the cores. A cycle of dfget is a "
            "report and a pull, one of native is one exchange. work: answers to clients that still have work. "
            "waits: answers to clients without work, which may be held. CPU: the supernode's. "
            "foreign: cores that other processes used."
        )

    def charts(self, result: Result) -> list[Chart]:
        labels = tuple(f"{row.case['clients']} {row.case['kind']}" for row in result.rows)
        return [Chart("control: cycles per second", labels, {"cycles/s": series(result.rows, "cycles")})]


def _load(kind: str, clients: int, seconds: float) -> Sample:
    with tempfile.TemporaryDirectory(prefix="pantala-bench-") as folder:
        return Sample({"kind": kind, "clients": clients}, load.measure(Path(folder), kind, clients, seconds))
