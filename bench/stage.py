"""The network with an origin for one file. Both the swarm and the direct downloads are measured in it."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.errors import BenchError
from bench.network import Host, Network
from testbed.process import Process

_MEBIBYTE = 1024 * 1024
_PORT = 8080


@dataclass(frozen=True)
class Plan:
    """The parameters of the measurement."""

    size: int = 64 * _MEBIBYTE
    """The file's size in bytes."""
    peer_megabits: int = 50
    """The bandwidth of each peer's link, in each direction."""
    hub_megabits: int = 100
    """The bandwidth of the links of the supernode and the origin, in each direction."""

    @property
    def line_seconds(self) -> float:
        """The seconds that the file's bytes need on a peer's link, without headers: no download is faster."""
        return self.size * 8 / (self.peer_megabits * 1e6)


class Stage:
    """A network, an origin and a temporary folder, which exist while the context is entered."""

    def __init__(self, plan: Plan, file: Path, folder: Path) -> None:
        self.plan = plan
        self.file = file
        self.folder = folder
        self._stack = ExitStack()
        self.network = Network()
        self.origin: Host
        self._log = folder / "origin.access"

    @property
    def url(self) -> str:
        """The URL of the file at the origin."""
        return f"http://{self.origin.address}:{_PORT}/{self.file.name}"

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.network)
            self.origin = self.network.host("origin", self.plan.hub_megabits)
            process = self.start(
                self.origin, "origin", "testbed.origin", "--listen", f"{self.origin.address}:{_PORT}",
                "--dir", str(self.file.parent), "--log", str(self._log),
            )  # fmt: skip
            wait_for(lambda: listens(self.origin, _PORT), process, "the origin")
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def start(self, host: Host, name: str, module: str, *arguments: str) -> Process:
        """Start a Python module on a host. It ends with the stage."""
        command = host.command(sys.executable, "-m", module, *arguments)
        process = Process(command, self.folder / f"{name}.log")
        self._stack.callback(process.kill)
        return process

    def origin_bytes(self) -> int:
        """Bytes of body that the origin sent, from its access log."""
        return sum(json.loads(line)["sent"] for line in self._log.read_text().splitlines())


def make_file(path: Path, size: int) -> str:
    """Write random bytes and return their sha256 in hex."""
    state = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // _MEBIBYTE):
            block = os.urandom(_MEBIBYTE)
            file.write(block)
            state.update(block)
    return state.hexdigest()


def check(path: Path, sha256: str) -> None:
    """Raise :class:`BenchError` unless the file has this digest."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise BenchError(f"{path} has the sha256 {found} instead of {sha256}.")


def listens(host: Host, port: int) -> bool:
    """True if a process listens at the host's address."""
    try:
        with host.entered(), socket.create_connection((host.address, port), timeout=1):
            return True
    except OSError:
        return False


def wait_for(condition: Callable[[], object], process: Process, what: str, seconds: float = 60.0) -> None:
    """Wait until ``condition`` returns true. Raises :class:`BenchError` if the process or the time ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.returncode is not None:
            raise BenchError(f"{what} ended with {process.returncode}:\n{process.tail()}")
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not done within {seconds:.0f} s:\n{process.tail()}")
        time.sleep(0.02)
