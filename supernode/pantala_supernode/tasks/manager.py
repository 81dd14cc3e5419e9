"""The tasks: what is wanted, by which Task resources, and what the CDN has of it. Pure.

Several Task resources may want one task: one copy, one read of the origin. A resource that is no longer stated stays
wanted for a grace period, so that one that is replaced does not cost another read. Who asks without a Task resource
holds a lease: the task is wanted until it ends, and its copy stays as a cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from pantala_protocol import task_id
from pantala_protocol.statement import Statement, WantedTask
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import EmptyValueError, NotFoundError
from pantala_supernode.tasks.copy import Copy
from pantala_supernode.tasks.task import Lease, Task

_GRAIN = 1.0
"""Seconds by which leases are renewed: their clients speak with each piece."""


@dataclass(slots=True)
class TaskChanges:
    """What a statement, a lease or the end of a grace period changed."""

    tasks: set[TaskID] = field(default_factory=set)
    """Tasks whose order to the CDN changed."""
    deleted: set[TaskID] = field(default_factory=set)
    """Tasks that are not wanted any more, together with their copies."""
    retired: set[TaskID] = field(default_factory=set)
    """Tasks that are not wanted any more and whose copies stay as a cache."""
    dropped: set[str] = field(default_factory=set)
    """UIDs of the Task resources that are not wanted any more."""
    peers: set[str] = field(default_factory=set)
    """Peers whose assignments may have changed."""


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

    @property
    def stated(self) -> bool:
        """A statement is in force."""
        return self.revision > 0

    def get(self, name: str) -> Task | None:
        """A task, if it is wanted."""
        return self._tasks.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

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

    def state(self, statement: Statement, *, now: float) -> TaskChanges:
        """Take the full set of what is wanted. Raises :class:`ValueError` if a task ID is none."""
        for wanted in statement.tasks:
            task_id.parse(wanted.task_id)
        self.revision = statement.revision
        stated = {wanted.uid: wanted for wanted in statement.tasks}
        changes, left = TaskChanges(), []
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
        return changes

    def expire(self, *, now: float) -> TaskChanges:
        """End the grace of those whose time has come."""
        changes = TaskChanges()
        for uid in [uid for uid, end in self._leaving.items() if end <= now]:
            del self._leaving[uid]
            self._withdraw(uid, changes)
        for task in self:
            if task.lease is not None and task.lease.until <= now:
                self._end_lease(task, changes)
        return changes

    def lease(self, name: str, lease: Lease) -> TaskChanges:
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
            return TaskChanges()
        task.lease = lease if before is None else replace(lease, until=max(lease.until, before.until))
        return TaskChanges(tasks={task.id})

    def renew(self, name: str, *, until: float) -> None:
        """Let a lease end later, if it is a second or more. A task without one gets none."""
        task = self._tasks.get(name)
        if task is not None and task.lease is not None and until - task.lease.until >= _GRAIN:
            task.lease = replace(task.lease, until=until)

    def end_lease(self, name: str, *, keep: bool = False) -> TaskChanges:
        """Who held the lease does not want it any more: unless somebody else wants the task, it goes, too.

        Its copy goes with it, or stays as a cache (``keep``).
        """
        task, changes = self._tasks.get(name), TaskChanges()
        if task is not None and task.lease is not None:
            self._end_lease(task, changes)
            if not keep:
                changes.deleted, changes.retired = changes.retired, set()
        return changes

    def _end_lease(self, task: Task, changes: TaskChanges) -> None:
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

    def _register(self, wanted: WantedTask, changes: TaskChanges) -> None:
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

    def _withdraw(self, uid: str, changes: TaskChanges) -> None:
        self._leave(self._tasks[self._task_of.pop(uid)], uid, changes)

    def _leave(self, task: Task, uid: str, changes: TaskChanges) -> None:
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
