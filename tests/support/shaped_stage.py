"""The whole product on a network with shaped links: origin, supernode and each peer have a host of their own."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.network import Host, Network
from testbed.binaries import assets
from testbed.process import Process
from tests.support.product_stage import ProductStage

_WIDE = 1000
"""Megabits per second of the link of the control plane, which is never the bottleneck."""
_API, _PIECES, _PEER, _ORIGIN = 8000, 8001, 8010, 8080


class ShapedStage(ProductStage):
    """etcd, kube-apiserver and operator share one host. Enter the stage inside of :func:`shaped_network`."""

    def __init__(self, folder: Path, network: Network, megabits: int) -> None:
        """``megabits``: the bandwidth of each other host's link, in each direction."""
        super().__init__(folder)
        self._hosts: dict[str, Host] = {
            name: network.host(name, megabits) for name in ("origin", "supernode", *self.nodes)
        }

    def serve(self, folder: Path) -> str:
        """Start an HTTP origin for the files of ``folder``. Returns its URL."""
        listen = f"{self._hosts['origin'].address}:{_ORIGIN}"
        self._run_at("origin", "testbed.origin", "--listen", listen, "--dir", str(folder))
        return f"http://{listen}"

    def supernode_url(self, number: int = 0) -> str:
        return f"http://{self._hosts['supernode'].address}:{_API}"

    def supernode(self, *more: str, data: Path | None = None, number: int = 0) -> None:
        address = self._hosts["supernode"].address
        self._run_at(
            "supernode", "pantala_supernode",
            "--listen", f"{address}:{_API}", "--piece-listen", f"{address}:{_PIECES}",
            "--data", str(data or self.data), "--no-auth", "--i-know", "--allow-source", "0.0.0.0/0", *more,
        )  # fmt: skip

    def peer(self, name: str, *more: str, wrapper: Sequence[str] = (), api: int = 0) -> None:
        self._run_at(
            name, "pantala_peer",
            "--name", name, "--supernode", self.supernode_url(), "--root", str(self.root(name)),
            "--listen", f"{self._hosts[name].address}:{_PEER}",
            "--health-listen", f"127.0.0.1:{self.health_port(name)}", "--runtime-socket", "none", *more,
        )  # fmt: skip

    def _run_at(self, name: str, module: str, *arguments: str) -> None:
        command = self._hosts[name].command(sys.executable, "-m", module, *arguments)
        self.processes[name] = Process(command, self.folder / f"{name}.log")


@contextlib.contextmanager
def shaped_network() -> Iterator[Network]:
    """This process, and all that it starts, is on a host of the network until the end of the block."""
    assets(["etcd", "kube-apiserver", "kubectl"])
    with Network() as network, network.host("control", _WIDE).entered():
        yield network
