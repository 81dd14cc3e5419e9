"""What is wanted of the supernode for one Task. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pantala_operator.plan import headers, problem
from pantala_operator.plan.headers import Headers, SecretReading, Unread
from pantala_operator.plan.problem import Problem
from pantala_operator.plan.target import Targets
from pantala_operator.resources.api import TaskResource
from pantala_protocol import task_id
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import WantedTask

_NO_FILE = (
    "An image is not kept on the supernode alone. Set spec.depth to Runtime, for the nodes' container runtimes, "
    "or to Peer, for the peers' caches."
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the bytes come from, and how the task is named."""

    task_id: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Claim:
    """One Task's claim to a path on nodes."""

    uid: str
    name: str
    path: str
    task_id: str
    nodes: frozenset[str]
    created: datetime


def origin(task: TaskResource, reading: SecretReading) -> Origin | Problem | Unread:
    """Name the task. Tasks with credentials are shared within their namespace and Secret, others by the cluster."""
    spec, namespace = task.spec, task.metadata.namespace
    if not spec.source.url:
        return Problem(Reason.SOURCE_UNSUPPORTED.value, _NO_FILE, final=True)
    url = task_id.without_query_parameters(spec.source.url, spec.filter_query_params)
    if spec.headers_from is None:
        return Origin(task_id.compute(url, digest=spec.digest), {})
    read = headers.read(f"{namespace}/{spec.headers_from.secret_ref.name}", reading)
    if not isinstance(read, Headers):
        return read
    named = task_id.compute(url, digest=spec.digest, scope=namespace, credentials=read.credentials)
    return Origin(named, read.values)


def task_id_of(task: TaskResource, source: Origin | Problem | Unread) -> str:
    """How the task is named; while its headers cannot be read as it was named last; empty: not known yet."""
    return source.task_id if isinstance(source, Origin) else task.status.task_id


def path(task: TaskResource, root: str) -> str | Problem:
    """Where the file appears, relative to ``root``; empty when it stays on the supernode."""
    if not task.spec.to_peers:
        return ""
    wish = task.spec.path or f"{task.metadata.namespace}/{task.metadata.name}"
    relative = wish.removeprefix(root + "/") if wish.startswith("/") else wish
    parts = relative.split("/")
    if relative.startswith("/") or any(part in {"", ".", ".."} for part in parts) or "\0" in relative:
        return problem.of(Reason.PATH_OUTSIDE_ROOT, f"{wish} is not a file below {root}")
    return relative


def winner(claim: Claim, rivals: Mapping[str, Claim]) -> Claim | None:
    """The Task that has the path where ``claim`` may not: an older one, with other content, on one of its nodes."""
    for rival in sorted(rivals.values(), key=_age):
        if _age(rival) >= _age(claim):
            return None
        if rival.path == claim.path and rival.task_id != claim.task_id and rival.nodes & claim.nodes:
            return rival
    return None


def conflict(path: str, owner: Claim) -> Problem:
    """Say who has the path."""
    return problem.of(Reason.PATH_CONFLICT, f"The path {path} belongs to the Task {owner.name}")


def wanted(
    task: TaskResource, source: Origin | Problem | Unread, where: str, targets: Targets, *, suspended: bool
) -> WantedTask | None:
    """The Task in the supernode's terms; ``None``: nothing is wanted.

    A Task whose Secret cannot be used keeps what it has, under the name it had; it is given nothing more.
    """
    if isinstance(source, Origin):
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


def _age(claim: Claim) -> tuple[datetime, str]:
    return claim.created, claim.uid
