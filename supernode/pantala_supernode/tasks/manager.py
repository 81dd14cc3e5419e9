"""The desired tasks, the Task resources and leases that want them, and the state of their copies. Pure.

Several Task resources may want one task: there is one copy and one read of the origin. A Task resource that is removed
stays wanted for a grace period, so its replacement does not cost another read. Clients without a Task resource use a
lease: the task is wanted until the lease ends, and its copy then stays as a cache.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from pantala_protocol import task_id
from pantala_protocol.nodes.sets import NodeTable
from pantala_protocol.statement import Statement, WantedTask
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import EmptyValueError, NotFoundError
from pantala_supernode.tasks.copy import Copy
from pantala_supernode.tasks.recipients import RecipientIndex
from pantala_supernode.tasks.task import Lease, Refusal, Task

_GRAIN = 1.0
"""The fewest seconds that a renewal must add to a lease, because clients renew with each piece."""


@dataclass(slots=True)
class TaskChanges:
    """The changes that a statement, a lease or the end of a grace period causes."""

    tasks: set[TaskID] = field(default_factory=set)
    """Tasks whose order to the CDN changed."""
    deleted: set[TaskID] = field(default_factory=set)
    """Tasks that are not wanted any more and whose copies must be deleted."""
    retired: set[TaskID] = field(default_factory=set)
    """Tasks that are not wanted any more and whose copies stay as a cache."""
    dropped: set[str] = field(default_factory=set)
    """UIDs of the Task resources that are not wanted any more."""
    peers: set[str] = field(default_factory=set)
    """Peers whose assignments may have changed."""
    _seen: set[frozenset[str]] = field(default_factory=set, compare=False, repr=False)

    def concern(self, nodes: frozenset[str]) -> None:
        """Add nodes to ``peers``. Most tasks share a set of nodes, and each set is added only once."""
        if nodes not in self._seen:
            self._seen.add(nodes)
            self.peers |= nodes


class TaskManager:
    """The tasks by ID. ``now`` is always in monotonic seconds.

    A removed Task resource stays wanted for ``grace`` seconds. Then its copy stays as a cache (``keep``) or is deleted.
    """

    def __init__(self, *, grace: float, keep: bool = False) -> None:
        self.revision = 0
        """The revision of the statement in force. 0: no statement yet, so every task may still be wanted."""
        self.zones: dict[str, str] = {}
        """The zones of nodes in the statement in force, for peers that do not report theirs."""
        self.table = NodeTable()
        """The nodes in the statement in force, for reports that refer to nodes by number."""
        self._grace = grace
        self._keep = keep
        self._tasks: dict[str, Task] = {}
        self._task_of: dict[str, str] = {}
        """The task ID of each Task resource, by UID."""
        self._ends: dict[str, float] = {}
        """The ends of the grace periods of removed Task resources, by UID."""
        self._recipients = RecipientIndex()

    @property
    def stated(self) -> bool:
        return self.revision > 0

    def get(self, name: str) -> Task | None:
        return self._tasks.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._tasks

    def claimed(self, name: str) -> bool:
        """True if a Task resource wants a task."""
        task = self._tasks.get(name)
        return task is not None and bool(task.wanted)

    def __iter__(self) -> Iterator[Task]:
        return iter(list(self._tasks.values()))

    def known(self, name: str) -> Task:
        """The wanted task with this ID. Raises :class:`EmptyValueError` (empty ID) or :class:`NotFoundError`."""
        if not name:
            raise EmptyValueError("The task ID is empty. Give the ID of a task.")
        task = self._tasks.get(name)
        if task is None:
            raise NotFoundError(f"No resource or lease wants the task {name[:64]!r} now. Check the ID.")
        return task

    def of(self, uid: str) -> Task | None:
        name = self._task_of.get(uid)
        return self._tasks.get(name) if name else None

    def assigned_to(self, peer: str) -> list[Task]:
        return [self._tasks[name] for name in self._recipients.tasks_of(peer)]

    def kept_by(self, peer: str) -> set[TaskID]:
        return self._recipients.kept_by(peer)

    def add_fetcher(self, name: str, peer: str) -> None:
        """Let a peer fetch a leased task and keep it. Does nothing for a task without a lease."""
        self.add_keeper(name, peer)
        task = self._tasks.get(name)
        if task is not None and peer in task.keepers:
            task.fetchers.add(peer)

    def add_keeper(self, name: str, peer: str) -> None:
        """Let a peer keep its pieces of a leased task, but not fetch more pieces."""
        task = self._tasks.get(name)
        if task is not None and task.lease is not None:
            task.keepers.add(peer)
            self._recipients.keep(task.id, peer)

    def remove_fetcher(self, name: str, peer: str) -> None:
        """Let a peer fetch no more pieces of a leased task. The peer keeps its pieces."""
        task = self._tasks.get(name)
        if task is not None:
            task.fetchers.discard(peer)

    def remove_keeper(self, name: str, peer: str) -> None:
        task = self._tasks.get(name)
        if task is not None and peer in task.keepers:
            task.fetchers.discard(peer)
            task.keepers.discard(peer)
            self._recipients.release(task.id, {peer})

    def update(self, name: str, copy: Copy) -> frozenset[str]:
        """Update the state of a copy. Returns the peers that no longer receive the task.

        For a new generation of a blob, the rights of peers must be decided again.
        """
        task = self._tasks.get(name)
        if task is None:
            return frozenset()
        before, task.copy = task.copy, copy
        if not before.origins or before.generation == copy.generation:
            return frozenset()
        left, task.keepers = frozenset(task.keepers), set()
        task.fetchers.clear()
        self._recipients.release(task.id, left)
        return left

    def state(self, statement: Statement, *, now: float) -> TaskChanges:
        """Replace the tasks that Task resources want. The tasks of the statement must have nodes by name.

        Raises :class:`ValueError` for an invalid task ID.
        """
        for wanted in statement.tasks:
            task_id.parse(wanted.task_id)
        self.revision, self.zones = statement.revision, statement.zones
        stated = {wanted.uid: (wanted, nodes) for wanted, nodes in self._recipients.share(statement.tasks)}
        names = statement.nodes or tuple(sorted({name for each in statement.tasks for name in each.peers}))
        if names != self.table.names:
            self.table = NodeTable(names)
        changes, left = TaskChanges(), []
        for wanted, nodes in stated.values():
            self._ends.pop(wanted.uid, None)
            before = self.of(wanted.uid)
            if before is not None and before.id != wanted.task_id:
                left.append((before, wanted.uid))
            self._register(wanted, nodes, changes)
        for task, uid in left:  # after the additions: another Task resource may want the same task now
            self._leave(task, uid, changes)
        for uid in self._task_of.keys() - stated.keys():
            self._ends.setdefault(uid, now + self._grace)
        return changes

    def expire(self, *, now: float) -> TaskChanges:
        changes = TaskChanges()
        for uid in [uid for uid, end in self._ends.items() if end <= now]:
            del self._ends[uid]
            self._leave(self._tasks[self._task_of.pop(uid)], uid, changes)
        for task in self:
            if task.lease is not None and task.lease.until <= now:
                self._end_lease(task, changes)
        return changes

    def lease(self, name: str, lease: Lease) -> TaskChanges:
        """Put a lease on a task. If the task has a lease that ends later, the new lease ends as late.

        Raises :class:`ValueError` for an invalid task ID.
        """
        key = task_id.parse(name)
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = Task(key, Copy(key))
        before = task.lease
        if lease == before:  # the usual case: another client requests the same file
            self.renew(key, until=lease.until)
            return TaskChanges()
        task.lease = lease if before is None else replace(lease, until=max(lease.until, before.until))
        return TaskChanges(tasks={task.id})

    def refuse(self, name: str, namespace: str, refusal: Refusal, changes: TaskChanges) -> None:
        """Ignore the Task resources of a namespace that want a task, because of its quotas."""
        self._retenant(self._tasks[name], lambda task: task.refuse(namespace, refusal), changes)

    def admit(self, name: str, namespace: str, changes: TaskChanges) -> None:
        """Undo :meth:`refuse`."""
        self._retenant(self._tasks[name], lambda task: task.admit(namespace), changes)

    def _retenant(self, task: Task, change: Callable[[Task], None], changes: TaskChanges) -> None:
        before = task.peers
        change(task)
        self._recipients.move(task.id, before, task.peers)
        changes.tasks.add(task.id)
        changes.concern(before | task.peers)  # including nodes that now get the file at fewer paths

    def renew(self, name: str, *, until: float) -> None:
        """Extend a task's lease, if by a second or more. Does nothing for a task without a lease."""
        task = self._tasks.get(name)
        if task is not None and task.lease is not None and until - task.lease.until >= _GRAIN:
            task.lease = replace(task.lease, until=until)

    def end_lease(self, name: str, *, keep: bool = False) -> TaskChanges:
        """End a task's lease. If nothing else wants the task, its copy stays as a cache (``keep``) or is deleted."""
        task, changes = self._tasks.get(name), TaskChanges()
        if task is not None and task.lease is not None:
            self._end_lease(task, changes)
            if not keep:
                changes.deleted, changes.retired = changes.retired, set()
        return changes

    def _end_lease(self, task: Task, changes: TaskChanges) -> None:
        keepers = task.keepers
        changes.peers |= keepers
        task.lease, task.keepers = None, set()
        task.fetchers.clear()
        self._recipients.release(task.id, keepers)
        self._conclude(task, changes.retired, changes)

    def _register(self, wanted: WantedTask, nodes: frozenset[str], changes: TaskChanges) -> None:
        task = self._tasks.get(wanted.task_id)
        if task is None:
            name = TaskID(wanted.task_id)
            task = self._tasks[name] = Task(name, Copy(name))
        if task.find(wanted.uid) == wanted:
            return
        former, before = task.nodes(wanted.uid), task.peers
        task.want(wanted, nodes)
        self._recipients.move(task.id, before, task.peers)
        self._task_of[wanted.uid] = task.id
        changes.tasks.add(task.id)
        changes.concern(former)
        changes.concern(nodes)

    def _leave(self, task: Task, uid: str, changes: TaskChanges) -> None:
        before = task.peers
        former = task.unwant(uid)
        self._recipients.move(task.id, before, task.peers)
        changes.dropped.add(uid)
        changes.concern(former)
        self._conclude(task, changes.retired if self._keep else changes.deleted, changes)

    def _conclude(self, task: Task, ended: set[TaskID], changes: TaskChanges) -> None:
        """Add a changed task to ``changes``, or if no resource or lease wants it, remove it and add it to ``ended``."""
        if task.wanted or task.refused or task.lease is not None:
            changes.tasks.add(task.id)
        else:
            del self._tasks[task.id]
            changes.tasks.discard(task.id)
            ended.add(task.id)
