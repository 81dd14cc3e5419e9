"""The medians of the scenario ``origin``, as a table and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from bench.origin.ingest import IngestSample, OriginPlan


def origin_summary(samples: Sequence[IngestSample], plan: OriginPlan) -> list[dict[str, Any]]:
    """Medians over the runs, for each server and reader."""
    kinds = dict.fromkeys((sample.way, sample.reader) for sample in samples)
    rows = []
    for way, reader in kinds:
        runs = [sample for sample in samples if (sample.way, sample.reader) == (way, reader)]
        rows.append(
            {
                "way": way,
                "reader": reader,
                "rate": statistics.median(plan.size / run.seconds for run in runs),
                "rates": [plan.size / run.seconds for run in runs],
                "cpu": statistics.median(run.cpu for run in runs) * 2**30 / plan.size,
                "sent": statistics.median(run.sent / plan.size for run in runs),
                "counted": statistics.median(run.counted / plan.size for run in runs),
            }
        )
    return rows


def origin_table(samples: Sequence[IngestSample], plan: OriginPlan) -> Table:
    """A table with a line for each server and reader."""
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("origin", "reader", "MiB/s", "[worst best]", "MB/s", "CPU s/GiB", "nginx sent", "counted"):
        shown.add_column(column, no_wrap=True)
    for row in origin_summary(samples, plan):
        shown.add_row(
            row["way"],
            row["reader"],
            f"{row['rate'] / 2**20:.0f}",
            rf"\[{min(row['rates']) / 2**20:.0f} {max(row['rates']) / 2**20:.0f}]",
            f"{row['rate'] / 1e6:.0f}",
            f"{row['cpu']:.2f}",
            f"{row['sent']:.4f}x",
            f"{row['counted']:.4f}x" if row["counted"] else "",
        )
    return shown


def origin_document(samples: Sequence[IngestSample], plan: OriginPlan) -> dict[str, Any]:
    """The results for a JSON file, with the values of each run."""
    return {
        "plan": asdict(plan),
        "medians": origin_summary(samples, plan),
        "runs": [asdict(sample) for sample in samples],
    }
