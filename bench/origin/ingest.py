"""Measures how a supernode reads one file, and how ``curl | openssl`` reads it."""

from __future__ import annotations

import http.client
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench import usage
from bench.errors import BenchError
from bench.origin.nginx import Nginx, nginx_program
from bench.stage import make_file
from pantala_protocol import task_id
from pantala_protocol.statement import CDNStatus, Changes, Statement, TaskReport, WantedTask
from testbed.process import Process, free_ports

KILLED_AT = (0.3, 0.6)
"""The shares of the file after which the supernode is killed, in the runs with kills."""
_HOST = "127.0.0.1"
_FILE = "file"
_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class OriginPlan:
    """The parameters of the scenario."""

    size: int = 1024 * 1024 * 1024
    """Bytes of the file."""
    rate: int = 25_000_000
    """Bytes per second of one connection to the slow server."""
    connections: int = 8
    """The most connections of the supernode to the slow server."""


@dataclass(frozen=True)
class IngestSample:
    """One read of the whole file."""

    way: str
    """The server: ``http``, ``https`` or ``slow``."""
    reader: str
    """``supernode``, ``supernode, killed`` or ``curl``."""
    seconds: float
    """From the order to the verified file on the volume. With kills, the restarts are included."""
    cpu: float
    """CPU seconds of the reader's processes, while they read."""
    sent: int
    """Bytes of body that nginx sent, from its access log."""
    counted: int
    """Bytes of body that the supernode counted; 0 for curl."""


def missing_programs() -> str:
    """What to install before the measurement, or empty."""
    missing = [name for name in ("curl", "openssl") if shutil.which(name) is None]
    missing += ["nginx"] if nginx_program() is None else []
    return f"{', '.join(missing)} missing. Install the packages of these names" if missing else ""


def measure(plan: OriginPlan, runs: int) -> Iterator[IngestSample]:
    """Measure all readers at all servers. Raises :class:`BenchError`."""
    with _memory(3 * plan.size) as folder:
        root = folder / "www"
        root.mkdir()
        root.chmod(0o755)
        sha256 = make_file(root / _FILE, plan.size)
        for _ in range(runs):
            for way in ("http", "https", "slow"):
                yield _supernode(plan, folder, way, sha256, ())
                yield _supernode(plan, folder, way, sha256, KILLED_AT)
                if way != "slow":
                    yield _curl(plan, folder, way, sha256)


@contextmanager
def _memory(size: int) -> Iterator[Path]:
    """A temporary folder in memory, because a disk would be slower than both programs."""
    free = shutil.disk_usage(_MEMORY).free if _MEMORY.is_dir() else 0
    if free < size:
        raise BenchError(
            f"{_MEMORY} has {free >> 20} MiB free, but origin needs {size >> 20}. Give a smaller --origin-size."
        )
    with tempfile.TemporaryDirectory(prefix="pantala-bench-", dir=_MEMORY) as name:
        Path(name).chmod(0o755)  # nginx's workers may run as another user
        yield Path(name)


