"""A supernode process, and the bench's client of its API."""

import http.client
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

import msgspec

from bench import usage
from bench.errors import BenchError
from bench.network import Place
from pantala_protocol.statement import CDNStatus, Changes, Statement, TaskReport, WantedTask
from testbed.certificates import ProcessAuthority
from testbed.process import Process

_API, _PIECES = 8002, 8001


def tls_flags(authority: ProcessAuthority | None, folder: Path, *names: str) -> tuple[str, ...]:
    """The flags of a process with these names. Without an authority, all processes use plain HTTP."""
    return () if authority is None else authority.flags(folder, *names)


class SupernodeProcess:
    """A supernode with one volume. It may be killed and started again, and ends with the context.

    The client runs at the same place, so that its requests do not use a link.
    """

    def __init__(self, place: Place, folder: Path, *options: str, authority: ProcessAuthority | None = None) -> None:
        """With an ``authority``, all connections use TLS."""
        self.place = place
        self._authority = authority
        self._tls = None if authority is None else authority.contexts("bench.operator.pantala").client
        self._folder = folder
        self._options = options
        self._revision = 0
        self._connection: http.client.HTTPConnection | None = None
        self._process: Process | None = None
        self.port = 0

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def process(self) -> Process:
        if self._process is None:
            raise BenchError("The supernode is not running.")
        return self._process

    @property
    def url(self) -> str:
        return f"http://{self.place.address}:{self.port}" if self._tls is None else f"https://localhost:{self.port}"

    def start(self) -> None:
        """Start the process, and wait until it is ready."""
        self.port, pieces = self.place.port(_API), self.place.port(_PIECES)
        address = self.place.address
        command = self.place.command(
            sys.executable, "-m", "pantala_supernode", "--listen", f"{address}:{self.port}",
            "--piece-listen", f"{address}:{pieces}", "--data", str(self._folder / "supernode"),
            "--no-auth", "--i-know", "--allow-source", "0.0.0.0/0", *self._options,
            *tls_flags(self._authority, self._folder / "supernode-tls", "supernode-0.supernode.pantala", "localhost"),
        )  # fmt: skip
        self._process = Process(command, self._folder / "supernode.log")
        self.wait(lambda: self._ask("GET", "/readyz") is not None, "the supernode becomes ready")

    def kill(self) -> None:
        """Kill the process, as in a crash."""
        self._close()
        if self._process is not None:
            self._process.kill()

    def state(self, *tasks: WantedTask) -> None:
        """Send a statement with these tasks only."""
        self._revision += 1
        body = msgspec.json.encode(Statement(self._revision, tasks))
        if self._ask("PUT", "/api/v1/statement", body) is None:
            raise BenchError(f"The supernode does not accept a statement:\n{self.process.tail()}")

    def changes(self) -> Changes:
        """The supernode's report about all its tasks and peers."""
        answer = self._ask("GET", "/api/v1/changes?boot=&since=0&wait=0")
        if answer is None:
            raise BenchError(f"The supernode does not report:\n{self.process.tail()}")
        return msgspec.json.decode(answer, type=Changes)

    def report(self, uid: str) -> TaskReport | None:
        """The report about one task. Raises :class:`BenchError` if its origin cannot be read."""
        found = next((report for report in self.changes().tasks if report.uid == uid), None)
        if found is not None and found.failure is not None:
            raise BenchError(f"The supernode cannot read the file: {found.failure.message}")
        return found

    def wait_report(self, uid: str, condition: Callable[[TaskReport], object], longest: float = 600.0) -> TaskReport:
        """Wait for a report on which the condition is true."""
        found: list[TaskReport] = []

        def reached() -> bool:
            report = self.report(uid)
            found[:] = [report] if report is not None else []
            return report is not None and bool(condition(report))

        self.wait(reached, "the supernode's report about the file", longest, pause=0.05)
        return found[0]

    def wait_cached(self, uid: str) -> TaskReport:
        """Wait until the supernode has the whole file."""
        return self.wait_report(uid, lambda report: report.cdn_status is CDNStatus.SUCCESS)

    def wait_connected(self, names: Iterable[str], longest: float = 180.0) -> None:
        """Wait until the peers have connected."""
        wanted = set(names)
        self.wait(
            lambda: wanted <= {peer.name for peer in self.changes().peers if peer.connected},
            "all peers connect",
            longest,
        )

    def wait(self, condition: Callable[[], object], what: str, longest: float = 60.0, *, pause: float = 0.01) -> None:
        """Wait until the condition is true. Raises :class:`BenchError` if the process or the time ends before.

        ``pause``: seconds between two questions. Each question costs the supernode about 1 ms of CPU time.
        """
        deadline = time.monotonic() + longest
        while not condition():
            if self.process.returncode is not None:
                raise BenchError(f"The supernode ended with {self.process.returncode}:\n{self.process.tail()}")
            if time.monotonic() > deadline:
                raise BenchError(f"Not within {longest:.0f} s: {what}.\n{self.process.tail()}")
            time.sleep(pause)

    def counter(self, name: str) -> float | None:
        """The value of a metric without labels. ``None``: this supernode does not have it."""
        text = (self._ask("GET", "/metrics") or b"").decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found is not None else None

    @property
    def peak_mebibytes(self) -> float:
        return usage.peak_mebibytes(self.process.pid)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes | None:
        """The body of an answer with status 200.

        ``None``: the status was another one, or the supernode did not answer.
        """
        try:
            if self._connection is None:
                with self.place.entered():
                    self._connection = self._new_connection()
                    self._connection.connect()
            self._connection.request(method, path, body)
            answer = self._connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException):
            self._close()
            return None
        if answer.will_close:  # http.client would open the next connection outside of the place
            self._close()
        return data if answer.status == 200 else None

    def _new_connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self.place.address, self.port, timeout=30)
        return http.client.HTTPSConnection("localhost", self.port, timeout=30, context=self._tls)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
