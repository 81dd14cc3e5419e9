"""Who registers: its task is leased, the origin waited for, and what came of that told in the clients' codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from pantala_protocol.reasons import Reason
from pantala_protocol.task_id import TaskID
from pantala_protocol.wrapping import Wrapping
from pantala_supernode.dragonfly.clients import Client, Clients
from pantala_supernode.dragonfly.watch import Watch
from pantala_supernode.dragonfly.wire import Code, Envelope, Registration, envelope
from pantala_supernode.tasks.copy import FileSource
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.task import Lease, LeaseHolder, Task

_log = structlog.get_logger(__name__)

_OTHER_MD5 = "the origin's file has another md5 than was asked for"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things take, in seconds. The clients give up on any answer after 5."""

    registration: float = 4.0
    """A registration waits so long for the origin's answer."""
    hold: float = 1.5
    """A pull waits so long for a piece."""
    pause: float = 0.1
    """After a failure, so that a client that can reach nobody does not run in circles."""
    refusal: float = 10.0
    """An origin that refused for good is asked again when somebody registers so much later."""
    rejection: float = 180.0
    """A file with another md5 than was asked for is not fetched again for so long."""


class Registry:
    """Takes registrations. ``clock`` tells monotonic seconds."""

    def __init__(
        self,
        leases: LeaseHolder,
        tasks: TaskManager,
        clients: Clients,
        watch: Watch,
        *,
        clock: Callable[[], float],
        patience: Patience,
    ) -> None:
        self._leases = leases
        self._tasks = tasks
        self._clients = clients
        self._watch = watch
        self._clock = clock
        self._patience = patience
        self._asked: dict[TaskID, float] = {}
        self._rejected: dict[TaskID, float] = {}

    async def register(self, registration: Registration, host: str) -> Envelope:
        """A run of dfget, from the address ``host``, wants a file."""
        task_id = registration.task_id
        task, client = self._tasks.get(task_id), self._clients.get(task_id, registration.cid)
        if task_id in self._rejected:
            return envelope(Code.CDN_FAILED, _OTHER_MD5)
        if client is None and self._clients.full:
            return envelope(Code.SYSTEM_ERROR, "too many clients are known")
        if client is not None and task is not None and is_stale(client, task):
            return envelope(Code.CDN_FAILED, "the file changed at its origin; start a new download")
        until = self._clock() + self._clients.lasting.lease
        attempt = self._attempt(task_id, task)
        source = FileSource(registration.raw_url, registration.headers, attempt=attempt)
        self._leases.lease(task_id, Lease(source, until))
        task = await self._watch.until(task_id, _is_decided, self._patience.registration)
        if task is None or not _is_decided(task):
            return envelope(Code.ASK_AGAIN, _delay(task))
        if task.copy.given_up:
            return _refusal(registration, task)
        self._clients.enrol(registration, task, host)
        _log.debug("dfget registered", task=task_id, cid=registration.cid)
        return _accepted(task)

    def reject(self, task: Task) -> None:
        """The origin's file is not the one that was asked for: its copy is dropped."""
        _log.warning("a file has another md5 than was asked for", task=task.id)
        self._rejected[task.id] = self._clock()
        self._leases.end_lease(task.id)

    def tick(self) -> None:
        """Forget what is over; to be called about once a second."""
        now = self._clock()
        self._asked = {name: at for name, at in self._asked.items() if now - at < self._patience.refusal}
        self._rejected = {name: at for name, at in self._rejected.items() if now - at < self._patience.rejection}

    def _attempt(self, task_id: TaskID, task: Task | None) -> str:
        """Ask the origin anew, if it refused for good and was not asked lately."""
        if task is not None and (not task.copy.given_up or task_id in self._asked):
            return task.lease.attempt if task.lease is not None else ""
        now = self._asked[task_id] = self._clock()
        return f"{now:.3f}"


def is_stale(client: Client, task: Task) -> bool:
    """The client may hold pieces of a former content, which it would mix with those of the present one."""
    return client.generation != task.copy.generation


def _is_decided(task: Task) -> bool:
    return bool(task.copy.generation) or task.copy.given_up


def _delay(task: Task | None) -> str:
    """What is in the way: the origin, or e.g. the volume."""
    failure = task.copy.failure if task is not None else None
    return failure.message if failure is not None else "the origin has not answered yet"


def _accepted(task: Task) -> Envelope:
    copy = task.copy
    data = {
        "taskId": task.id,
        "fileLength": -1 if copy.length is None else copy.length,
        "pieceSize": Wrapping(copy.piece_size).wire_size,
        "cdnSource": "supernode",
    }
    return envelope(Code.OK, data=data)


def _refusal(registration: Registration, task: Task) -> Envelope:
    failure = task.copy.failure
    reason, message = (failure.reason, failure.message) if failure is not None else ("", "")
    if reason == Reason.SOURCE_UNAUTHORIZED and registration.dfdaemon:
        return envelope(Code.NEEDS_AUTH, message)
    return envelope(Code.UNREACHABLE, message)
