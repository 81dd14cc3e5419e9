"""Translates a Task with a file into the task of a statement. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pantala_operator.plan import secrets
from pantala_operator.plan.secrets import Headers, SecretReading, Unread
from pantala_operator.plan.targets import Targets
from pantala_operator.resources.api import TaskResource
from pantala_operator.resources.status import Obstacle
from pantala_protocol import task_id
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import WantedTask


@dataclass(frozen=True, slots=True)
class TaskOrigin:
    """The ID of the task in the swarm, and the headers of requests to its origin."""

    task_id: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class PathClaim:
    """A Task's claim to publish its file at a path on its nodes."""

    uid: str
    name: str
    path: str
    task_id: str
    nodes: frozenset[str]
    created: datetime


def origin(task: TaskResource, reading: SecretReading) -> TaskOrigin | Obstacle | Unread:
    """Compute the task's ID.

    All namespaces share a task that is named by its whole URL. A filtered parameter may select other content, or be a
    signature that is a right to the file. So tasks with filtered parameters stay within their namespace, and tasks with
    headers also within their Secret. A digest in the spec names content, but it is not a right to read it.
    """
    spec, namespace = task.spec, task.metadata.namespace
    if not spec.source.url:
        return Obstacle.of(Reason.SOURCE_UNSUPPORTED, "spec.depth is Supernode, but an image must go to nodes")
    url = task_id.without_query_parameters(spec.source.url, spec.filter_query_params)
    if spec.headers_from is None:
        scope = namespace if url != spec.source.url else ""
        return TaskOrigin(task_id.compute(url, digest=spec.digest, scope=scope), {})
    read = secrets.headers(f"{namespace}/{spec.headers_from.secret_ref.name}", reading, spec.source.url)
    if not isinstance(read, Headers):
        return read
    named = task_id.compute(url, digest=spec.digest, scope=namespace, credentials=read.credentials)
    return TaskOrigin(named, read.values)


def task_id_of(task: TaskResource, source: TaskOrigin | Obstacle | Unread) -> str:
    """The task's ID. While its headers cannot be read, this is the former ID, or empty if there is none."""
    return source.task_id if isinstance(source, TaskOrigin) else task.status.task_id


def winner(claim: PathClaim, rivals: Mapping[str, PathClaim]) -> PathClaim | None:
    """The rival Task that owns the path: an older Task with other content on one of the same nodes.

    ``None``: no Task owns the path before this one.
    """
    for rival in sorted(rivals.values(), key=_age):
        if _age(rival) >= _age(claim):
            return None
        if rival.path == claim.path and rival.task_id != claim.task_id and rival.nodes & claim.nodes:
            return rival
    return None


def wanted(
    task: TaskResource, source: TaskOrigin | Obstacle | Unread, where: str, targets: Targets, *, suspended: bool
) -> WantedTask | None:
    """The task for the statement. ``None`` if the supernodes should have nothing for the Task.

    A Task with an unusable Secret keeps its copies under its former task ID, and nodes without the file do not get it.
    """
    if isinstance(source, TaskOrigin):
        known, sent = source.task_id, source.headers
    elif task.status.task_id and task.spec.source.url:
        known, sent, suspended = task.status.task_id, {}, True
    else:
        return None
    return WantedTask(
        uid=task.metadata.uid,
        name=task.metadata.key,
        task_id=known,
        url=task.spec.source.url,
        headers=sent,
        digest=task.spec.digest,
        path=where,
        peers=targets.wanted if where else (),
        priority=task.spec.priority,
        suspended=suspended,
        attempt=task.attempt,
        retry_limit=task.spec.retry.limit,
    )


def _age(claim: PathClaim) -> tuple[datetime, str]:
    return claim.created, claim.uid
