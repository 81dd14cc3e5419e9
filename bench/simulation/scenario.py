"""The real scheduler and exchange with many peers, in virtual time. Nothing is measured: links and CPU are modelled."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial

from bench.errors import BenchError
from bench.memory import MEBIBYTE
from bench.report.results import Key, Result
from bench.report.svg import Chart
from bench.scenario import Column, Runs, Sample, Scenario, series
from bench.simulation.row import SimulatedRow, standard_rows
from bench.simulation.swarm import SimulatedSwarm

_ROWS = standard_rows()


class SimulationScenario(Scenario):
    """Swarms of up to 10,000 peers."""

    name = "simulate"
    summary = "up to 10,000 simulated peers download 1 GiB in virtual time (no root; one process, 60 min)"
    columns = (
        Column("row", "{row}"),
        Column("peers", "{peers}"),
        Column("MiB", "{mebibytes}"),
        Column("zones", "{zones}"),
        Column("supernode Mbit/s", "{supernode_megabits:.0f}"),
        Column("slowest", "{slowest:.3f}"),
        Column("median", "{median:.3f}"),
        Column("returned", "{slowest_returned:.3f}"),
        Column("origin", "{origin:.3f}x"),
        Column("supernode", "{supernode_copies:.2f}x"),
        Column("borders", "{border_copies:.2f}x"),
        Column("exchanges/s", "{exchanges:.0f}"),
        Column("per peer", "{exchanges_per_peer:.2f}"),
        Column("core", "{core:.0%}"),
        Column("longest wait s", "{longest_wait:.2f}"),
        Column("answers Mbit/s", "{answer_megabits:.1f}"),
        Column("failures", "{failures:.0f}"),
    )

    def add_options(self, parser: argparse._ArgumentGroup) -> None:
        parser.add_argument(
            "--rows", type=_rows, default=list(_ROWS), metavar="ROW,ROW",
            help=f"rows to simulate, of {', '.join(_ROWS)} (all)",
        )  # fmt: skip
        parser.add_argument("--seed", type=int, default=1, metavar="N", help="the seed of the first run (1)")

    def plan(self, options: argparse.Namespace) -> dict[str, Key]:
        row = SimulatedRow(1)
        return {
            "seed": options.seed,
            "peer_megabits": row.peer_megabits,
            "origin_megabits": row.origin_megabits or 0.0,
            "exchange_seconds": row.costs.request + row.costs.answer,
        }

    def runs(self, options: argparse.Namespace) -> Runs:
        for name in options.rows:
            for run in range(options.runs):
                yield partial(simulate, name, replace(_ROWS[name], seed=options.seed + run))

    def legend(self, plan: Mapping[str, Key]) -> str:
        return (
            f"Simulated, seed {plan['seed']}: each peer has {plan['peer_megabits']} Mbit/s, "
            f"the origin {plan['origin_megabits']} Mbit/s. "
            "Times in units of the file's size / a peer's bandwidth."
        )

    def charts(self, result: Result) -> list[Chart]:
        labels = tuple(str(row.case["row"]) for row in result.rows)
        values: Callable[[str], tuple[float | None, ...]] = partial(series, result.rows)
        return [
            Chart("Time / line time", labels, {"slowest": values("slowest"), "median": values("median")}, 1.0),
            Chart("Copies that the supernode sent", labels, {"supernode": values("supernode_copies")}),
            Chart("Exchanges a second", labels, {"all peers": values("exchanges")}),
            Chart("Share of the supernode's core", labels, {"exchanges": values("core")}, 1.0),
        ]


def simulate(name: str, row: SimulatedRow) -> Sample:
    """Run one row. Raises :class:`BenchError` if a peer does not get the file."""
    try:
        outcome = SimulatedSwarm(row).run()
    except TimeoutError as error:
        raise BenchError(f"The row {name} with the seed {row.seed}: {error}") from error
    case: dict[str, Key] = {
        "row": name,
        "peers": row.peers,
        "mebibytes": row.size // MEBIBYTE,
        "zones": row.zones,
        "churn": row.churn,
        "supernode_megabits": row.supernode_megabits,
    }
    return Sample(case, asdict(outcome))


def _rows(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in _ROWS:
            raise argparse.ArgumentTypeError(f"{name!r} is not a row. Use {', '.join(_ROWS)}.")
    return names
