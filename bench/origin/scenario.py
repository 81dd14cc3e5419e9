"""A supernode reads one large file from nginx, beside ``curl | openssl dgst -sha256``."""

import argparse
import functools
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

from bench.arguments import number
from bench.memory import GIBIBYTE, MEBIBYTE, make_file, memory, touch
from bench.origin import ingest
from bench.origin.ingest import FILE, KILLED_AT, OriginPlan
from bench.report.results import Key, Result
from bench.report.svg import Chart
from bench.scenario import Column, Runs, Sample, Scenario, Targets, series

_CASES = [(origin, reader) for origin in ("http", "https", "slow") for reader in ("supernode", "killed", "curl")]
_CASES.remove(("slow", "curl"))


class OriginScenario(Scenario):
    """Reads over http, https, and from a server that limits each connection."""

    name = "origin"
    summary = "a supernode reads 1 GiB from nginx (nginx, curl, openssl; 2 min a run)"
    columns = (
        Column("origin", "{origin}"),
        Column("reader", "{reader}"),
        Column("MiB/s", "{rate:.0f}"),
        Column("[worst best]", "[{rate_min:.0f} {rate_max:.0f}]"),
        Column("CPU s/GiB", "{cpu:.2f}"),
        Column("nginx sent", "{sent:.4f}x"),
        Column("supernode read", "{counted:.4f}x"),
        Column("foreign", "{foreign:.2f}"),
    )
    targets: ClassVar[Targets] = {("http", "supernode"): "CPU <= 2.8, 1.0000x", ("https", "supernode"): "1.0000x"}

    def add_options(self, parser: argparse._ArgumentGroup) -> None:
        parser.add_argument(
            "--origin-size", type=number(1 << 20), default=1024, metavar="MIB", help="of the file (1024)"
        )

    def plan(self, options: argparse.Namespace) -> dict[str, Key]:
        return asdict(_plan(options))

    def lacks(self) -> str:
        return ingest.missing_programs("nginx")

    def runs(self, options: argparse.Namespace) -> Runs:
        plan = _plan(options)
        with memory(3 * plan.size) as folder:
            touch(folder, 2 * plan.size)
            root = folder / "www"
            root.mkdir()
            root.chmod(0o755)
            sha256 = make_file(root / FILE, plan.size)
            for _ in range(options.runs):
                for origin, reader in _CASES:
                    yield functools.partial(_read, plan, folder, origin, reader, sha256)

    def legend(self, plan: Mapping[str, Key]) -> str:
        kills = " and ".join(f"{share:.0%}" for share in KILLED_AT)
        return (
            f"{int(plan['size']) // MEBIBYTE} MiB from nginx on loopback into memory. "
            f"slow: {int(plan['rate']) / 1e6:.0f} MB/s per connection, {plan['connections']} connections. "
            f"curl: piped into openssl dgst -sha256. killed: SIGKILL at {kills}, restarts included. "
            "CPU: the reader's. Bytes / size. foreign: cores that other processes used."
        )

    def charts(self, result: Result) -> list[Chart]:
        labels = tuple(f"{row.case['origin']} {row.case['reader']}" for row in result.rows)
        return [
            Chart("origin: MiB/s", labels, {"MiB/s": series(result.rows, "rate")}),
            Chart("origin: CPU seconds per GiB", labels, {"reader": series(result.rows, "cpu")}),
        ]


def _plan(options: argparse.Namespace) -> OriginPlan:
    return OriginPlan(options.origin_size * MEBIBYTE)


def _read(plan: OriginPlan, folder: Path, origin: str, reader: str, sha256: str) -> Sample:
    if reader == "curl":
        run = ingest.read_by_curl(plan, folder, origin, sha256)
    else:
        kills = KILLED_AT if reader == "killed" else ()
        run = ingest.read_by_supernode(plan, folder, origin, sha256, kills)
    values = {
        "rate": plan.size / run.seconds / MEBIBYTE,
        "cpu": run.cpu * GIBIBYTE / plan.size,
        "sent": run.sent / plan.size,
        "foreign": run.foreign,
    }
    if run.counted is not None:
        values["counted"] = run.counted / plan.size
    return Sample({"origin": origin, "reader": reader}, values)
