"""Runs a real containerd that only pulls images, without a kubelet. It stays inside its folder. Needs root.

::

    with Containerd(tmp_path) as containerd:
        ...  # its socket is containerd.address; containerd.certs_d is read at each pull

``config_path`` may be another folder, a list of folders, or empty for none. ``program`` may be any containerd from 1.6
on: a path, a name in PATH, or one of :data:`BUILT`, which are built when they are first needed. ``PANTALA_CONTAINERD``
contains further programs to test with, separated by colons. Unless ``concurrent_downloads`` is three, newer versions
pull as older ones do, without their transfer service.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from testbed.binaries import assets
from testbed.process import Process

BUILT = ("containerd-1.7", "containerd-2")
"""Versions to test that :mod:`testbed.binaries` builds, besides the distribution's version."""

_READY_SECONDS = 30.0
_PLUGIN = 'plugins."io.containerd.grpc.v1.cri"'


class ContainerdError(RuntimeError):
    """containerd does not start. The message says why."""


def programs() -> list[str]:
    """The containerd programs to test with: from PATH, if any, from :data:`BUILT`, and from ``PANTALA_CONTAINERD``."""
    named = [path for path in os.environ.get("PANTALA_CONTAINERD", "").split(":") if path]
    return [path for path in (shutil.which("containerd"), *BUILT, *named) if path is not None]


class Containerd:
    """A containerd that runs while its context is entered. Pulled images stay in ``folder`` over restarts.

    Raises :class:`~testbed.binaries.BuildError` if its program cannot be built.
    """

    def __init__(
        self,
        folder: Path,
        program: str = "containerd",
        *,
        config_path: str | None = None,
        concurrent_downloads: int = 3,
    ) -> None:
        self._folder = folder
        self.program = str(assets([program])[program]) if program in BUILT else program
        """The program's path, or its name in PATH."""
        self._downloads = concurrent_downloads
        self._process: Process | None = None
        # A socket's path may have 107 characters; a test's folder has more.
        self._run = Path(tempfile.mkdtemp(prefix="containerd-"))
        self.certs_d = folder / "certs.d"
        self.config_path = str(self.certs_d) if config_path is None else config_path
        """The setting ``config_path`` for the next start."""

    @property
    def socket(self) -> Path:
        return self._run / "c.sock"

    @property
    def address(self) -> str:
        """The gRPC address of containerd's socket."""
        return f"unix://{self.socket}"

    @property
    def version(self) -> tuple[int, ...]:
        """The version of the program, e.g. ``(1, 6, 20)``."""
        shown = subprocess.run([self.program, "--version"], capture_output=True, text=True, check=True, timeout=20)
        number = shown.stdout.split()[2].removeprefix("v").partition("~")[0].partition("-")[0]
        return tuple(map(int, number.split(".")))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        _unmount(self._folder)
        shutil.rmtree(self._run, ignore_errors=True)

    def start(self) -> None:
        """Start containerd, and wait until its socket answers. Raises :class:`ContainerdError`."""
        self.certs_d.mkdir(parents=True, exist_ok=True)
        settings = self._folder / "config.toml"
        settings.write_text(self._configuration())
        self._process = Process([self.program, "--config", str(settings)], self._folder / "containerd.log")

        def listens() -> bool:
            with socket.socket(socket.AF_UNIX) as trial:
                trial.connect(str(self.socket))
                return True

        if not self._process.becomes(listens, _READY_SECONDS):
            tail = self._process.tail()
            self.stop()
            raise ContainerdError(f"{self.program} does not listen:\n{tail}")

    def stop(self) -> None:
        """Stop containerd. Pulled images stay for the next :meth:`start`."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def _configuration(self) -> str:
        return f"""\
version = 2
root = "{self._folder}/root"
state = "{self._run}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{self.socket}"
[{_PLUGIN}]
  max_concurrent_downloads = {self._downloads}
  sandbox_image = "localhost/none:1"
  [{_PLUGIN}.cni]
    conf_dir = "{self._folder}/cni"
  [{_PLUGIN}.containerd]
    snapshotter = "native"
[{_PLUGIN}.registry]
  config_path = "{self.config_path}"
"""


def _unmount(folder: Path) -> None:
    """Remove the mounts that a killed containerd has left."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        target = line.split()[1]
        if target.startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", target], check=False, timeout=20)
