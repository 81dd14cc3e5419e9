"""Registers clients: puts a lease on the task, waits for the origin, and answers with a :class:`Code`."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog

from pantala_protocol.geometry import Wrapping
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import CDNStatus
from pantala_protocol.task_id import TaskID
from pantala_supernode.dragonfly.clients import Client, Clients
from pantala_supernode.dragonfly.wire import Code, Envelope, Registration, envelope
from pantala_supernode.tasks.copy import FileSource
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.shares import DRAGONFLY, for_clients
from pantala_supernode.tasks.task import Lease, LeaseHolder, Task

_log = structlog.get_logger(__name__)
_MOST_IDLE = 1024
"""The most files without a client. Clients do not authenticate, and could otherwise take all memory.

Files that clients of other replicas have registered count for themselves. Clients may fetch them there.
"""
OTHER_MD5 = "the origin's file does not have the requested md5"


class CopyWatch:
    """Watches the status, the generation and the failure of copies. It ignores new pieces.

    ``lookup`` finds a task. ``on_change`` is called with the ID of the task after a change.
    """

    def __init__(self, lookup: Callable[[str], Task | None], on_change: Callable[[str], None]) -> None:
        self._lookup = lookup
        self._on_change = on_change
        self._states: dict[str, tuple[object, ...]] = {}
        self._news: dict[str, asyncio.Event] = {}

    def on_task_changed(self, task_id: str) -> None:
        task = self._lookup(task_id)
        before = self._states.pop(task_id, None)
        if task is not None:
            copy = task.copy
            self._states[task_id] = (copy.status, copy.generation, copy.failure)
        if self._states.get(task_id) == before:
            return
        news = self._news.pop(task_id, None)
        if news is not None:
            news.set()
        self._on_change(task_id)

    async def until(self, task_id: str, decided: Callable[[Task], bool], seconds: float) -> Task | None:
        """Wait at most ``seconds`` until ``decided`` is true for the task. Returns the task, unless it was dropped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (task := self._lookup(task_id)) is not None and not decided(task):
                    await self._news.setdefault(task_id, asyncio.Event()).wait()
        return self._lookup(task_id)


@dataclass(frozen=True, slots=True)
class RegistrationTimeouts:
    """Timeouts in seconds. A client waits only 5 s for an answer."""

    registration: float = 4.0
    """How long a registration waits for the origin's answer."""
    hold: float = 1.5
    """How long a pull waits for a piece."""
    pause: float = 0.1
    """How long the answer to a reported failure is delayed. This slows down a client that reaches no provider."""
    outage: float = 30.0
    """How long a client waits for the next piece of an origin that fails. The client's own timeout may be hours."""
    refusal: float = 10.0
    """The fewest seconds between the starts of two attempts at a failing origin."""
    rejection: float = 180.0
    """How long a file with the wrong md5 is not fetched again."""


