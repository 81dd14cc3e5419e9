"""``python -m faults`` injects faults into the product and prints a table of counts. It fails if a promise is broken.

``--rows NAME ...`` runs only some rows, ``--short`` the form in ``make test``, ``--first N --count 1`` one experiment.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from faults.catalog import ROWS
from faults.row import Plan, Row, Tally, memory_folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code. 0: every promise held, 1: one was broken, 2: a row cannot run here, or injected nothing."""
    options = _parser().parse_args(arguments)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 180)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    results: dict[str, Tally] = {}
    lacking = False
    for row in [ROWS[name] for name in dict.fromkeys(options.rows or ROWS)]:
        if (why := row.lacks()) is not None:
            console.print(f"{row.name} cannot run here: {why}", style="yellow", markup=False)
            lacking = lacking or bool(options.rows)
            continue
        begun = time.monotonic()
        count = options.count or (row.short if options.short else row.full)
        chosen = {"seed": options.seed, "first": options.first, "seconds": options.seconds}
        tally = results[row.name] = measured(row, count, **chosen)
        tally.worst["seconds"] = time.monotonic() - begun
        if not tally.counts[row.unit] and not tally.broken:
            console.print(f"{row.name} injected nothing, so it shows nothing.", style="yellow", markup=False)
            lacking = True
        console.print(_line(row, tally), markup=False, soft_wrap=True)
        for violation in tally.violations:
            console.print(violation, style="red", markup=False, soft_wrap=True)
    console.print(table(results))
    if options.json:
        document = {
            name: {**tally.counts, **tally.worst, "violations": tally.broken} for name, tally in results.items()
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if any(tally.broken for tally in results.values()) else 2 if lacking else 0


def measured(row: Row, count: int, *, seed: int = 1, first: int = 0, seconds: float | None = None) -> Tally:
    """Run one row. An error that it does not expect is a violation too."""
    tally = Tally()
    prefix = f"faults-{row.name}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=memory_folder(), ignore_cleanup_errors=True) as folder:
        plan = Plan(row.name, count, Path(folder), seed, first, seconds)
        try:
            asyncio.run(_run(row, plan, tally))
        except Exception:
            tally.check(False, traceback.format_exc(limit=-6), plan.case(max(plan.latest, first)))
    return tally


async def _run(row: Row, plan: Plan, tally: Tally) -> None:
    await row.run(plan, tally)


def table(results: dict[str, Tally]) -> Table:
    shown = Table(title="Faults", title_justify="left")
    for name in ("row", "faults", "violations", "other counts", "seconds"):
        shown.add_column(name, justify="right" if name in ("faults", "violations", "seconds") else "left")
    for name, tally in results.items():
        row = ROWS[name]
        others = [f"{count} {what}" for what, count in tally.counts.items() if what != row.unit]
        others += [f"{what} <= {value:.3g}" for what, value in tally.worst.items() if what != "seconds"]
        seconds = f"{tally.worst['seconds']:.0f}"
        faults = f"{tally.counts[row.unit]:,} {row.unit}".replace("_", " ")
        shown.add_row(name, faults, str(tally.broken), ", ".join(others).replace("_", " "), seconds)
    return shown


def _line(row: Row, tally: Tally) -> str:
    return f"{row.name}: {tally.counts[row.unit]:,} {row.unit.replace('_', ' ')}, {tally.broken} violations"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--rows", nargs="+", action="extend", choices=list(ROWS), help="only these rows")
    parser.add_argument("--short", action="store_true", help="as many experiments as make test runs")
    parser.add_argument("--count", type=int, help="how many faults each row injects")
    parser.add_argument("--seconds", type=float, help="how long each row may begin new experiments")
    parser.add_argument("--seed", type=int, default=1, help="the seed of all that is random; default: %(default)s")
    parser.add_argument("--first", type=int, default=0, help="the number of the first experiment")
    parser.add_argument("--json", type=Path, help="write the counts to this file too")
    return parser


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
