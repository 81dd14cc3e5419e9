"""The network with an origin for one file. Both the swarm and the direct downloads are measured in it."""

from __future__ import annotations

import json
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.memory import MEBIBYTE
from bench.network import Host, Network
from bench.swarm import wait
from testbed.process import Process

_PORT = 8080


@dataclass(frozen=True)
class LinkPlan:
    """The parameters of the measurement."""

    size: int = 64 * MEBIBYTE
    """The file's size in bytes."""
    peer_megabits: int = 50
    """The bandwidth of each peer's link, in each direction."""
    hub_megabits: int = 100
    """The bandwidth of the links of the supernode and the origin, in each direction."""

    @property
    def line_seconds(self) -> float:
        """The seconds that the file's bytes need on a peer's link, without headers. No download can be faster."""
        return self.size * 8 / (self.peer_megabits * 1e6)


class Stage:
    """A network, an origin and a temporary folder, which exist while the context is entered."""

    def __init__(self, plan: LinkPlan, file: Path, folder: Path) -> None:
        self.plan = plan
        self.file = file
        self.folder = folder
        self._stack = ExitStack()
        self.network = Network()
        self.origin: Host
        self.origin_process: Process
        self._log = folder / "origin.access"

    @property
    def url(self) -> str:
        """The URL of the file at the origin."""
        return f"http://{self.origin.address}:{_PORT}/{self.file.name}"

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.network)
            self.origin = self.network.host("origin", self.plan.hub_megabits)
            self.origin_process = self.start(
                self.origin, "origin", "testbed.origin", "--listen", f"{self.origin.address}:{_PORT}",
                "--dir", str(self.file.parent), "--log", str(self._log),
            )  # fmt: skip
            wait(lambda: _listens(self.origin), "the origin listens", 60)
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


def _listens(host: Host) -> bool:
    try:
        with host.entered(), socket.create_connection((host.address, _PORT), timeout=1):
            return True
    except OSError:
        return False