class Registrations:
    """Handles registrations. ``clock`` returns monotonic seconds."""

    def __init__(
        self,
        leases: LeaseHolder,
        tasks: TaskManager,
        clients: Clients,
        watch: CopyWatch,
        *,
        clock: Callable[[], float],
        timeouts: RegistrationTimeouts,
    ) -> None:
        self._leases = leases
        self._tasks = tasks
        self._clients = clients
        self._watch = watch
        self._clock = clock
        self._timeouts = timeouts
        self._tried: dict[TaskID, float] = {}
        self._rejected: dict[TaskID, float] = {}
        self._registered: set[TaskID] = set()
        """The leased files that clients of this supernode have registered."""

    async def register(self, registration: Registration, host: str) -> Envelope:
        task_id = registration.task_id
        task, client = self._tasks.get(task_id), self._clients.get(task_id, registration.cid)
        if task_id in self._rejected:
            return envelope(Code.CDN_FAILED, OTHER_MD5)
        if client is None and self._clients.is_full(host):
            return envelope(Code.SYSTEM_ERROR, "too many clients are registered; register again later")
        if client is not None and task is not None and is_stale(client, task):
            return envelope(Code.CDN_FAILED, "the file changed at its origin; start a new download")
        until = self._clock() + self._clients.lifetimes.lease
        source = FileSource(
            registration.raw_url,
            registration.headers,
            attempt=self._attempt(task_id, task),
            tenants=frozenset({DRAGONFLY}),
        )
        self._leases.lease(task_id, Lease(source, until))
        self._registered.add(task_id)
        wait = self._timeouts.registration
        if task is not None and task.copy.status is CDNStatus.FAILED:  # an earlier client has waited for these retries
            wait -= self._clock() - self._tried.get(task_id, self._clock())
        task = await self._watch.until(task_id, _is_decided, wait)
        failure = task.copy.failure if task is not None else None
        if task is None or not (_is_decided(task) or failure):
            return envelope(Code.ASK_AGAIN, "the origin has not answered yet; register again")
        if failure is not None and (task.copy.given_up or not task.copy.generation):
            needs_auth = failure.reason == Reason.SOURCE_UNAUTHORIZED and registration.dfdaemon
            return envelope(Code.NEEDS_AUTH if needs_auth else Code.UNREACHABLE, failure.message)
        self._clients.add(registration, task, host)
        _log.debug("a client of Dragonfly registered", task=task_id, cid=registration.cid)
        copy = task.copy
        data = {
            "taskId": task.id,
            "fileLength": -1 if copy.length is None else copy.length,
            "pieceSize": Wrapping(copy.piece_size).wire_size,
            "cdnSource": "supernode",
        }
        return envelope(Code.OK, data=data)

    def reject(self, task: Task) -> None:
        """End the lease and delete the copy, because its md5 differs from the requested md5."""
        _log.warning("a file from the origin does not have the md5 that a client requested", task=task.id)
        self._rejected[task.id] = self._clock()
        self._leases.end_lease(task.id)

    def tick(self) -> None:
        now = self._clock()
        self._tried = {name: at for name, at in self._tried.items() if now - at < self._timeouts.refusal}
        self._rejected = {name: at for name, at in self._rejected.items() if now - at < self._timeouts.rejection}
        self._registered &= {task.id for task in self._tasks if task.lease is not None}
        idle = [task_id for _, task_id in sorted(self._idle(now))]
        own = [task_id for task_id in idle if task_id in self._registered]
        others = [task_id for task_id in idle if task_id not in self._registered]
        for task_id in own[:-_MOST_IDLE] + others[:-_MOST_IDLE]:
            self._leases.end_lease(task_id, keep=True)

    def _idle(self, now: float) -> Iterator[tuple[float, TaskID]]:
        """The end of the lease and the ID of each file that a client has registered, and that no client fetches here.

        The leases of preheats last longer.
        """
        for task in self._tasks:
            lease = task.lease
            if lease is None or lease.source is None or not for_clients(lease.source) or task.fetchers:
                continue
            if lease.until <= now + self._clients.lifetimes.lease:
                yield lease.until, task.id

    def _attempt(self, task_id: TaskID, task: Task | None) -> str:
        """The ``attempt`` for the order.

        It is new if the last attempt failed and began more than ``refusal`` seconds ago, unless the origin wants a
        longer pause.
        """
        now = self._clock()
        if task is not None and (
            task.copy.status is not CDNStatus.FAILED or task_id in self._tried or now < task.copy.retry_at
        ):
            return task.lease.attempt if task.lease is not None else ""
        self._tried[task_id] = now
        return f"{now:.3f}"


def is_stale(client: Client, task: Task) -> bool:
    """True if the client may have pieces of a former generation. It would mix them with the current pieces."""
    return client.generation != task.copy.generation


def _is_decided(task: Task) -> bool:
    return bool(task.copy.generation) or task.copy.given_up
