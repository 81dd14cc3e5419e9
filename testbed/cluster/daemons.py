"""Starts processes that outlive their parent, and finds them again by files with their process IDs."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.cluster.command import CommandError

_POLL_SECONDS = 0.05


class Daemons:
    """The daemons whose process IDs and logs are below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start the daemon ``name``, unless it runs already."""
        if self.pid(name) is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawnp(
            command[0],
            list(command),
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log(name)), append, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        self._file(name).write_text(f"{pid} {_started(pid)}")

    def pid(self, name: str) -> int | None:
        """The daemon's process ID. ``None`` if it does not run, even if another process now has its ID."""
        try:
            pid, started = self._file(name).read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        return int(pid) if started and _started(int(pid)) == started else None

    def stop(self, name: str, grace: float = 5.0) -> None:
        """Send the daemon SIGTERM, and SIGKILL after ``grace`` seconds. Does nothing if it does not run."""
        pid = self.pid(name)
        if pid is not None:
            end(pid, signal.SIGTERM if grace > 0 else signal.SIGKILL)
            deadline = time.monotonic() + grace
            while self.pid(name) is not None and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
            if self.pid(name) is not None:
                end(pid, signal.SIGKILL)
        self._file(name).unlink(missing_ok=True)

    def wait(self, name: str, done: Callable[[], object], seconds: float) -> None:
        """Wait until ``done``. Raises :class:`CommandError` if the daemon ends before, or ``seconds`` have passed."""
        deadline = time.monotonic() + seconds
        while not done():
            if self.pid(name) is None or time.monotonic() > deadline:
                raise CommandError(f"{name} does not become ready:\n{self.tail(name)}")
            time.sleep(_POLL_SECONDS)

    def names(self) -> list[str]:
        """All daemons that were started and not stopped, running or not."""
        return sorted(path.stem for path in self._folder.glob("*.pid"))

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def tail(self, name: str, lines: int = 15) -> str:
        return "\n".join(self.log(name).read_text(errors="replace").splitlines()[-lines:])

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.pid"


def end(pid: int, how: signal.Signals) -> None:
    """Send a signal to a process that may have ended, and reap it if it is our child."""
    try:
        os.kill(pid, how)
        if how is signal.SIGKILL:
            time.sleep(_POLL_SECONDS)
        os.waitpid(pid, os.WNOHANG)
    except (ProcessLookupError, ChildProcessError):
        pass


def _started(pid: int) -> str:
    """The kernel's start time of a process. Empty if it has ended or is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    if fields[0] == "Z":
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        return ""
    return fields[19]
