"""The results of the stampede, as medians over runs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from bench.stampede import WAYS, StampedePlan, StampedeSample

_COLUMNS: dict[str, Callable[[StampedeSample], tuple[float, int]]] = {
    "at_once": lambda sample: (sample.at_once.seconds[-1], sample.at_once.registry_bytes),
    "first": lambda sample: (sample.first.seconds[-1], sample.first.registry_bytes),
    "later": lambda sample: (sample.later.seconds[-1], sample.first.registry_bytes + sample.later.registry_bytes),
}


def stampede_summary(samples: Sequence[StampedeSample], plan: StampedePlan) -> list[dict[str, Any]]:
    """The seconds of the slowest pull and the registry's bytes for each way, also as multiples of the minimum."""
    found = []
    for way in WAYS:
        every = [sample for sample in samples if sample.way == way]
        row: dict[str, Any] = {"way": way}
        for name, pick in _COLUMNS.items():
            seconds = statistics.median(pick(sample)[0] for sample in every)
            sent = statistics.median(pick(sample)[1] for sample in every)
            row |= {f"{name}_seconds": seconds, f"{name}_times": seconds / plan.line_seconds}
            row |= {f"{name}_bytes": sent, f"{name}_copies": sent / plan.size}
        found.append(row)
    return found


def stampede_table(samples: Sequence[StampedeSample], plan: StampedePlan) -> Table:
    """A table with a line for the mirror, one for direct pulls, and one for the limit of the links."""
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("way", "3 at once", "registry", "node 1", "then 2 + 3", "registry in all"):
        shown.add_column(column, no_wrap=True)
    for row in stampede_summary(samples, plan):
        times = {name: f"{row[f'{name}_seconds']:.1f} s = {row[f'{name}_times']:.2f}" for name in _COLUMNS}
        copies = {name: f"{row[f'{name}_bytes'] / 1e6:.0f} MB = {row[f'{name}_copies']:.2f}x" for name in _COLUMNS}
        shown.add_row(row["way"], times["at_once"], copies["at_once"], times["first"], times["later"], copies["later"])
    least = f"{plan.line_seconds:.1f} s = 1.00"
    one = f"{plan.size / 1e6:.0f} MB = 1.00x"
    shown.add_row("limit", least, one, least, f"{plan.line_seconds / 2:.1f} s = 0.50", one)
    return shown


def stampede_document(samples: Sequence[StampedeSample], plan: StampedePlan) -> dict[str, Any]:
    """All results, with each run."""
    return {
        "plan": {**asdict(plan), "line_seconds": plan.line_seconds},
        "medians": stampede_summary(samples, plan) if samples else [],
        "runs": [asdict(sample) for sample in samples],
    }
