"""``python -m bench [data] [control] [origin] [stampede]``: measures downloads, the API, reads of origins, and images.

A run of ``data`` takes about two minutes, ``control`` one, ``origin`` one, ``stampede`` seven. The default is
``data control origin``.
"""

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

from bench import control, direct, stampede, swarm
from bench.errors import BenchError
from bench.origin import ingest
from bench.origin.ingest import IngestSample, OriginPlan
from bench.origin.report import origin_document, origin_table
from bench.report import Measured, control_table, document, table
from bench.stage import Plan, Stage, make_file
from bench.stampede import StampedePlan, StampedeSample
from bench.stampede_report import stampede_document, stampede_table
from testbed.cluster.command import CommandError, run
from testbed.registry import RegistryError

_SCENARIOS = ("data", "control", "origin", "stampede")
_NEED_ROOT = frozenset({"data", "stampede"})
_PROGRAMS = ("ip", "tc", "nsenter", "mount", "umount")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and return the exit code. 0: measured, 1: a run failed or had a wrong file, 2: not possible here."""
    options = _parser().parse_args(arguments)
    options.scenarios = options.scenarios or ["data", "control", "origin"]
    console = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else 120)
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    needing = sorted(_NEED_ROOT.intersection(options.scenarios))
    lacking = ingest.missing_programs() if "origin" in options.scenarios else ""
    if lacking:
        print(f"python -m bench: {lacking}", file=sys.stderr)
        return 2
    if needing and (os.geteuid() != 0 or missing):
        why = (
            f"{', '.join(missing)} missing. Install iproute2 and util-linux" if missing else f"{needing[0]} needs root"
        )
        print(f"python -m bench: {why}", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    plan = Plan(size=options.size * 1024 * 1024)
    try:
        measured = _measure(options, plan, console) if "data" in options.scenarios else []
        samples = _control(options, console) if "control" in options.scenarios else []
        source = OriginPlan(options.origin_size * 1024 * 1024)
        reads = _origin(options, source, console) if "origin" in options.scenarios else []
        rush = StampedePlan(options.image_size * 1024 * 1024)
        pulls = _stampede(options, rush, console) if "stampede" in options.scenarios else []
    except (BenchError, CommandError, RegistryError) as error:
        console.print(f"failed: {error}", style="red", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 130
    if measured:
        console.print(_legend(plan, options.runs), soft_wrap=True)
        console.print(table(measured, plan))
    if samples:
        console.print(_control_legend(options), soft_wrap=True)
        console.print(control_table(samples))
    if reads:
        console.print(_origin_legend(source, options.runs), soft_wrap=True)
        console.print(origin_table(reads, source))
    if pulls:
        console.print(_stampede_legend(rush, options.runs), soft_wrap=True)
        console.print(stampede_table(pulls, rush))
    others = {"origin": origin_document(reads, source), "stampede": stampede_document(pulls, rush)}
    print(json.dumps({**document(measured, plan, samples), **others}, indent=2))
    return 0


def _origin(options: argparse.Namespace, plan: OriginPlan, console: Console) -> list[IngestSample]:
    samples = []
    for sample in ingest.measure(plan, options.runs):
        samples.append(sample)
        console.print(
            f"{sample.way}, {sample.reader}: {plan.size / sample.seconds / 2**20:.0f} MiB/s, "
            f"{sample.cpu:.1f} CPU s, nginx sent {sample.sent / plan.size:.4f}x"
        )
    return samples


def _stampede(options: argparse.Namespace, plan: StampedePlan, console: Console) -> list[StampedeSample]:
    samples = []
    for sample in stampede.measure(plan, options.runs):
        samples.append(sample)
        console.print(
            f"{sample.way}: 3 at once {sample.at_once.seconds[-1]:.1f} s, "
            f"{sample.at_once.registry_bytes / 1e6:.0f} MB; "
            f"node 1 {sample.first.seconds[-1]:.1f} s, then 2 + 3 {sample.later.seconds[-1]:.1f} s, "
            f"{sample.later.registry_bytes / 1e6:.0f} MB more"
        )
    return samples


def _control(options: argparse.Namespace, console: Console) -> list[list[control.ControlSample]]:
    """Measure the control plane, for each kind of client and each number of clients."""
    measured: list[list[control.ControlSample]] = []
    for kind in ("dfget", "native"):
        for clients in options.clients:
            runs = []
            for number in range(1, options.runs + 1):
                with tempfile.TemporaryDirectory(prefix="pantala-bench-") as folder:
                    runs.append(control.measure(Path(folder), kind, clients, options.seconds))
                console.print(f"run {number}, {clients} {kind} clients: {runs[-1].cycles:.0f} cycles/s")
            measured.append(runs)
    return measured


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
    """A temporary folder in memory: on a common disk the simulated nodes would wait for each other."""
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
    parser.add_argument(
        "scenarios",
        nargs="*",
        type=_scenario,
        metavar="|".join(_SCENARIOS),
        help="what to measure (data, control, origin)",
    )
    parser.add_argument("--runs", type=int, default=3, help="runs of each, of which the median counts (3)")
    parser.add_argument("--peers", type=_numbers, default=[1, 4, 8], metavar="N,N", help="numbers of peers (1,4,8)")
    parser.add_argument("--size", type=int, default=64, metavar="MIB", help="of the file (64)")
    parser.add_argument("--origin-size", type=int, default=1024, metavar="MIB", help="of origin's file (1024)")
    parser.add_argument("--image-size", type=int, default=600, metavar="MIB", help="of stampede's image (600)")
    parser.add_argument("--clients", type=_numbers, default=[50, 500], metavar="N,N", help="of control (50,500)")
    parser.add_argument("--seconds", type=float, default=4.0, help="that each run of control is measured for (4)")
    return parser


def _legend(plan: Plan, runs: int) -> str:
    return (
        f"{plan.size >> 20} MiB; links each way: peers {plan.peer_megabits} Mbit/s, supernode and origin "
        f"{plan.hub_megabits} Mbit/s; medians of {runs}\n"
        f"times / line time ({plan.line_seconds:.2f} s); bytes / size; CPU and RSS: supernode + peers; "
        "foreign: cores that other processes used"
    )


def _control_legend(options: argparse.Namespace) -> str:
    return (
        f"{control.PIECES} pieces, no bytes moved, clients and supernode on the same cores; medians of {options.runs}\n"
        "cycle: a report and a pull (dfget), one exchange with both (native); pulls of clients with work left;\n"
        "waits: answers to clients without work left, which may be held; CPU: the supernode's"
    )


def _origin_legend(plan: OriginPlan, runs: int) -> str:
    kills = " and ".join(f"{share:.0%}" for share in ingest.KILLED_AT)
    return (
        f"{plan.size >> 20} MiB from nginx on loopback into memory; slow: {plan.rate / 1e6:.0f} MB/s per connection, "
        f"{plan.connections} connections; medians of {runs}\n"
        f"curl: piped into openssl dgst -sha256; killed: SIGKILL at {kills}, restarts included; bytes / size"
    )


def _stampede_legend(plan: StampedePlan, runs: int) -> str:
    return (
        f"an image of one layer of {plan.size >> 20} MiB; links each way: registry and nodes {plan.megabits} Mbit/s; "
        f"medians of {runs}\n"
        f"times of the slowest pull, with unpacking / line time ({plan.line_seconds:.1f} s); registry's bytes / size"
    )


def _scenario(text: str) -> str:
    if text not in _SCENARIOS:
        raise argparse.ArgumentTypeError(f"give {' or '.join(_SCENARIOS)}")
    return text


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if not all(1 <= number <= 2000 for number in numbers):
        raise argparse.ArgumentTypeError("give numbers from 1 to 2000")
    return numbers


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
