"""Peers download one large file over loopback without any limit, beside direct downloads from the same origin."""

import argparse
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.arguments import number, numbers
from bench.fast import direct, floor
from bench.loopback import NAME, fast_origin
from bench.memory import GIBIBYTE, MEBIBYTE, make_file, memory, own_folder, touch
from bench.network import Loopback
from bench.origin.ingest import missing_programs
from bench.origin.nginx import nginx_program
from bench.report.results import Key, Result
from bench.report.svg import Chart
from bench.scenario import Column, Runs, Sample, Scenario, Targets
from bench.swarm import Swarm
from bench.usage import Meter

_MOST_PEERS = 8
_LONGEST = 120.0
"""Seconds that a gibibyte for each peer may take."""


@dataclass(frozen=True)
class _Lab:
    """The file, and the folder in memory for one run."""

    folder: Path
    size: int
    sha256: str

    @property
    def file(self) -> Path:
        return self.folder / "www" / NAME


class FastScenario(Scenario):
    """Cold: only the origin has the file. Warm: the supernode has it, and the peers are new."""

    name = "fast"
    summary = "peers download 1 GiB over loopback, cold and warm (curl, openssl; 3 min a run, 8 GiB of memory)"
    columns = (
        Column("peers", "{peers}"),
        Column("way", "{way}"),
        Column("MiB/s in all", "{rate:.0f}"),
        Column("[worst best]", "[{rate_min:.0f} {rate_max:.0f}]"),
        Column("peer CPU s/GiB", "{peer_cpu:.2f}"),
        Column("supernode CPU s/GiB", "{supernode_cpu:.2f}"),
        Column("origin CPU s/GiB", "{origin_cpu:.2f}"),
        Column("peer MiB", "{peer_mebibytes:.0f}"),
        Column("supernode MiB", "{supernode_mebibytes:.0f}"),
        Column("supernode sent", "{supernode_copies:.2f}x"),
        Column("foreign", "{foreign:.2f}"),
    )
    targets: ClassVar[Targets] = {
        (0, "take in"): "CPU: supernode <= 2.8",
        (1, "cold"): ">= 380 MiB/s; CPU: peer <= 2.3; peer <= 90 MiB, supernode <= 130 MiB",
        (1, "warm"): ">= 700 MiB/s; CPU: peer <= 2.3, supernode <= 0.5",
        (4, "warm"): ">= 700 MiB/s; CPU: peer <= 2.3",
    }

    def add_options(self, parser: argparse._ArgumentGroup) -> None:
        parser.add_argument(
            "--fast-peers", type=numbers(_MOST_PEERS), default=[1, 2, 4], metavar="N,N",
            help=f"numbers of peers, at most {_MOST_PEERS} (1,2,4)",
        )  # fmt: skip
        parser.add_argument("--tls", action="store_true", help="measure each way with TLS, too (fast)")
        parser.add_argument("--fast-size", type=number(1 << 20), default=1024, metavar="MIB", help="of the file (1024)")

    def plan(self, options: argparse.Namespace) -> dict[str, Key]:
        return {"size": options.fast_size * MEBIBYTE, "origin": "nginx" if nginx_program() else "testbed"}

    def lacks(self) -> str:
        return missing_programs()

    def runs(self, options: argparse.Namespace) -> Runs:
        size = options.fast_size * MEBIBYTE
        needed = (max(options.fast_peers) + 2) * size
        with memory(needed) as folder:
            touch(folder, needed)
            (folder / "www").mkdir(mode=0o755)
            lab = _Lab(folder, size, make_file(folder / "www" / NAME, size))
            for _ in range(options.runs):
                yield functools.partial(_take_in, lab)
                for peers in options.fast_peers:
                    for tls in (False, True) if options.tls else (False,):
                        yield functools.partial(_swarm, lab, peers, "cold", tls=tls)
                        yield functools.partial(_swarm, lab, peers, "warm", tls=tls)
                    for other in (_limit, _direct, _hashed):
                        yield functools.partial(other, lab, peers)

    def legend(self, plan: Mapping[str, Key]) -> str:
        return (
            f"{int(plan['size']) // MEBIBYTE} MiB over loopback in memory, the origin is {plan['origin']}. "
            "Rates: bytes of all peers / time until the last peer has published. cold: only the origin has the file. "
            "warm: the supernode has it. TLS: between supernode and peers. "
            "limit: blocking sockets, BLAKE3 and a write for each piece, from one sender, "
            "without any protocol. direct: curl -o, not verified. hashed: curl | openssl dgst -sha256, not written. "
            "take in: the supernode without peers. CPU per GiB that was delivered. MiB: peak memory. "
            "foreign: cores that other processes used."
        )

    def charts(self, result: Result) -> list[Chart]:
        ways = dict.fromkeys(str(row.case["way"]) for row in result.rows if row.case["peers"])
        counts = list(dict.fromkeys(row.case["peers"] for row in result.rows if row.case["peers"]))
        rates = {(row.case["peers"], row.case["way"]): row.median("rate") for row in result.rows}
        labels = tuple(f"{count} peers" for count in counts)
        shown = {way: tuple(rates.get((count, way)) for count in counts) for way in ways}
        return [Chart("fast: MiB/s of all peers together", labels, shown)]


