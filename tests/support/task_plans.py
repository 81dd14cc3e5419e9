"""Tasks, and what the operator knows about them."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from pantala_operator.plan.paths import PublishedPaths
from pantala_operator.plan.statement import PathClaim
from pantala_operator.plan.targets import Targets
from pantala_operator.plan.task import ObservedTask, TaskPlan, plan
from pantala_operator.resources.api import TaskResource
from pantala_protocol import task_id
from pantala_protocol.statement import CDNStatus, Failure, TaskReport

ALLOWED = {"pantala.dev/allow": "tasks"}
PATHS = PublishedPaths("/var/lib/pantala/files")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
URL = "https://origin.example/f"
ALL = ("a", "b", "c")


def task(annotations: dict[str, str] | None = None, generation: int = 1, **spec: Any) -> TaskResource:
    metadata = {
        "name": "t",
        "namespace": "ns",
        "uid": "u",
        "generation": generation,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": annotations or {},
    }
    return msgspec.convert({"metadata": metadata, "spec": {"source": {"url": URL}, **spec}}, TaskResource)


def report(**changes: Any) -> TaskReport:
    """The file is cached, and all nodes have it."""
    done = TaskReport(
        uid="u",
        task_id=task_id.compute(URL),
        attempt="1/",
        cdn_status=CDNStatus.SUCCESS,
        length=1536 * 1024,
        digest="sha256:" + "a" * 64,
        piece_size=1 << 17,
        pieces_total=12,
        pieces_cached=12,
        origin_bytes=10,
        supernode_bytes=20,
        peer_bytes=30,
        ready_peers=ALL,
    )
    return msgspec.structs.replace(done, **changes)


def observe(said: TaskReport | None = None, **changes: Any) -> ObservedTask:
    base: dict[str, Any] = {
        "targets": Targets(ALL, frozenset(ALL)),
        "report": said,
        "holders": frozenset(said.ready_peers) if said is not None else frozenset(),
        "reported": True,
    }
    return ObservedTask(**base | changes)


def after(each: TaskResource, observed: ObservedTask, now: datetime = NOW) -> TaskResource:
    """The Task with the status that its plan says."""
    return msgspec.structs.replace(each, status=plan(each, observed, PATHS, now).status)


def statuses(result: TaskPlan) -> dict[str, tuple[str, str]]:
    return {each.type: (each.status, each.reason) for each in result.status.conditions}


FETCHING = report(cdn_status=CDNStatus.RUNNING, pieces_cached=3, ready_peers=())
PASSING = report(
    cdn_status=CDNStatus.SOURCE_ERROR,
    length=None,
    pieces_cached=0,
    ready_peers=(),
    failure=Failure("SourceRefused", "no"),
)
RARELY = msgspec.structs.replace(PASSING, failure=Failure("SourceNotFound", "404", final=True))
FINAL = report(
    cdn_status=CDNStatus.FAILED, ready_peers=(), failure=Failure("DigestMismatch", "the digest is b", final=True)
)
ON_NODE = report(ready_peers=("a",), failures=(Failure("NodeDiskFull", "no space", peer="b"),), failed_peers=1)
OWNER = PathClaim("o", "ns/other", "ns/t", "x", frozenset(ALL), NOW)
PRIVATE = {"headersFrom": {"secretRef": {"name": "s"}}}
YES, NO, UNKNOWN = "True", "False", "Unknown"
