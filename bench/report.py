"""The results as medians over runs: a table for people, JSON for programs."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.table import Table

from bench.control import ControlSample
from bench.stage import Plan
from bench.swarm import SwarmSample


@dataclass
class Measured:
    """All runs with one number of peers."""

    peers: int
    swarm: list[SwarmSample] = field(default_factory=list)
    direct: list[tuple[float, ...]] = field(default_factory=list)


def summary(measured: Measured, plan: Plan) -> dict[str, float]:
    """Medians over the runs. Times are multiples of :attr:`Plan.line_seconds`."""
    line, runs = plan.line_seconds, measured.swarm
    slowest = [run.seconds[-1] / line for run in runs]
    return {
        "peers": measured.peers,
        "slowest": statistics.median(slowest),
        "slowest_best": min(slowest),
        "slowest_worst": max(slowest),
        "median": statistics.median(statistics.median(run.seconds) / line for run in runs),
        "direct_slowest": statistics.median(seconds[-1] / line for seconds in measured.direct),
        "origin": statistics.median(run.origin_bytes / plan.size for run in runs),
        "supernode_copies": statistics.median(run.supernode_bytes / plan.size for run in runs),
        "supernode_cpu": statistics.median(run.supernode_cpu for run in runs),
        "peer_cpu": statistics.median(run.peer_cpu for run in runs),
        "supernode_mebibytes": statistics.median(run.supernode_mebibytes for run in runs),
        "peer_mebibytes": statistics.median(run.peer_mebibytes for run in runs),
        "foreign": statistics.median(run.foreign for run in runs),
    }


def table(all_measured: Sequence[Measured], plan: Plan) -> Table:
    """A table with a line for each number of peers."""
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    columns = (
        "peers",
        "slowest",
        "[best worst]",
        "median",
        "direct",
        "origin",
        "supernode",
        "CPU s/GiB",
        "RSS MiB",
        "foreign",
    )
    for column in columns:
        shown.add_column(column, no_wrap=True)
    for measured in all_measured:
        each = summary(measured, plan)
        shown.add_row(
            str(measured.peers),
            f"{each['slowest']:.3f}",
            rf"\[{each['slowest_best']:.3f} {each['slowest_worst']:.3f}]",
            f"{each['median']:.3f}",
            f"{each['direct_slowest']:.3f}",
            f"{each['origin']:.3f}x",
            f"{each['supernode_copies']:.2f}x",
            f"{each['supernode_cpu']:.1f} + {each['peer_cpu']:.1f}",
            f"{each['supernode_mebibytes']:.0f} + {each['peer_mebibytes']:.0f}",
            f"{each['foreign']:.2f}",
        )
    return shown


def control_summary(runs: Sequence[ControlSample]) -> dict[str, Any]:
    """Medians over the runs with one number of clients of one kind."""
    numbers = {
        name: statistics.median(getattr(run, name) for run in runs)
        for name in ("registrations", "cycles", "median", "worst", "waits", "cpu")
    }
    return {"kind": runs[0].kind, "clients": runs[0].clients, **numbers}


def control_table(measured: Sequence[Sequence[ControlSample]]) -> Table:
    """A table with a line for each number of clients of each kind."""
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("clients", "kind", "registrations/s", "cycles/s", "work p50 ms", "p99 ms", "waits", "CPU ms/cycle"):
        shown.add_column(column, no_wrap=True)
    for runs in measured:
        each = control_summary(runs)
        shown.add_row(
            str(each["clients"]),
            each["kind"],
            f"{each['registrations']:.0f}" if each["registrations"] else "",
            f"{each['cycles']:.0f}",
            f"{each['median'] * 1000:.0f}",
            f"{each['worst'] * 1000:.0f}",
            f"{each['waits']:.1%}",
            f"{each['cpu']:.2f}",
        )
    return shown


def document(
    all_measured: Sequence[Measured], plan: Plan, control: Sequence[Sequence[ControlSample]]
) -> dict[str, Any]:
    """All results for a JSON file, with the values of each run."""
    return {
        "plan": {**asdict(plan), "line_seconds": plan.line_seconds},
        "machine": {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()},
        "medians": [summary(measured, plan) for measured in all_measured],
        "runs": [asdict(measured) for measured in all_measured],
        "control": {
            "medians": [control_summary(runs) for runs in control],
            "runs": [asdict(run) for runs in control for run in runs],
        },
    }
