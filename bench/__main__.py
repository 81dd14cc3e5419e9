"""``python -m bench``: N peers on shaped links, beside N direct downloads. About two minutes for each run of all N."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from bench import direct, swarm
from bench.errors import BenchError
from bench.report import Measured, document, table
from bench.stage import Plan, Stage, make_file
from testbed.cluster.command import CommandError, run

_PROGRAMS = ("ip", "tc", "nsenter", "mount", "umount")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; returns the exit code: 0 measured, 1 a run failed or had a wrong file, 2 not possible here."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 120)
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        why = f"{', '.join(missing)} missing: install iproute2 and util-linux" if missing else "it needs root"
        print(f"python -m bench: {why}", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    plan = Plan(size=options.size * 1024 * 1024)
    try:
        measured = _measure(options, plan, console)
    except (BenchError, CommandError) as error:
        console.print(f"failed: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    console.print(_legend(plan, options.runs), soft_wrap=True)
    console.print(table(measured, plan))
    print(json.dumps(document(measured, plan), indent=2))
    return 0


def _measure(options: argparse.Namespace, plan: Plan, console: Console) -> list[Measured]:
    measured = [Measured(peers) for peers in options.peers]
    with _memory() as folder:
        file = folder / "file"
        sha256 = make_file(file, plan.size)
        for number in range(1, options.runs + 1):
            for each in measured:
                with _stage(plan, file, folder) as stage:
                    each.swarm.append(swarm.measure(stage, each.peers, sha256))
                with _stage(plan, file, folder) as stage:
                    each.direct.append(direct.measure(stage, each.peers, sha256))
                slowest, line = each.swarm[-1].seconds[-1], plan.line_seconds
                console.print(
                    f"run {number}, {each.peers} peers: slowest {slowest / line:.3f}, "
                    f"direct {each.direct[-1][-1] / line:.3f}"
                )
    return measured


@contextlib.contextmanager
def _memory() -> Iterator[Path]:
    """A folder in memory: on one disk, N nodes would wait for each other as N nodes with disks do not."""
    with tempfile.TemporaryDirectory(prefix="pantala-bench-") as name:
        run("mount", "-t", "tmpfs", "-o", "size=4g,mode=0700", "pantala-bench", name)
        try:
            yield Path(name)
        finally:
            run("umount", "--lazy", name, check=False)


@contextlib.contextmanager
def _stage(plan: Plan, file: Path, folder: Path) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(dir=folder, prefix="run-") as own, Stage(plan, file, Path(own)) as stage:
        yield stage


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="runs of each, of which the median counts (3)")
    parser.add_argument("--peers", type=_numbers, default=[1, 4, 8], metavar="N,N", help="numbers of peers (1,4,8)")
    parser.add_argument("--size", type=int, default=64, metavar="MIB", help="of the file (64)")
    return parser


def _legend(plan: Plan, runs: int) -> str:
    return (
        f"{plan.size >> 20} MiB; links each way: peers {plan.peer_megabits} Mbit/s, supernode and origin "
        f"{plan.hub_megabits} Mbit/s; medians of {runs}\n"
        f"times / line time ({plan.line_seconds:.2f} s); bytes / size; CPU and RSS: supernode + peers; "
        "foreign: cores that others used"
    )


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if not all(1 <= number <= 200 for number in numbers):
        raise argparse.ArgumentTypeError("give numbers from 1 to 200")
    return numbers


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
