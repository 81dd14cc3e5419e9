"""Distributes one file to N peers through a supernode with an empty cache. A statement to its API starts this."""

from __future__ import annotations

import http.client
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench import usage
from bench.errors import BenchError
from bench.network import Host
from bench.stage import Stage, check, listens, wait_for
from pantala_protocol import task_id
from pantala_protocol.statement import Changes, Statement, TaskReport, WantedTask
from testbed.process import Process

_API, _PIECES, _PEER = 8002, 8001, 65002
_UID = "bench"
_PATH = "bench/file"
_GIBIBYTE = 1024**3
_LONGEST = 5.0
"""A run fails after this multiple of :attr:`Plan.line_seconds`."""


@dataclass(frozen=True)
class SwarmSample:
    """One run."""

    seconds: tuple[float, ...]
    """The seconds from the statement to each peer's publication of the file, in ascending order."""
    origin_bytes: int
    supernode_bytes: int
    """Bytes that peers received from the supernode."""
    supernode_cpu: float
    """CPU seconds of the supernode per GiB that the peers received."""
    peer_cpu: float
    """CPU seconds of all peers per GiB that the peers received."""
    supernode_mebibytes: float
    peer_mebibytes: float
    """The peak memory of the peer with the most, in MiB."""
    foreign: float
    """The average number of cores that other processes of the machine used meanwhile."""


@dataclass(frozen=True)
class _Peer:
    process: Process
    root: Path

    @property
    def published(self) -> float:
        """The time of publication in seconds since the epoch, which is the directory's change time. 0 before it."""
        path = self.root / "files" / _PATH
        return path.parent.stat().st_mtime if path.exists() else 0.0


class _Supernode:
    """A client of the supernode's API that runs on the supernode's host, so that its calls do not use the link."""

    def __init__(self, host: Host) -> None:
        with host.entered():
            self._connection = http.client.HTTPConnection(host.address, _API, timeout=30)
            self._connection.connect()

    def state(self, wanted: WantedTask) -> None:
        body = msgspec.json.encode(Statement(revision=1, tasks=(wanted,)))
        self._ask("PUT", "/api/v1/statement", body)

    def changes(self) -> Changes:
        return msgspec.json.decode(self._ask("GET", "/api/v1/changes?boot=&since=0&wait=0"), type=Changes)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        self._connection.request(method, path, body)
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status != 200:
            raise BenchError(f"The supernode answered {path} with {answer.status}: {data[:300]!r}")
        return data


def measure(stage: Stage, peers: int, sha256: str) -> SwarmSample:
    """Distribute the file to ``peers`` peers. Raises :class:`BenchError` if a peer does not have the correct file."""
    host = stage.network.host("supernode", stage.plan.hub_megabits)
    process = stage.start(
        host, "supernode", "pantala_supernode", "--listen", f"{host.address}:{_API}",
        "--piece-listen", f"{host.address}:{_PIECES}", "--data", str(stage.folder / "supernode"),
        "--no-auth", "--i-know",
    )  # fmt: skip
    wait_for(lambda: listens(host, _API), process, "the supernode")
    swarm = {f"peer-{number}": _start_peer(stage, host, number) for number in range(peers)}
    supernode = _Supernode(host)
    wait_for(lambda: sum(peer.connected for peer in supernode.changes().peers) == peers, process, "the peers register")
    processes = [process, *(peer.process for peer in swarm.values())]
    cpu = [usage.cpu_seconds(each.pid) for each in processes]
    busy, began = usage.busy_seconds(), time.time()
    wanted = WantedTask(
        uid=_UID, name="bench/file", task_id=task_id.compute(stage.url), url=stage.url,
        digest=f"sha256:{sha256}", path=_PATH, peers=tuple(swarm),
    )  # fmt: skip
    supernode.state(wanted)
    _wait_published(swarm, process, stage.plan.line_seconds * _LONGEST)
    used = [usage.cpu_seconds(each.pid) - before for each, before in zip(processes, cpu, strict=True)]
    foreign = (usage.busy_seconds() - busy - sum(used)) / (time.time() - began)
    report = _final_report(supernode, peers, process)
    for peer in swarm.values():
        check(peer.root / "files" / _PATH, sha256)
    delivered = peers * stage.plan.size / _GIBIBYTE
    return SwarmSample(
        seconds=tuple(sorted(peer.published - began for peer in swarm.values())),
        origin_bytes=stage.origin_bytes(),
        supernode_bytes=report.supernode_bytes,
        supernode_cpu=used[0] / delivered,
        peer_cpu=sum(used[1:]) / delivered,
        supernode_mebibytes=usage.peak_mebibytes(process.pid),
        peer_mebibytes=max(usage.peak_mebibytes(peer.process.pid) for peer in swarm.values()),
        foreign=foreign,
    )


def _start_peer(stage: Stage, supernode: Host, number: int) -> _Peer:
    host = stage.network.host(f"peer-{number}", stage.plan.peer_megabits)
    root = stage.folder / f"peer-{number}"
    process = stage.start(
        host, f"peer-{number}", "pantala_peer", "--supernode", f"http://{supernode.address}:{_API}",
        "--listen", f"{host.address}:{_PEER}", "--root", str(root), "--name", f"peer-{number}",
    )  # fmt: skip
    return _Peer(process, root)


def _wait_published(swarm: dict[str, _Peer], supernode: Process, longest: float) -> None:
    deadline = time.monotonic() + longest
    while any(not peer.published for peer in swarm.values()):
        for name, process in {"the supernode": supernode, **{n: peer.process for n, peer in swarm.items()}}.items():
            if process.returncode is not None:
                raise BenchError(f"{name} ended with {process.returncode}:\n{process.tail()}")
        if time.monotonic() > deadline:
            raise BenchError(f"Not all peers have the file after {longest:.0f} s:\n{supernode.tail()}")
        time.sleep(0.05)


def _final_report(supernode: _Supernode, peers: int, process: Process) -> TaskReport:
    """The supernode's report after all peers have published the file."""

    def report() -> TaskReport:
        return supernode.changes().tasks[0]

    wait_for(lambda: len(report().ready_peers) == peers, process, "the reports of all publications")
    return report()
