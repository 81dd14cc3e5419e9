"""CPU time and memory of processes and of the machine, and the wait for a calm machine."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")

CALM = 0.15
"""The machine is calm if other processes use less than this part of a core."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process until now, without its children."""
    user, system, *_ = _times(pid)
    return user + system


def tree_cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children, also of those that have ended."""
    found = sum(_times(pid))
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread or the child has just ended
            found += sum(tree_cpu_seconds(int(child)) for child in tasks.read_text().split())
    return found


def peak_mebibytes(pid: int) -> float:
    """The peak memory of a process. ``ru_maxrss`` may show the peak memory of its parent instead."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def busy_seconds() -> float:
    """CPU time of all processes of this machine, over all cores, without idle time and waits for disks."""
    fields = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _wait, interrupt, soft, stolen = fields
    return (user + nice + system + interrupt + soft + stolen) / _TICKS


class Meter:
    """The CPU time of groups of processes from the creation of the meter until :meth:`stop`."""

    def __init__(self, groups: Mapping[str, Sequence[int]]) -> None:
        self._groups = {name: tuple(pids) for name, pids in groups.items()}
        self.began = time.time()
        """Seconds since the epoch, for comparison with the times of files."""
        self._busy = busy_seconds()
        self._before = self._used()
        self._own = _own_seconds()
        self._clock = time.monotonic()
        self.seconds = 0.0
        self.cpu: dict[str, float] = {}
        """CPU seconds of each group. Set at the end."""
        self.own = 0.0
        """CPU seconds of this process, and of its children that have ended. Set at the end."""
        self.foreign = 0.0
        """The average number of cores that other processes used. Set at the end."""

    def stop(self) -> None:
        self.seconds = max(time.monotonic() - self._clock, 1 / _TICKS)
        self.cpu = {name: used - self._before[name] for name, used in self._used().items()}
        self.own = _own_seconds() - self._own
        ours = sum(self.cpu.values()) + self.own
        self.foreign = max((busy_seconds() - self._busy - ours) / self.seconds, 0.0)

    def _used(self) -> dict[str, float]:
        return {name: sum(tree_cpu_seconds(pid) for pid in pids) for name, pids in self._groups.items()}


def foreign_load(seconds: float = 1.0) -> float:
    """The number of cores that other processes use, measured over ``seconds`` in which this process sleeps."""
    meter = Meter({})
    time.sleep(seconds)
    meter.stop()
    return meter.foreign


def wait_calm(longest: float, load: Callable[[], float] = foreign_load) -> float:
    """Wait until other processes leave the machine calm, at most ``longest`` seconds. Returns their last load."""
    deadline = time.monotonic() + longest
    while True:
        found = load()
        if found < CALM or time.monotonic() >= deadline:
            return found


def _times(pid: int) -> tuple[float, float, float, float]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, children_user, children_system = (int(text) / _TICKS for text in fields[11:15])
    return user, system, children_user, children_system


def _own_seconds() -> float:
    found = os.times()
    return found.user + found.system + found.children_user + found.children_system
