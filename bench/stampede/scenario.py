"""Three nodes of a real cluster pull one large image, through the mirror and directly."""

import argparse
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import ClassVar

from bench.arguments import number
from bench.memory import MEBIBYTE
from bench.report.results import Key, Result
from bench.report.svg import Chart
from bench.scenario import Column, Runs, Scenario, Targets, series
from bench.stampede import pulls
from bench.stampede.pulls import StampedePlan


class StampedeScenario(Scenario):
    """All nodes at once, and one node before the other nodes."""

    name = "stampede"
    summary = "three nodes of a real cluster pull an image of 600 MiB (root; 7 min a run, not by default)"
    columns = (
        Column("way", "{way}"),
        Column("3 at once", "{at_once_seconds:.1f} s"),
        Column("/ line", "{at_once_times:.2f}"),
        Column("registry", "{at_once_copies:.2f}x"),
        Column("node 1", "{first_seconds:.1f} s"),
        Column("then 2 + 3", "{later_seconds:.1f} s"),
        Column("registry in all", "{later_copies:.2f}x"),
    )
    targets: ClassVar[Targets] = {("mirror",): "at once <= 33 s, 1.00x; then 2 + 3 <= 31 s"}

    def add_options(self, parser: argparse._ArgumentGroup) -> None:
        parser.add_argument(
            "--image-size", type=number(1 << 20), default=600, metavar="MIB", help="of the image's layer (600)"
        )

    def plan(self, options: argparse.Namespace) -> dict[str, Key]:
        plan = StampedePlan(options.image_size * MEBIBYTE)
        return {**asdict(plan), "line_seconds": plan.line_seconds}

    def lacks(self) -> str:
        return "" if os.geteuid() == 0 else "it starts a cluster, which needs root. Run it as root."

    def runs(self, options: argparse.Namespace) -> Runs:
        yield from pulls.prepared(StampedePlan(options.image_size * MEBIBYTE), options.runs)

    def legend(self, plan: Mapping[str, Key]) -> str:
        return (
            f"An image of one layer of {int(plan['size']) / 1e6:.0f} MB. Links in each direction: registry and nodes "
            f"{plan['megabits']} Mbit/s, so the line needs {plan['line_seconds']:.1f} s. Times of the slowest pull, "
            "with unpacking. registry: bytes that it sent / size."
        )

    def charts(self, result: Result) -> list[Chart]:
        labels = tuple(str(row.case["way"]) for row in result.rows)
        titles = {"3 at once": "at_once_seconds", "node 1": "first_seconds", "then 2 + 3": "later_seconds"}
        shown = {title: series(result.rows, name) for title, name in titles.items()}
        return [Chart("stampede: seconds (dashed: the link)", labels, shown, float(result.plan["line_seconds"]))]
