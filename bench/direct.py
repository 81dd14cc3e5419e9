"""Measures direct downloads of the same file by as many hosts, over the same links."""

from __future__ import annotations

import time

from bench.errors import BenchError
from bench.stage import Stage, check

_LONGEST = 4.0
"""A run fails after this multiple of the least possible time, which is :attr:`Plan.line_seconds`."""


def measure(stage: Stage, clients: int, sha256: str) -> tuple[float, ...]:
    """Seconds that each download took, ascending. Raises :class:`BenchError` if one fails."""
    plan = stage.plan
    hosts = [stage.network.host(f"client-{number}", plan.peer_megabits) for number in range(clients)]
    files = [stage.folder / f"direct-{number}" for number in range(clients)]
    processes = [
        stage.start(host, file.name, "bench.fetch", stage.url, str(file))
        for host, file in zip(hosts, files, strict=True)
    ]
    shared = clients * plan.size * 8 / (plan.hub_megabits * 1e6)
    deadline = time.monotonic() + 10 + _LONGEST * max(plan.line_seconds, shared)
    while any(process.returncode is None for process in processes):
        if time.monotonic() > deadline:
            raise BenchError(f"{clients} direct downloads did not end in time.")
        time.sleep(0.1)
    for process, file in zip(processes, files, strict=True):
        if process.returncode:
            raise BenchError(f"A direct download ended with {process.returncode}:\n{process.tail()}")
        check(file, sha256)
    return tuple(sorted(float(process.tail()) for process in processes))
