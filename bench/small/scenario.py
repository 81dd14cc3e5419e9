"""The time of small files that the supernode has: by Dragonfly's protocol, as a peer, and directly from the origin."""

import argparse
import contextlib
import functools
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.arguments import number
from bench.errors import BenchError
from bench.loopback import LoopbackOrigin, fast_origin
from bench.memory import MEBIBYTE, memory, own_folder
from bench.network import Loopback
from bench.origin.nginx import nginx_program
from bench.report.results import Key, Result
from bench.report.svg import Chart
from bench.scenario import Column, Runs, Sample, Scenario, Targets, series
from bench.small.readers import DirectReader, DragonflyReader, NativeReader, Reader
from bench.small.wire import Wires
from bench.swarm import Swarm
from bench.usage import Meter
from pantala_protocol import task_id
from pantala_protocol.statement import CDNStatus, WantedTask

SIZES = {"1 KiB": 1024, "1 MiB": MEBIBYTE}
_WARM_UP = 10
"""The number of reads before the measurement."""
_PAUSE = 0.02
"""Seconds between two deliveries to the real peer, in which the peer removes the former file."""
_LONGEST = 30.0
_LONG_ENOUGH = 0.5
"""Seconds that a kind of read must take for a meaningful foreign load: the kernel counts in steps of 10 ms."""


@dataclass(frozen=True)
class _Lab:
    """A supernode that has all files, one peer, and the origin."""

    swarm: Swarm
    origin: LoopbackOrigin
    contents: dict[str, bytes]
    """The bytes by the label of the size. All files of a size have the same."""

    def wanted(self, label: str, index: int, *peers: str) -> WantedTask:
        url = f"{self.origin.base}/{SIZES[label]}-{index}"
        return WantedTask(
            f"{label}-{index}", "bench/small", task_id.compute(url), url, path=_path(label, index), peers=peers
        )


class SmallScenario(Scenario):
    """Some hundred reads, one after the other."""

    name = "small"
    summary = "warm files of 1 KiB and 1 MiB, some hundred requests (1 min a run)"
    columns = (
        Column("size", "{size}"),
        Column("reader", "{reader}"),
        Column("p50 ms", "{p50_ms:.2f}"),
        Column("[best worst]", "[{p50_ms_min:.2f} {p50_ms_max:.2f}]"),
        Column("p99 ms", "{p99_ms:.2f}"),
        Column("supernode CPU ms", "{cpu_ms:.2f}"),
        Column("foreign", "{foreign:.2f}"),
    )
    targets: ClassVar[Targets] = {
        ("1 KiB", "dragonfly"): "p50 <= 1.5 ms",
        ("1 KiB", "native"): "p50 <= 1 ms",
        ("1 MiB", "native"): "p50 <= 5 ms",
    }

    def add_options(self, parser: argparse._ArgumentGroup) -> None:
        parser.add_argument(
            "--requests", type=number(5000), default=300, metavar="N", help="of each kind and size in a run (300)"
        )

    def plan(self, options: argparse.Namespace) -> dict[str, Key]:
        return {"requests": options.requests, "origin": "nginx" if nginx_program() else "testbed"}

    def runs(self, options: argparse.Namespace) -> Runs:
        count = options.requests
        with memory(4 * (count + 1) * sum(SIZES.values())) as folder:
            contents = {label: os.urandom(size) for label, size in SIZES.items()}
            (folder / "www").mkdir(mode=0o755)
            for label, content in contents.items():
                for index in range(count + 1):
                    (folder / "www" / f"{SIZES[label]}-{index}").write_bytes(content)
            for _ in range(options.runs):
                with _lab(folder, contents, count) as lab:
                    for label in SIZES:
                        yield from _runs(lab, label, count)

    def legend(self, plan: Mapping[str, Key]) -> str:
        return (
            f"{plan['requests']} reads, one after the other, over loopback; the supernode has the file. "
            f"direct: a GET at {plan['origin']}. dragonfly: register, ask for work, fetch the pieces. "
            "native: a simulated peer that starts: an exchange, and the pieces. kept: over kept connections; dragonfly "
            "and direct without it open new ones for each read. peer: a real peer, from the statement until it has "
            "published another file. foreign: cores that other processes used."
        )

    def charts(self, result: Result) -> list[Chart]:
        charts = []
        for label in SIZES:
            rows = [row for row in result.rows if row.case["size"] == label]
            readers = tuple(str(row.case["reader"]) for row in rows)
            charts.append(Chart(f"small: milliseconds for {label}, warm", readers, {"p50": series(rows, "p50_ms")}))
        return charts


