"""The operator's console over Tasks that a test chooses."""

from typing import Any

import msgspec

from pantala_operator.console.history import ConditionHistory
from pantala_operator.console.overview import ConsoleOverview
from pantala_operator.events import OperatorEvents, ReplicasFound
from pantala_operator.resources.api import Node, PeerResource, TaskResource
from pantala_operator.term import Term
from pantala_protocol.console.progress import NodeDownload, Progress, TaskProgressView
from pantala_protocol.console.views import Console
from pantala_protocol.statement import CDNStatus, Changes, Member, TaskReport
from tests.support.cluster import MemoryClock
from tests.support.operator_stage import OperatorStage

MIB = 1 << 20
CREATED = "2026-01-01T00:00:00Z"


def condition(kind: str, status: str, reason: str, message: str = "Words") -> dict[str, Any]:
    return {
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": CREATED,
    }  # fmt: skip


def task(name: str, *, ready: str = "False", reason: str = "Progressing", **status: Any) -> TaskResource:
    body = {
        "metadata": {
            "name": name, "namespace": "ns", "uid": f"uid-{name}", "resourceVersion": "1", "creationTimestamp": CREATED,
        },
        "spec": {"source": {"url": f"http://user:secret@origin.example/{name}?token=secret"}},
        "status": {"taskID": f"id-{name}", "conditions": [condition("Ready", ready, reason)], **status},
    }  # fmt: skip
    return msgspec.convert(body, TaskResource)


def finished(name: str) -> TaskResource:
    return task(
        name, ready="True", reason="Distributed", contentLength=MIB, peers=peers(2, 2),
        bytes={"origin": MIB, "fromSupernode": MIB, "fromPeers": MIB, "distributed": 2 * MIB},
    )  # fmt: skip


def peers(desired: int, ready: int, active: int = 0, failed: int = 0) -> dict[str, int]:
    return {"desired": desired, "ready": ready, "active": active, "failed": failed}


class Desk:
    """An observation, and the console over it."""

    def __init__(self) -> None:
        self.clock = MemoryClock()
        app = OperatorStage().app()
        self.known = app._observation
        self.known.supernodes.set_replicas(ReplicasFound((Member("", "http://memory"),)))
        self.events = OperatorEvents()
        self.term = Term(self.clock)
        self.term.extend(1e9, 1)
        history = ConditionHistory(self.events, self.clock)
        self.overview = ConsoleOverview(self.known, app.details, history, self.term, lambda: "pod-b", self.clock)

    def put(self, *tasks: TaskResource) -> None:
        for each in tasks:
            self.known.tasks.update(each)

    def peer(self, name: str, zone: str) -> None:
        found = [
            condition("Ready", "True", "Connected"),
            condition("MirrorConfigured", "False", "NotConfigured", "Why"),
        ]
        status = {"zone": zone, "conditions": found}
        self.known.peers.update(msgspec.convert({"metadata": {"name": name}, "status": status}, PeerResource))
        self.known.nodes.update(msgspec.convert({"metadata": {"name": name}}, Node))

    def report(self, name: str, **fields: Any) -> None:
        report = TaskReport(f"uid-{name}", f"id-{name}", "0/", CDNStatus.RUNNING, **fields)
        self.known.supernodes.on_update("", Changes("boot", 1, 1, tasks=(report,)))

    def progress(self, name: str, *nodes: NodeDownload, origin_rate: int = 0, **fields: Any) -> None:
        views = (TaskProgressView(f"id-{name}", origin_rate, nodes=nodes),)
        self.known.progress.on_progress("", Progress("boot", 1.0, views, **fields), 1.0)

    async def view(self, namespace: str = "", *, unfinished: bool = False, limit: int = 500) -> Console:
        return await self.overview.console(namespace, unfinished=unfinished, limit=limit)
