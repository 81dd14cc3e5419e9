"""``python -m bench.scale.operator SUPERNODE TASKS NODES PEERS ORIGIN`` runs the operator until each status is right.

It prints a line of JSON: the seconds until the statement had all Tasks, the seconds until each status was right, and
the memory.
"""

import asyncio
import os
import sys
import time
from typing import cast

import msgspec
import structlog

from bench.scale.cluster import ScriptedCluster
from bench.usage import peak_mebibytes
from pantala_operator.adapters.supernode import HTTPSupernodeAPI
from pantala_operator.app import App
from pantala_operator.events import SupernodeReported
from pantala_operator.ports import ClusterAPI, SystemClock
from pantala_operator.resources import conditions
from pantala_operator.resources.api import TaskResource
from pantala_operator.settings import Settings
from pantala_process.settings import ListenAddress

_LOOK = 0.5


async def _run(url: str, tasks: int, nodes: int, peers: int, origin: str) -> dict[str, float]:
    cluster = ScriptedCluster(tasks, nodes, origin)
    settings = Settings(supernode=(url,), health_listen=ListenAddress("127.0.0.1", 0))
    app = App(settings, cast("ClusterAPI", cluster), HTTPSupernodeAPI, cluster.watch, SystemClock())
    reported: set[str] = set()
    app.events.subscribe(SupernodeReported, lambda event: reported.update(each.uid for each in event.changes.tasks))
    began = time.monotonic()
    running = asyncio.create_task(app.run())
    values: dict[str, float] = {}
    while "right_s" not in values:
        await asyncio.sleep(_LOOK)
        if running.done():
            running.result()
        passed = time.monotonic() - began
        if len(reported) == tasks:
            values.setdefault("stated_s", passed)
        if all(_is_right(each, nodes, peers) for each in cluster.tasks):
            values["right_s"] = passed
    running.cancel()
    return {**values, "writes": cluster.writes, "operator_mib": peak_mebibytes(os.getpid())}


def _is_right(task: TaskResource, nodes: int, peers: int) -> bool:
    """True if the status says that the supernode has the file, and on how many of all nodes the file is."""
    found, counts = task.status, task.status.peers
    ready = conditions.find(found.conditions, "Ready")
    whole = counts is not None and (counts.desired, counts.ready, counts.active) == (nodes, peers, 0)
    return (
        whole and found.cdn_status == "SUCCESS" and ready is not None and (ready.status == "True") == (nodes == peers)
    )


def main() -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(30), logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )
    url, tasks, nodes, peers, origin = sys.argv[1:]
    print(msgspec.json.encode(asyncio.run(_run(url, int(tasks), int(nodes), int(peers), origin))).decode())


if __name__ == "__main__":
    main()
