"""A cluster of processes on this machine's loopback. It needs no root and no containers, and leaves nothing behind."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.errors import DemoError
from demo.place import Place, Taken
from pantala_pieces import journal
from testbed.apiserver import ControlPlane, ControlPlaneError
from testbed.binaries import BuildError, assets
from testbed.process import Process, free_ports

NODES = ("node-1", "node-2", "node-3")

_ROOT = Path(__file__).resolve().parents[1]
_READY_SECONDS = 30.0

_SOURCES = '"from_supernode"'
"""The field of the line that a peer logs when it has all pieces of a task."""


class LocalPlace(Place):
    """etcd, kube-apiserver, an operator, a supernode and three peers as local processes."""

    title = "This machine: etcd, kube-apiserver, operator, supernode and three peers, as processes on loopback"
    origin_host = "127.0.0.1"
    origin_rate = 25_000_000.0
    """Slow enough to watch the progress."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._control_plane = ControlPlane(folder / "control-plane")
        self._processes: dict[str, Process] = {}
        self._health: dict[str, str] = {}

    @property
    def kubeconfig(self) -> Path | None:
        """The administrator's kubeconfig."""
        return self._control_plane.kubeconfig

    def __enter__(self) -> Self:
        try:
            self._start()
        except BuildError as error:
            self._stop()
            raise DemoError(str(error)) from error
        except ControlPlaneError as error:
            self._stop()
            message, _, log = str(error).partition("\n")
            raise DemoError(message, log) from error
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def kubectl(self, *arguments: str, text: str | None = None) -> str:
        """Run kubectl as the administrator."""
        try:
            return self._control_plane.kubectl(*arguments, text=text)
        except subprocess.CalledProcessError as error:
            raise DemoError(f"kubectl {arguments[0]} failed: {error.stderr.strip()}") from error

    def check(self) -> None:
        """Raise :class:`DemoError` if one of our processes has ended."""
        for name, process in self._processes.items():
            if process.returncode is not None:
                raise DemoError(
                    f"The process {name} ended with {process.returncode}. The end of its log:", process.tail()
                )

    def log(self, name: str) -> str:
        """The end of a process's log."""
        return self._processes[name].tail()

    def held(self, task_id: str) -> Mapping[str, int]:
        """Read each peer's journal, which has a record for each verified piece."""
        return {name: _journalled(self._root(name) / "cache" / task_id[:2] / task_id / "journal") for name in NODES}

    def taken(self, task_id: str) -> Mapping[str, Taken]:
        """Read each peer's log, which has a line for each whole file."""
        found = {}
        for name in NODES:
            for line in self._processes[name].log.read_text().splitlines():
                if _SOURCES in line and task_id in line:
                    entry = json.loads(line)
                    found[name] = Taken(entry["from_supernode"], entry["from_peers"])
        return found

    def files(self, path: str) -> Mapping[str, Path]:
        """Each peer's path of a published file."""
        return {name: self._root(name) / "files" / path for name in NODES}

    def _start(self) -> None:
        began = time.monotonic()
        found = assets(["etcd", "kube-apiserver", "kubectl"])
        self.programs = f"{Path(sys.executable).parent}:{found['kubectl'].parent}"
        api, pieces, operator_health, console, *ports = free_ports(4 + 2 * len(NODES))
        self._start_supernode(api, pieces)
        self._start_peers(api, ports)
        self._control_plane.start()
        self._install()
        self._start_operator(api, operator_health, console)
        for name, url in self._health.items():
            self._wait_ready(name, url)
        self._say(f"all seven processes run after {time.monotonic() - began:.1f} s")
        self.console = f"http://127.0.0.1:{console}"
        self._say(f"the web page: {self.console}")

    def _install(self) -> None:
        self.kubectl("apply", "--server-side", "-f", str(_ROOT / "crds"))
        nodes = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}} for name in NODES]
        self.kubectl("create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": nodes}))
        # Without a controller manager, this taint stays on new nodes.
        self.kubectl("taint", "nodes", "--all", "node.kubernetes.io/not-ready-")
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", "--all", "crd")

    def _start_supernode(self, api: int, pieces: int) -> None:
        self._run(
            "supernode", "pantala_supernode", api,
            "--listen", f"127.0.0.1:{api}", "--piece-listen", f"127.0.0.1:{pieces}",
            "--data", str(self._folder / "supernode"), "--no-auth", "--allow-source", "127.0.0.0/8",
        )  # fmt: skip

    def _start_operator(self, api: int, health: int, console: int) -> None:
        self._run(
            "operator", "pantala_operator", health,
            "--kubeconfig", str(self.kubeconfig), "--supernode", f"http://127.0.0.1:{api}",
            "--health-listen", f"127.0.0.1:{health}", "--console-listen", f"127.0.0.1:{console}",
            "--progress-interval", "0.5",
        )  # fmt: skip

    def _start_peers(self, api: int, ports: list[int]) -> None:
        for name in NODES:
            listen, health = ports.pop(), ports.pop()
            self._run(
                name, "pantala_peer", health,
                "--name", name, "--supernode", f"http://127.0.0.1:{api}", "--root", str(self._root(name)),
                "--listen", f"127.0.0.1:{listen}", "--health-listen", f"127.0.0.1:{health}", "--runtime-socket", "none",
            )  # fmt: skip

    def _run(self, name: str, module: str, health: int, *arguments: str) -> None:
        (self._folder / "nodes").mkdir(exist_ok=True)
        self._processes[name] = Process([sys.executable, "-m", module, *arguments], self._folder / f"{name}.log")
        self._health[name] = f"http://127.0.0.1:{health}/readyz"

    def _wait_ready(self, name: str, url: str) -> None:
        def ready() -> bool:
            self.check()
            with urllib.request.urlopen(url, timeout=2):
                return True

        if not self._processes[name].becomes(ready, _READY_SECONDS):
            self.check()
            what = f"The process {name} is not ready after {_READY_SECONDS:.0f} s. The end of its log:"
            raise DemoError(what, self.log(name))

    def _root(self, name: str) -> Path:
        return self._folder / "nodes" / name

    def _stop(self) -> None:
        """Kill all processes. Their state is deleted anyway."""
        for process in self._processes.values():
            process.kill()
        self._control_plane.stop_apiserver()
        self._control_plane.stop()


def _journalled(path: Path) -> int:
    try:
        return sum(record.size for record in journal.decode(path.read_bytes()))
    except OSError:
        return 0
