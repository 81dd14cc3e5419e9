"""Peers on slow links download one file that only the origin has, beside direct downloads over the same links."""

import argparse
import functools
import os
import shutil
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

from bench.arguments import number, numbers
from bench.data import direct
from bench.data.stage import LinkPlan, staged
from bench.memory import GIBIBYTE, MEBIBYTE, make_file, memory
from bench.report.results import Key, Result
from bench.report.svg import Chart
from bench.scenario import Column, Runs, Sample, Scenario, Targets, series
from bench.swarm import Swarm

_MOST_PEERS = 32
_PROGRAMS = ("ip", "tc", "nsenter", "mount", "umount")
_LONGEST = 8.0
"""A run fails after this multiple of :attr:`LinkPlan.line_seconds`."""


class DataScenario(Scenario):
    """Shaped links: 50 Mbit/s for a peer, 100 Mbit/s for supernode and origin."""

    name = "data"
    summary = "peers on shaped links download 64 MiB (root; 2 min a run, the first run 8 min with direct downloads)"
    columns = (
        Column("peers", "{peers}"),
        Column("slowest", "{slowest:.3f}"),
        Column("[best worst]", "[{slowest_min:.3f} {slowest_max:.3f}]"),
        Column("median", "{median:.3f}"),
        Column("direct", "{direct:.2f}"),
        Column("origin", "{origin:.3f}x"),
        Column("supernode", "{supernode_copies:.2f}x"),
        Column("peers CPU s/GiB", "{peer_cpu:.2f}"),
        Column("supernode CPU s/GiB", "{supernode_cpu:.2f}"),
        Column("exchanges/s", "{exchanges:.1f}"),
        Column("peer MiB", "{peer_mebibytes:.0f}"),
        Column("supernode MiB", "{supernode_mebibytes:.0f}"),
        Column("foreign", "{foreign:.2f}"),
    )
    targets: ClassVar[Targets] = {
        (1,): "slowest <= 1.06",
        (4,): "slowest <= 1.09",
        (8,): "slowest <= 1.11, supernode <= 1.3x",
        (16,): "slowest <= 1.14, supernode <= 1.3x, CPU: peers <= 9, supernode <= 1.3",
        (32,): "slowest <= 1.20, supernode <= 1.3x",
    }

    def add_options(self, parser: argparse._ArgumentGroup) -> None:
        most = f"at most {_MOST_PEERS}"
        parser.add_argument(
            "--peers", type=numbers(_MOST_PEERS), default=[1, 4, 8, 16, 32], metavar="N,N",
            help=f"numbers of peers, {most} (1,4,8,16,32)",
        )  # fmt: skip
        parser.add_argument("--size", type=number(4096), default=64, metavar="MIB", help="of the file (64)")
        parser.add_argument("--no-direct", action="store_true", help="leave the direct downloads out")

    def plan(self, options: argparse.Namespace) -> dict[str, Key]:
        plan = _plan(options)
        return {**asdict(plan), "line_seconds": plan.line_seconds}

    def lacks(self) -> str:
        missing = [name for name in _PROGRAMS if shutil.which(name) is None]
        if missing:
            return f"{', '.join(missing)} missing. Install iproute2, util-linux and mount."
        return "" if os.geteuid() == 0 else "it shapes links, which needs root. Run it as root."

    def runs(self, options: argparse.Namespace) -> Runs:
        plan = _plan(options)
        with memory((2 * max(options.peers) + 2) * plan.size) as folder:
            file = folder / "file"
            sha256 = make_file(file, plan.size)
            for run in range(options.runs):
                for peers in options.peers:
                    yield functools.partial(_swarm, plan, file, sha256, peers)
                    if run == 0 and not options.no_direct:
                        yield functools.partial(_direct, plan, file, sha256, peers)

    def legend(self, plan: Mapping[str, Key]) -> str:
        return (
            f"{int(plan['size']) // MEBIBYTE} MiB, cold. Links in each direction: peers {plan['peer_megabits']} "
            f"Mbit/s, supernode and origin {plan['hub_megabits']} Mbit/s. "
            f"Times / line time ({plan['line_seconds']:.2f} s), bytes / size. "
            "direct: the slowest download from the origin, one run. CPU per GiB that the peers received. "
            "exchanges: per peer. MiB: peak memory. foreign: cores that other processes used."
        )

    def charts(self, result: Result) -> list[Chart]:
        labels = tuple(f"{row.case['peers']} peers" for row in result.rows)
        slowest = series(result.rows, "slowest")
        direct = series(result.rows, "direct")
        cpu = {"peers": series(result.rows, "peer_cpu"), "supernode": series(result.rows, "supernode_cpu")}
        return [
            Chart(
                "data: time / line time (dashed: the link)",
                labels, {"slowest peer": slowest, "median": series(result.rows, "median")}, 1.0,
            ),
            Chart("data: slowest / line time, beside direct downloads", labels, {"Pantala": slowest, "direct": direct}),
            Chart("data: CPU seconds per delivered GiB", labels, cpu),
        ]  # fmt: skip


def _plan(options: argparse.Namespace) -> LinkPlan:
    return LinkPlan(size=options.size * MEBIBYTE)


def _swarm(plan: LinkPlan, file: Path, sha256: str, peers: int) -> Sample:
    with staged(plan, file) as stage:
        place = stage.network.host("supernode", plan.hub_megabits)
        with Swarm(place, stage.folder) as swarm:
            swarm.start_peers([stage.network.host(f"peer-{number}", plan.peer_megabits) for number in range(peers)])
            run = swarm.deliver(
                stage.url, sha256, _LONGEST * plan.line_seconds + 5, origin=[stage.origin.pid]
            )  # fmt: skip
        delivered = peers * plan.size / GIBIBYTE
        values = {
            "slowest": run.seconds[-1] / plan.line_seconds,
            "median": statistics.median(run.seconds) / plan.line_seconds,
            "origin": stage.origin_bytes() / plan.size,
            "supernode_copies": run.supernode_bytes / plan.size,
            "peer_cpu": run.meter.cpu["peers"] / delivered,
            "supernode_cpu": run.meter.cpu["supernode"] / delivered,
            "peer_mebibytes": run.peer_mebibytes,
            "supernode_mebibytes": run.supernode_mebibytes,
            "foreign": run.meter.foreign,
        }
        if run.exchanges is not None:
            values["exchanges"] = run.exchanges
        return Sample({"peers": peers}, values)


def _direct(plan: LinkPlan, file: Path, sha256: str, peers: int) -> Sample:
    with staged(plan, file) as stage:
        seconds = direct.download(stage, peers, sha256)
        return Sample({"peers": peers}, {"direct": seconds[-1] / plan.line_seconds})
