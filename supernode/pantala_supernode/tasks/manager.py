"""The tasks: what is wanted, by which Task resources, and what the CDN has of it. Pure.

Several Task resources may want one task: one copy, one read of the origin. A resource that is no longer stated stays
wanted for a grace period, so that one that is replaced does not cost another read. Who asks without a Task resource
holds a lease: the task is wanted until it ends, and its copy stays as a cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from pantala_protocol import task_id
from pantala_protocol.geometry import Geometry
from pantala_protocol.statement import CDNStatus, Statement, WantedTask
from pantala_protocol.sync import Assignment, Delivery
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import EmptyValueError, NotFoundError
from pantala_supernode.tasks.changes import Changes, Restated
from pantala_supernode.tasks.copy import Copy, FetchOrder, FileSource

_GRAIN = 1.0
"""Seconds by which leases are renewed: their clients speak with each piece."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Keeps a task wanted for a while, on behalf of clients without a Task resource."""

    source: FileSource | None
    """``None``: the copy is kept, and nothing is fetched."""
    until: float = field(compare=False)
    """Monotonic seconds. Two leases that differ only in this field are equal."""

    @property
    def attempt(self) -> str:
        return self.source.attempt if self.source is not None else ""


@dataclass(slots=True)
class Task:
    """One file to distribute."""

    id: TaskID
    copy: Copy
    """What the CDN has of it."""
    wanted: dict[str, WantedTask] = field(default_factory=dict)
    """By the UID of the Task resource."""
    lease: Lease | None = None
    guests: set[str] = field(default_factory=set)
    """Clients that fetch it under the lease."""
    holders: set[str] = field(default_factory=set)
    """Peers that keep what they have of it as long as the lease lasts; those that fetch it are guests, too."""
    peers: frozenset[str] = frozenset()
    """All that shall have it for a Task resource."""
    _fetching: frozenset[str] = frozenset()

    @property
    def complete(self) -> bool:
        """The supernode has all of it, checked."""
        return self.copy.status is CDNStatus.SUCCESS

    @property
    def possible(self) -> int:
        """The pieces that a peer may claim to have: all of the file, or those cached while its end is not known."""
        return self.copy.cached if self.copy.total is None else (1 << self.copy.total) - 1

    def size(self, piece: int) -> int:
        """The bytes of a cached piece: a short one exists only once the length is known."""
        copy = self.copy
        return copy.piece_size if copy.length is None else Geometry(copy.piece_size, copy.length).size(piece)

    @property
    def priority(self) -> int:
        """The highest of those who want it."""
        return max((wanted.priority for wanted in self.wanted.values()), default=0)

    @property
    def suspended(self) -> bool:
        """Nobody wants it to go on."""
        return (self.lease is None or self.lease.source is None) and all(
            wanted.suspended for wanted in self.wanted.values()
        )

    @property
    def source(self) -> FileSource | None:
        """The source named by a Task resource, else by the lease."""
        for wanted in self.wanted.values():
            return FileSource(wanted.url, wanted.headers, wanted.digest or None)
        return self.lease.source if self.lease is not None else None

    def order(self) -> FetchOrder:
        """The order for the CDN. It joins the attempts of all owners and takes the highest retry limit."""
        source = self.source
        if source is None:
            raise ValueError(f"no Task resource and no lease wants task {self.id}")
        attempts = sorted(f"{wanted.uid}:{wanted.attempt}" for wanted in self.wanted.values())
        limits = [wanted.retry_limit for wanted in self.wanted.values()]
        if self.lease is not None:
            attempts.append(f"lease:{self.lease.attempt}")
            limits.append(None)
        leased = self.lease.source if self.lease is not None else None
        priority = max(self.priority, leased.priority if leased is not None else self.priority)
        return FetchOrder(
            self.id,
            replace(source, attempt=" ".join(attempts), priority=priority),
            retry_limit=None if None in limits else max(limit for limit in limits if limit is not None),
            claims=frozenset(self.wanted),
            stale_will_do=not self.wanted,
        )

    def want(self, wanted: WantedTask) -> None:
        """A Task resource wants it, maybe in another way than before."""
        self.wanted[wanted.uid] = wanted
        self._index()

    def unwant(self, uid: str) -> WantedTask:
        """A Task resource does not want it any more."""
        wanted = self.wanted.pop(uid)
        self._index()
        return wanted

    def wanted_by(self, peer: str) -> bool:
        """Whether the peer shall have the file."""
        return peer in self.peers

    def runs_on(self, peer: str) -> bool:
        """Whether the peer shall have the file and may go on fetching it."""
        return peer in self._fetching or peer in self.guests

    def _index(self) -> None:
        wishes = self.wanted.values()
        self.peers = frozenset(peer for wanted in wishes for peer in wanted.peers)
        self._fetching = frozenset(peer for wanted in wishes if not wanted.suspended for peer in wanted.peers)

    def assignment(self, peer: str) -> Assignment:
        """What the peer is told of the task."""
        return Assignment(
            task_id=self.id,
            generation=self.copy.generation,
            piece_size=self.copy.piece_size,
            length=self.copy.length,
            digest=self.copy.digest,
            deliveries=tuple(
                Delivery(wanted.uid, wanted.path)
                for wanted in sorted(self.wanted.values(), key=lambda wanted: wanted.uid)
                if wanted.path and peer in wanted.peers
            ),
            priority=self.priority,
        )


