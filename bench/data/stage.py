"""The network with an origin for one file. Both the swarm and the direct downloads are measured in it."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import BenchError
from bench.memory import MEBIBYTE, own_folder
from bench.network import Host, Network
from testbed.process import Process

_PORT = 8080
_LOG = "origin.access"


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


@dataclass
class Stage:
    """A network, its origin, and a folder for one run."""

    plan: LinkPlan
    folder: Path
    network: Network
    url: str
    """The URL of the file at the origin."""
    stack: ExitStack
    origin: Process = field(init=False)

    def start(self, host: Host, name: str, module: str, *arguments: str) -> Process:
        """Start a Python module on a host. It ends with the stage."""
        process = Process(host.command(sys.executable, "-m", module, *arguments), self.folder / f"{name}.log")
        self.stack.callback(process.kill)
        return process

    def origin_bytes(self) -> int:
        """Bytes of body that the origin sent, from its access log."""
        return sum(json.loads(line)["sent"] for line in (self.folder / _LOG).read_text().splitlines())


@contextmanager
def staged(plan: LinkPlan, file: Path) -> Iterator[Stage]:
    """A stage in the block, with an origin of the file."""
    with ExitStack() as stack:
        folder = stack.enter_context(own_folder(file.parent))
        network = stack.enter_context(Network())
        host = network.host("origin", plan.hub_megabits)
        stage = Stage(plan, folder, network, f"http://{host.address}:{_PORT}/{file.name}", stack)
        stage.origin = stage.start(
            host, "origin", "testbed.origin", "--listen", f"{host.address}:{_PORT}",
            "--dir", str(file.parent), "--log", str(folder / _LOG),
        )  # fmt: skip
        if not stage.origin.becomes(lambda: "listening" in stage.origin.tail(), 60):
            raise BenchError(f"The origin does not start:\n{stage.origin.tail()}")
        yield stage
