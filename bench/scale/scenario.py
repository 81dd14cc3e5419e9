"""Many Tasks on many nodes, with the real operator and the real supernode."""

import argparse
import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bench.arguments import number
from bench.report.results import Key
from bench.scale import load
from bench.scenario import Column, Runs, Sample, Scenario, Targets


class ScaleScenario(Scenario):
    """How long the operator needs to state all Tasks, and until each status is right."""

    name = "scale"
    summary = "10,000 Tasks for 1,000 nodes: statement, status and memory (5 min a run)"
    columns = (
        Column("Tasks", "{tasks}"),
        Column("nodes", "{nodes}"),
        Column("peers", "{peers}"),
        Column("stated s", "{stated_s:.0f}"),
        Column("status right s", "{right_s:.0f}"),
        Column("operator MiB", "{operator_mib:.0f}"),
        Column("supernode MiB", "{supernode_mib:.0f}"),
        Column("writes", "{writes:.0f}"),
    )
    targets: ClassVar[Targets] = {(10_000, 1000, 2): "stated <= 120 s, operator <= 400 MiB"}

    def add_options(self, parser: argparse._ArgumentGroup) -> None:
        parser.add_argument("--tasks", type=number(100_000), default=10_000, metavar="N", help="Tasks (10,000)")
        parser.add_argument(
            "--nodes", type=number(10_000), default=1000, metavar="N", help="nodes of each Task (1,000)"
        )
        parser.add_argument("--connected", type=number(1000), default=2, metavar="N", help="connected peers (2)")

    def plan(self, options: argparse.Namespace) -> dict[str, Key]:
        return {"tasks": options.tasks, "nodes": options.nodes, "peers": options.connected}

    def runs(self, options: argparse.Namespace) -> Runs:
        for _ in range(options.runs):
            yield functools.partial(_run, options.tasks, options.nodes, options.connected)

    def legend(self, plan: Mapping[str, Key]) -> str:
        return (
            "Each Task has its own file of 100 bytes, and wants it on all nodes. The API server, the origin and the "
            "connected peers are scripted. stated: the supernode has reported all Tasks. status right: each Task says "
            "that the supernode has its file, and on how many of how many nodes it is. MiB: the most memory."
        )


def _run(tasks: int, nodes: int, peers: int) -> Sample:
    with tempfile.TemporaryDirectory(prefix="pantala-bench-") as folder:
        return Sample({"tasks": tasks, "nodes": nodes, "peers": peers}, load.measure(Path(folder), tasks, nodes, peers))