@contextmanager
def _served(plan: OriginPlan, folder: Path) -> Iterator[tuple[Nginx, Path]]:
    """A new nginx, and a folder of its own for one run."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="run-") as own:
        Path(own).chmod(0o755)
        with Nginx(folder / "www", Path(own), plan.rate) as nginx:
            yield nginx, Path(own)


def _curl(plan: OriginPlan, folder: Path, way: str, sha256: str) -> IngestSample:
    with _served(plan, folder) as (nginx, _):
        before, began = _children(), time.monotonic()
        reading = subprocess.Popen(
            ["curl", "-sS", "--fail", "--cacert", str(nginx.authority), nginx.url(way, _FILE)], stdout=subprocess.PIPE
        )
        hashed = subprocess.run(["openssl", "dgst", "-sha256"], stdin=reading.stdout, capture_output=True, check=False)
        failed = reading.wait()
        seconds, cpu = time.monotonic() - began, _children() - before
        if failed or sha256.encode() not in hashed.stdout:
            raise BenchError(f"curl ended with {failed}, and openssl printed {hashed.stdout!r}")
        return IngestSample(way, "curl", seconds, cpu, nginx.sent(), 0)


def _supernode(plan: OriginPlan, folder: Path, way: str, sha256: str, kills: Sequence[float]) -> IngestSample:
    with _served(plan, folder) as (nginx, own), _Reader(plan, own, nginx, nginx.url(way, _FILE)) as reader:
        began, cpu = time.monotonic(), 0.0
        for share in kills:
            reader.state()
            reader.until(lambda report, share=share: _arrived(report) >= share * plan.size)  # type: ignore[misc]
            cpu += reader.kill()
            reader.start()
        reader.state()
        report = reader.until(lambda report: report.cdn_status is CDNStatus.SUCCESS)
        seconds, cpu = time.monotonic() - began, cpu + reader.cpu
        if report.digest != f"sha256:{sha256}":
            raise BenchError(f"The supernode read a file with the digest {report.digest} instead of {sha256}.")
        reader.kill()  # its idle connections end, so that nginx logs all answers
        name = "supernode, killed" if kills else "supernode"
        return IngestSample(way, name, seconds, cpu, nginx.sent(), report.origin_bytes)


def _arrived(report: TaskReport) -> int:
    return report.pieces_cached * report.piece_size


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Reader:
    """A supernode process with one volume. It may be killed and started again."""

    def __init__(self, plan: OriginPlan, folder: Path, nginx: Nginx, url: str) -> None:
        self._folder = folder
        self._task = WantedTask("bench", "bench/file", task_id.compute(url), url)
        self._arguments = [
            "--data", str(folder / "data"), "--no-auth", "--origin-connections", str(plan.connections),
            "--origin-ca", f"127.0.0.1={nginx.authority}",
        ]  # fmt: skip
        self._stack = ExitStack()
        self._port = 0
        self._process: Process
        self._began = 0.0

    def __enter__(self) -> _Reader:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def cpu(self) -> float:
        """CPU seconds of the process since it was ready."""
        return usage.cpu_seconds(self._process.pid) - self._began

    def start(self) -> None:
        self._port, pieces = free_ports(2)
        command = [
            sys.executable, "-m", "pantala_supernode", "--listen", f"{_HOST}:{self._port}",
            "--piece-listen", f"{_HOST}:{pieces}", *self._arguments,
        ]  # fmt: skip
        self._process = Process(command, self._folder / "supernode.log")
        self._stack.callback(self._process.kill)
        self._wait(lambda: self._ask("GET", "/readyz") is not None, seconds=60)
        self._began = usage.cpu_seconds(self._process.pid)

    def kill(self) -> float:
        """Kill it with SIGKILL. Returns its CPU seconds since it was ready."""
        used = self.cpu
        self._process.kill()
        return used

    def state(self) -> None:
        """State the file as wanted."""
        body = msgspec.json.encode(Statement(revision=1, tasks=(self._task,)))
        self._wait(lambda: self._ask("PUT", "/api/v1/statement", body) is not None, seconds=10)

    def until(self, condition: Callable[[TaskReport], object]) -> TaskReport:
        """Wait for a report. Raises :class:`BenchError` after a failure."""
        found: list[TaskReport] = []

        def reached() -> bool:
            answer = self._ask("GET", "/api/v1/changes?boot=&since=0&wait=0")
            reports = msgspec.json.decode(answer, type=Changes).tasks if answer else ()
            if reports and reports[0].failure is not None:
                raise BenchError(f"The supernode cannot read the file: {reports[0].failure.message}")
            found[:] = reports[:1]
            return bool(reports) and bool(condition(reports[0]))

        self._wait(reached, seconds=600)
        return found[0]

    def _wait(self, condition: Callable[[], object], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if self._process.returncode is not None or time.monotonic() > deadline:
                raise BenchError(f"The supernode does not read the file:\n{self._process.tail()}")
            time.sleep(0.01)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes | None:
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=10)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            data = answer.read()
        except OSError:
            return None
        else:
            return data if answer.status == 200 else None
        finally:
            connection.close()