@contextmanager
def _lab(folder: Path, contents: dict[str, bytes], count: int) -> Iterator[_Lab]:
    options = ("--dragonfly", "--cache-seconds", "3600", "--fresh-seconds", "3600")
    with ExitStack() as stack:
        own = stack.enter_context(own_folder(folder))
        origin = stack.enter_context(fast_origin(folder, own))
        swarm = stack.enter_context(Swarm(Loopback(), own, *options))
        lab = _Lab(swarm, origin, contents)
        swarm.supernode.state(*(lab.wanted(label, index) for label in SIZES for index in range(count + 1)))
        swarm.supernode.wait(lambda: _cached(lab) == len(SIZES) * (count + 1), "the supernode has all files", 300)
        swarm.start_peers([Loopback()])
        yield lab
        shutil.rmtree(own / "supernode", ignore_errors=True)


def _cached(lab: _Lab) -> int:
    time.sleep(0.2)  # the report about all files is long
    return sum(report.cdn_status is CDNStatus.SUCCESS for report in lab.swarm.supernode.changes().tasks)


def _runs(lab: _Lab, label: str, count: int) -> Runs:
    supernode, url, size = lab.swarm.supernode, lab.wanted(label, 0).url, SIZES[label]
    address = (supernode.place.address, supernode.port)
    simulated = f"simulated-{size}"
    supernode.state(lab.wanted(label, 0, simulated))
    with contextlib.closing(Wires()) as wires:
        direct = DirectReader(url, size, wires)
        dragonfly = DragonflyReader(url, size, wires, address)
        native = NativeReader(url, size, wires, address, simulated)
        readers: list[tuple[str, Reader, bool]] = [
            ("direct", direct, False), ("direct, kept", direct, True),
            ("dragonfly", dragonfly, False), ("dragonfly, kept", dragonfly, True), ("native", native, True),
        ]  # fmt: skip
        for name, reader, kept in readers:
            read = functools.partial(_read, lab, label, reader, kept, count)
            yield functools.partial(_sample, lab, label, name, read)
    yield functools.partial(_sample, lab, label, "peer", functools.partial(_deliver, lab, label, count))


def _sample(lab: _Lab, label: str, reader: str, read: Callable[[], list[float]]) -> Sample:
    groups = {
        "supernode": [lab.swarm.supernode.process.pid],
        "others": [lab.origin.pid, *(peer.process.pid for peer in lab.swarm.peers)],
    }
    meter = Meter(groups)
    seconds = read()
    meter.stop()
    values = {
        "p50_ms": 1000 * statistics.median(seconds),
        "p99_ms": 1000 * statistics.quantiles(seconds, n=100)[-1],
    }
    if meter.seconds > _LONG_ENOUGH:
        values["foreign"] = meter.foreign
    if not reader.startswith("direct"):
        values["cpu_ms"] = 1000 * meter.cpu["supernode"] / len(seconds)
    return Sample({"size": label, "reader": reader}, values)


def _read(lab: _Lab, label: str, reader: Reader, kept: bool, count: int) -> list[float]:
    seconds = []
    for index in range(_WARM_UP + count):
        if not kept:
            reader.wires.close()
        began = time.perf_counter()
        content = reader.read()
        took = time.perf_counter() - began
        if content != lab.contents[label]:
            raise BenchError(f"A read of {label} has other bytes.")
        reader.finish()
        if index >= _WARM_UP:
            seconds.append(took)
    return seconds


def _deliver(lab: _Lab, label: str, count: int) -> list[float]:
    """Send a statement with one file after the other for the real peer, and wait until it has published each file."""
    peer, seconds = lab.swarm.peers[0], []
    for index in range(1, count + 1):
        path = peer.file(_path(label, index))
        task = lab.wanted(label, index, peer.name)
        time.sleep(_PAUSE)
        began = time.perf_counter()
        lab.swarm.supernode.state(task)
        while not path.exists():
            if time.perf_counter() - began > _LONGEST:
                raise BenchError(f"The peer does not publish {label}:\n{peer.process.tail()}")
            time.sleep(0.0001)
        seconds.append(time.perf_counter() - began)
        if path.read_bytes() != lab.contents[label]:
            raise BenchError(f"The peer published {label} with other bytes.")
    return seconds


def _path(label: str, index: int) -> str:
    return f"small/{SIZES[label]}/{index}"
