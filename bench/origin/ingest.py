"""Reads of one file from nginx: by a supernode, by a supernode that is killed meanwhile, and by ``curl | openssl``."""

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.memory import MEBIBYTE, own_folder
from bench.network import Loopback
from bench.origin.nginx import PATH, Nginx, serving
from bench.supernode import SupernodeProcess
from bench.usage import Meter, cpu_seconds
from pantala_protocol import task_id
from pantala_protocol.statement import TaskReport, WantedTask

KILLED_AT = (0.3, 0.6)
"""The shares of the file after which the supernode is killed, in the runs with kills."""
FILE = "file"
_UID = "bench"


@dataclass(frozen=True)
class OriginPlan:
    """The parameters of the scenario."""

    size: int = 1024 * MEBIBYTE
    """Bytes of the file."""
    rate: int = 25_000_000
    """Bytes per second of one connection to the slow server."""
    connections: int = 8
    """The most connections of the supernode to the slow server."""


@dataclass(frozen=True)
class IngestRun:
    """One read of the whole file."""

    seconds: float
    """Seconds from the statement to the verified file on the volume. With kills, the restarts are included."""
    cpu: float
    """CPU seconds of the reader's processes, while they read."""
    sent: int
    """Bytes of body that nginx sent, from its access log."""
    foreign: float
    counted: int | None = None
    """Bytes of body that the supernode counted."""


def missing_programs(*more: str) -> str:
    """Which of curl, openssl and the programs ``more`` to install before the measurement, or empty."""
    missing = [name for name in ("curl", "openssl", *more) if shutil.which(name, path=PATH) is None]
    return f"{', '.join(missing)} missing. Install the packages of these names." if missing else ""


def read_by_curl(plan: OriginPlan, folder: Path, way: str, sha256: str) -> IngestRun:
    """Read the file of ``folder``. ``way``: ``http``, ``https`` or ``slow``."""
    with _served(plan, folder) as (nginx, _):
        meter = Meter({"origin": [nginx.pid]})
        hash_by_openssl([nginx.url(way, FILE)], sha256, "--cacert", str(nginx.authority))
        meter.stop()
        return IngestRun(meter.seconds, meter.own, nginx.sent(), meter.foreign)


def read_by_supernode(plan: OriginPlan, folder: Path, way: str, sha256: str, kills: Sequence[float]) -> IngestRun:
    """Read the file of ``folder`` with a new supernode, which is killed at these shares of the file."""
    with _served(plan, folder) as (nginx, own):
        options = (
            "--origin-connections", str(plan.connections), "--origin-ca", f"127.0.0.1={nginx.authority}",
        )  # fmt: skip
        url = nginx.url(way, FILE)
        task = WantedTask(_UID, "bench/file", task_id.compute(url), url)
        meter = Meter({"origin": [nginx.pid]})
        with SupernodeProcess(Loopback(), own, *options) as supernode:
            began, cpu = time.monotonic(), -cpu_seconds(supernode.process.pid)
            for share in kills:
                supernode.state(task)
                supernode.wait_report(_UID, lambda report, share=share: _arrived(report) >= share * plan.size)  # type: ignore[misc]
                cpu += cpu_seconds(supernode.process.pid)
                supernode.kill()
                supernode.start()
                cpu -= cpu_seconds(supernode.process.pid)
            supernode.state(task)
            report = supernode.wait_cached(_UID)
            seconds, cpu = time.monotonic() - began, cpu + cpu_seconds(supernode.process.pid)
            supernode.kill()  # ends its idle connections, so that nginx logs all answers
        meter.stop()
        if report.digest != f"sha256:{sha256}":
            raise BenchError(f"The supernode read a file with the digest {report.digest} instead of {sha256}.")
        return IngestRun(seconds, cpu, nginx.sent(), meter.foreign, report.origin_bytes)


def hash_by_openssl(urls: Sequence[str], sha256: str, *options: str) -> tuple[float, ...]:
    """Run ``curl URL | openssl dgst -sha256`` for all URLs at once. Returns the seconds of each, ascending."""
    began = time.monotonic()
    pairs: list[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]] = []
    try:
        for url in urls:
            reading = subprocess.Popen(["curl", "-sS", "--fail", *options, url], stdout=subprocess.PIPE)
            hashing = subprocess.Popen(
                ["openssl", "dgst", "-sha256"], stdin=reading.stdout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            assert reading.stdout is not None  # noqa: S101
            reading.stdout.close()  # only openssl reads it
            pairs.append((reading, hashing))
        seconds = []
        for reading, hashing in pairs:
            printed, _ = hashing.communicate()
            failed = reading.wait()
            seconds.append(time.monotonic() - began)
            if failed or sha256.encode() not in printed:
                raise BenchError(f"curl ended with {failed}, and openssl printed {printed!r}")
    finally:
        for pair in pairs:
            for process in pair:
                process.kill()
                process.wait()
    return tuple(seconds)


@contextmanager
def _served(plan: OriginPlan, folder: Path) -> Iterator[tuple[Nginx, Path]]:
    """A new nginx, and a folder of its own for one run."""
    with own_folder(folder) as own, serving(folder / "www", own, plan.rate) as nginx:
        yield nginx, own


def _arrived(report: TaskReport) -> int:
    return report.pieces_cached * report.piece_size
