"""Makes a node's control groups (v1 or v2) before its kubelet starts, and removes them afterwards."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from testbed.cluster.daemons import end

_ROOT = Path("/sys/fs/cgroup")
_EMPTY_SECONDS = 10.0


def make(name: str) -> None:
    """Make the group ``name`` in each hierarchy."""
    if (_ROOT / "cgroup.controllers").exists():
        available = (_ROOT / "cgroup.controllers").read_text().split()
        (_ROOT / "cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in available))
        (_ROOT / name).mkdir(exist_ok=True)
        return
    for hierarchy in _ROOT.iterdir():
        if (hierarchy / "cgroup.procs").exists() and hierarchy.name != "unified":
            (hierarchy / name).mkdir(exist_ok=True)
    for limit in ("cpuset.cpus", "cpuset.mems"):  # a new group has no CPUs at first
        with contextlib.suppress(FileNotFoundError):
            (_ROOT / "cpuset" / name / limit).write_text((_ROOT / "cpuset" / limit).read_text())


def remove(name: str) -> None:
    """Kill every process in the group ``name`` or below it, and remove it everywhere."""
    deadline = time.monotonic() + _EMPTY_SECONDS
    while (found := set(_processes(name))) and time.monotonic() < deadline:
        for pid in found:
            end(pid, signal.SIGKILL)
    for group in _groups(name):
        for folder in sorted(group.rglob("*/"), key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        with contextlib.suppress(OSError):
            group.rmdir()


def left() -> list[str]:
    """The names of the existing groups."""
    return sorted({path.name for pattern in ("pantala-*", "*/pantala-*") for path in _ROOT.glob(pattern)})


def _groups(name: str) -> list[Path]:
    return [path for pattern in (name, f"*/{name}") for path in _ROOT.glob(pattern)]


def _processes(name: str) -> Iterator[int]:
    for group in _groups(name):
        for file in group.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                yield from (int(pid) for pid in file.read_text().split())
