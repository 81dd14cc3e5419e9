"""A supernode and peers as real processes, and the download of one file to all peers."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.errors import BenchError
from bench.memory import check
from bench.network import Place
from bench.supernode import SupernodeProcess, tls_flags
from bench.usage import Meter, peak_mebibytes
from pantala_protocol import task_id
from pantala_protocol.statement import WantedTask
from testbed.certificates import ProcessAuthority
from testbed.process import Process

UID = "bench"
_PATH = "bench/file"
_PEER = 65002
_EXCHANGES = "pantala_exchanges_total"


@dataclass(frozen=True)
class PeerProcess:
    """A peer's process, and its folder."""

    name: str
    process: Process
    root: Path

    def file(self, path: str) -> Path:
        """Where the peer publishes a file."""
        return self.root / "files" / path

    @property
    def published(self) -> float:
        """The time of publication in seconds since the epoch: the directory's change time. 0 without the file."""
        path = self.file(_PATH)
        return path.parent.stat().st_mtime if path.exists() else 0.0


@dataclass(frozen=True)
class SwarmRun:
    """One download of a file to all peers."""

    seconds: tuple[float, ...]
    """The seconds from the statement to each peer's publication of the file, in ascending order."""
    meter: Meter
    """CPU seconds of ``supernode``, ``peers`` and ``origin``, until all peers have published the file."""
    supernode_bytes: int
    """Bytes that peers received from the supernode."""
    exchanges: float | None
    """Exchanges per second and peer. ``None``: the supernode does not count them."""
    supernode_mebibytes: float
    peer_mebibytes: float
    """The greatest peak memory of a peer, in MiB."""


class Swarm:
    """One supernode and its peers. They end with the context."""

    def __init__(self, place: Place, folder: Path, *options: str, tls: bool = False) -> None:
        self.folder = folder
        self._authority = ProcessAuthority() if tls else None
        self.peers: list[PeerProcess] = []
        self.supernode = SupernodeProcess(place, folder, *options, authority=self._authority)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self.supernode)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start_peers(self, places: Sequence[Place]) -> None:
        """Start a peer at each place, and wait until all of them have connected."""
        for number, place in enumerate(places):
            name = f"peer-{number}"
            root = self.folder / name
            command = place.command(
                sys.executable, "-m", "pantala_peer", "--supernode", self.supernode.url, "--listen",
                f"{place.address}:{place.port(_PEER)}", "--root", str(root), "--name", name,
                *tls_flags(self._authority, self.folder / f"{name}-tls", f"{name}.peer.pantala"),
            )  # fmt: skip
            process = Process(command, self.folder / f"{name}.log")
            self._stack.callback(process.kill)
            self.peers.append(PeerProcess(name, process, root))
        try:
            self.supernode.wait_connected(peer.name for peer in self.peers)
        except BenchError:
            self._check_alive()
            raise

    def take_in(self, url: str, sha256: str, *, origin: Sequence[int] = ()) -> Meter:
        """Let the supernode alone download the file. Returns the time, and the CPU of ``supernode`` and ``origin``."""
        meter = Meter({"supernode": [self.supernode.process.pid], "origin": origin})
        self.supernode.state(self._task(url, sha256, ()))
        self.supernode.wait_cached(UID)
        meter.stop()
        return meter

    def deliver(self, url: str, sha256: str, longest: float, *, origin: Sequence[int] = ()) -> SwarmRun:
        """Distribute the file to all peers within ``longest`` seconds. ``origin``: the process IDs of the origin.

        Raises :class:`BenchError` if a peer does not have the correct file.
        """
        supernode, names = self.supernode, tuple(peer.name for peer in self.peers)
        before = supernode.counter(_EXCHANGES)
        groups = {
            "supernode": [supernode.process.pid],
            "peers": [peer.process.pid for peer in self.peers],
            "origin": origin,
        }
        meter = Meter(groups)
        supernode.state(self._task(url, sha256, names))
        self._wait_published(longest)
        meter.stop()
        after = supernode.counter(_EXCHANGES)
        report = supernode.wait_report(UID, lambda report: len(report.ready_peers) == len(names), 60)
        for peer in self.peers:
            check(peer.file(_PATH), sha256)
        seconds = tuple(sorted(peer.published - meter.began for peer in self.peers))
        return SwarmRun(
            seconds=seconds,
            meter=meter,
            supernode_bytes=report.supernode_bytes,
            exchanges=None if before is None or after is None else (after - before) / seconds[-1] / len(names),
            supernode_mebibytes=supernode.peak_mebibytes,
            peer_mebibytes=max(peak_mebibytes(peer.process.pid) for peer in self.peers),
        )

    def _task(self, url: str, sha256: str, peers: tuple[str, ...]) -> WantedTask:
        return WantedTask(
            uid=UID, name="bench/file", task_id=task_id.compute(url), url=url, digest=f"sha256:{sha256}",
            path=_PATH, peers=peers,
        )  # fmt: skip

    def _wait_published(self, longest: float) -> None:
        def published() -> bool:
            self._check_alive()
            return all(peer.published for peer in self.peers)

        wait(published, f"all peers publish the file.\n{self.supernode.process.tail()}", longest)

    def _check_alive(self) -> None:
        processes = {"The supernode": self.supernode.process} | {peer.name: peer.process for peer in self.peers}
        for name, process in processes.items():
            if process.returncode is not None:
                raise BenchError(f"{name} ended with {process.returncode}:\n{process.tail()}")


def wait(condition: Callable[[], object], what: str, longest: float) -> None:
    """Wait until the condition is true. Raises :class:`BenchError` after ``longest`` seconds."""
    deadline = time.monotonic() + longest
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"Not within {longest:.0f} s: {what}")
        time.sleep(0.02)