def _take_in(lab: _Lab) -> Sample:
    with own_folder(lab.folder) as own, fast_origin(lab.folder, own) as origin:
        with Swarm(Loopback(), own) as swarm:
            meter = swarm.take_in(origin.url, lab.sha256, origin=[origin.pid])
            peak = swarm.supernode.peak_mebibytes
        return _sample(lab, 0, "take in", meter.seconds, meter, supernode_mebibytes=peak)


def _swarm(lab: _Lab, peers: int, way: str, *, tls: bool) -> Sample:
    with (
        own_folder(lab.folder) as own,
        fast_origin(lab.folder, own) as origin,
        Swarm(Loopback(), own, tls=tls) as swarm,
    ):
        if way == "warm":
            swarm.take_in(origin.url, lab.sha256)
        swarm.start_peers([Loopback()] * peers)
        longest = 10 + _LONGEST * peers * lab.size / GIBIBYTE
        run = swarm.deliver(origin.url, lab.sha256, longest, origin=[origin.pid])
        return _sample(
            lab, peers, f"{way}, TLS" if tls else way, run.seconds[-1], run.meter,
            peer_mebibytes=run.peer_mebibytes, supernode_mebibytes=run.supernode_mebibytes,
            supernode_copies=run.supernode_bytes / lab.size,
        )  # fmt: skip


def _limit(lab: _Lab, peers: int) -> Sample:
    with own_folder(lab.folder) as own:
        seconds, meter = floor.measure(lab.file, own, peers)
        return _sample(lab, peers, "limit", seconds, meter)


def _direct(lab: _Lab, peers: int) -> Sample:
    with own_folder(lab.folder) as own, fast_origin(lab.folder, own) as origin:
        seconds, meter = direct.download(origin, own, peers, lab.sha256)
        return _sample(lab, peers, "direct", seconds, meter, peer_cpu=meter.own * GIBIBYTE / (peers * lab.size))


def _hashed(lab: _Lab, peers: int) -> Sample:
    with own_folder(lab.folder) as own, fast_origin(lab.folder, own) as origin:
        seconds, meter = direct.hashed(origin, peers, lab.sha256)
        return _sample(lab, peers, "hashed", seconds, meter, peer_cpu=meter.own * GIBIBYTE / (peers * lab.size))


def _sample(lab: _Lab, peers: int, way: str, seconds: float, meter: Meter, **values: float) -> Sample:
    delivered = max(peers, 1) * lab.size
    names = {"peers": "peer_cpu", "supernode": "supernode_cpu", "origin": "origin_cpu"}
    cpu = {names[group]: used * GIBIBYTE / delivered for group, used in meter.cpu.items()}
    rate = delivered / seconds / MEBIBYTE
    return Sample({"peers": peers, "way": way}, {"rate": rate, **cpu, "foreign": meter.foreign, **values})