class TaskManager:
    """The tasks by ID. ``grace`` is in seconds, ``now`` everywhere monotonic seconds.

    ``keep``: the copies of tasks that are not stated any more stay as a cache; else they go.
    """

    def __init__(self, *, grace: float, keep: bool = False) -> None:
        self.revision = 0
        """Of the statement in force; 0: none yet, so nothing is known to be unwanted."""
        self._grace = grace
        self._keep = keep
        self._tasks: dict[str, Task] = {}
        self._task_of: dict[str, str] = {}
        self._leaving: dict[str, float] = {}
        self._by_peer: dict[str, set[str]] = {}
        self._by_holder: dict[str, set[str]] = {}

    def get(self, name: str) -> Task | None:
        """A task, if it is wanted."""
        return self._tasks.get(name)

    def known(self, name: str) -> Task:
        """A task. Raises :class:`EmptyValueError` for no ID, :class:`NotFoundError` for one that is not wanted."""
        if not name:
            raise EmptyValueError("name a task")
        task = self._tasks.get(name)
        if task is None:
            raise NotFoundError(f"task {name[:64]!r} is not wanted (any more)")
        return task

    def of(self, uid: str) -> Task | None:
        """The task that a Task resource wants, if it does."""
        name = self._task_of.get(uid)
        return self._tasks.get(name) if name else None

    def __iter__(self) -> Iterator[Task]:
        return iter(list(self._tasks.values()))

    def wanted_by(self, peer: str) -> list[Task]:
        """The tasks that a peer shall have, or keep."""
        names = self._by_peer.get(peer, set()) | self._by_holder.get(peer, set())
        return [self._tasks[name] for name in names]

    def held_by(self, peer: str) -> frozenset[str]:
        """The tasks that a peer holds under leases."""
        return frozenset(self._by_holder.get(peer, ()))

    def invite(self, name: str, peer: str) -> None:
        """A peer fetches a leased task, and holds it from now on. A task without a lease has no guests."""
        self.hold(name, peer)
        if name in self._by_holder.get(peer, ()):
            self._tasks[name].guests.add(peer)

    def hold(self, name: str, peer: str) -> None:
        """A peer keeps what it has of a leased task, and fetches no more of it."""
        task = self._tasks.get(name)
        if task is not None and task.lease is not None:
            task.holders.add(peer)
            self._by_holder.setdefault(peer, set()).add(task.id)

    def excuse(self, name: str, peer: str) -> None:
        """A peer fetches no more of a leased task; what it has it keeps."""
        task = self._tasks.get(name)
        if task is not None:
            task.guests.discard(peer)

    def dismiss(self, name: str, peer: str) -> None:
        """A peer does not hold a leased task any more."""
        task = self._tasks.get(name)
        if task is None or peer not in task.holders:
            return
        task.guests.discard(peer)
        task.holders.discard(peer)
        self._by_holder[peer].discard(name)
        if not self._by_holder[peer]:
            del self._by_holder[peer]

    def check_status(self, name: str) -> bool:
        """Whether the supernode has all of the file, verified."""
        task = self._tasks.get(name)
        return task is not None and task.complete

    def update(self, name: str, copy: Copy) -> None:
        """The CDN tells what it has."""
        task = self._tasks.get(name)
        if task is not None:
            task.copy = copy

    def state(self, statement: Statement, *, now: float) -> Restated:
        """Take the full set of what is wanted. Raises :class:`ValueError` if a task ID is none."""
        for wanted in statement.tasks:
            task_id.parse(wanted.task_id)
        self.revision = statement.revision
        stated = {wanted.uid: wanted for wanted in statement.tasks}
        changes, left = Changes(), []
        for wanted in stated.values():
            self._leaving.pop(wanted.uid, None)
            before = self.of(wanted.uid)
            if before is not None and before.id != wanted.task_id:
                left.append((before, wanted.uid))
            self._register(wanted, changes)
        for task, uid in left:  # last, since another may have come to want the same task
            self._leave(task, uid, changes)
        for uid in self._task_of.keys() - stated.keys():
            self._leaving.setdefault(uid, now + self._grace)
        return changes.frozen()

    def expire(self, *, now: float) -> Restated:
        """End the grace of those whose time has come."""
        changes = Changes()
        for uid in [uid for uid, end in self._leaving.items() if end <= now]:
            del self._leaving[uid]
            self._withdraw(uid, changes)
        for task in self:
            if task.lease is not None and task.lease.until <= now:
                self._end_lease(task, changes)
        return changes.frozen()

    def lease(self, name: str, lease: Lease) -> Restated:
        """Want a task until ``lease.until`` or what was said before, if that is later; or want it in another way.

        Raises :class:`ValueError` for no task ID.
        """
        key = task_id.parse(name)
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = Task(key, Copy(key))
        before = task.lease
        if lease == before:  # as nearly always: who asks next
            self.renew(key, until=lease.until)
            return Restated()
        task.lease = lease if before is None else replace(lease, until=max(lease.until, before.until))
        return Restated(tasks=frozenset({task.id}))

    def renew(self, name: str, *, until: float) -> None:
        """Let a lease end later, if it is a second or more. A task without one gets none."""
        task = self._tasks.get(name)
        if task is not None and task.lease is not None and until - task.lease.until >= _GRAIN:
            task.lease = replace(task.lease, until=until)

    def end_lease(self, name: str, *, keep: bool = False) -> Restated:
        """Who held the lease does not want it any more: unless somebody else wants the task, it goes, too.

        Its copy goes with it, or stays as a cache (``keep``).
        """
        task, changes = self._tasks.get(name), Changes()
        if task is not None and task.lease is not None:
            self._end_lease(task, changes)
            if not keep:
                changes.deleted, changes.retired = changes.retired, set()
        return changes.frozen()

    def _end_lease(self, task: Task, changes: Changes) -> None:
        changes.peers.update(task.holders)
        for peer in tuple(task.holders):
            self.dismiss(task.id, peer)
        task.lease = None
        task.guests.clear()
        if task.wanted:
            changes.tasks.add(task.id)
        else:
            del self._tasks[task.id]
            changes.tasks.discard(task.id)
            changes.retired.add(task.id)

    def _register(self, wanted: WantedTask, changes: Changes) -> None:
        task = self._tasks.get(wanted.task_id)
        if task is None:
            name = TaskID(wanted.task_id)
            task = self._tasks[name] = Task(name, Copy(name))
        before = task.wanted.get(wanted.uid)
        if before == wanted:
            return
        peers = task.peers
        task.want(wanted)
        self._index(task, peers)
        self._task_of[wanted.uid] = task.id
        changes.tasks.add(task.id)
        changes.peers.update(wanted.peers, before.peers if before else ())

    def _withdraw(self, uid: str, changes: Changes) -> None:
        self._leave(self._tasks[self._task_of.pop(uid)], uid, changes)

    def _leave(self, task: Task, uid: str, changes: Changes) -> None:
        peers, wanted = task.peers, task.unwant(uid)
        self._index(task, peers)
        changes.dropped.add(uid)
        changes.peers.update(wanted.peers)
        if task.wanted or task.lease is not None:
            changes.tasks.add(task.id)
        else:
            del self._tasks[task.id]
            changes.tasks.discard(task.id)
            (changes.retired if self._keep else changes.deleted).add(task.id)

    def _index(self, task: Task, before: frozenset[str]) -> None:
        for peer in task.peers - before:
            self._by_peer.setdefault(peer, set()).add(task.id)
        for peer in before - task.peers:
            self._by_peer[peer].discard(task.id)
            if not self._by_peer[peer]:
                del self._by_peer[peer]
