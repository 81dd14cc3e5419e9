"""Direct downloads of the same file by the same number of hosts, over the same links."""

from bench.data.stage import Stage
from bench.errors import BenchError
from bench.memory import check
from bench.swarm import wait

_LONGEST = 4.0
"""A run fails after this multiple of the least possible time."""


def download(stage: Stage, clients: int, sha256: str) -> tuple[float, ...]:
    """Seconds that each download took, ascending. Raises :class:`BenchError` if one fails."""
    plan = stage.plan
    hosts = [stage.network.host(f"client-{number}", plan.peer_megabits) for number in range(clients)]
    files = [stage.folder / f"direct-{number}" for number in range(clients)]
    processes = [
        stage.start(host, file.name, "bench.data.fetch", stage.url, str(file))
        for host, file in zip(hosts, files, strict=True)
    ]
    shared = clients * plan.size * 8 / (plan.hub_megabits * 1e6)
    longest = 10 + _LONGEST * max(plan.line_seconds, shared)
    wait(lambda: all(process.returncode is not None for process in processes), "all direct downloads end", longest)
    for process, file in zip(processes, files, strict=True):
        if process.returncode:
            raise BenchError(f"A direct download ended with the exit code {process.returncode}:\n{process.tail()}")
        check(file, sha256)
    return tuple(sorted(float(process.tail()) for process in processes))
