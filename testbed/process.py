"""Child processes with a log file that always end with their parent."""

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

_PR_SET_PDEATHSIG = 1
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_SECONDS = 0.05
_LIBC = ctypes.CDLL(None, use_errno=True)
_PORTS = (20000, 32000)
"""Ports below the range that Linux uses for outgoing connections. A port in that range could be taken meanwhile."""


class Process:
    """A child process that writes its output to a file, and ends with the thread that started it.

    It has its own session. So a terminal's Ctrl-C reaches only the parent, which then stops its children in order.
    """

    def __init__(self, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        # An interrupt in the middle would leave an unknown child process behind.
        former = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        try:
            with log.open("ab") as output:
                self._child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=dict(env) if env is not None else None,
                    start_new_session=True,
                    preexec_fn=_begin,
                )
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)
            raise
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, former)  # an interrupt that arrived meanwhile is raised here
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or ``None`` while the process runs."""
        return self._child.poll()

    def tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def becomes(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Wait until ``ready``. Returns False if the process ends before, or if that takes more than ``seconds``.

        ``ready`` may raise :class:`OSError` while the process does not answer yet.
        """
        deadline = time.monotonic() + seconds
        while self.returncode is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if ready():
                    return True
            time.sleep(_POLL_SECONDS)
        return False

    def stop(self, grace: float = 10.0) -> None:
        """Send the process SIGTERM, and SIGKILL after ``grace`` seconds. Does nothing if it has ended."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(grace)
            except subprocess.TimeoutExpired:
                self._child.kill()
        self._child.wait()

    def kill(self) -> None:
        """Kill the process, as in a crash."""
        self._child.kill()
        self._child.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that were free a moment ago. The kernel gives none of them to an outgoing connection."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(*_PORTS)
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found


def _begin() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _die_with_parent()


def _die_with_parent() -> None:
    parent = os.getppid()
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # the parent ended before the line above
        os.kill(os.getpid(), signal.SIGKILL)
