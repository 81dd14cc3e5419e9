"""Applies the quotas of namespaces to tasks. Pure.

A Task resource is refused if a quota of its namespace does not allow the file. Then the namespace is not charged, its
nodes do not get the file, and its report names the quota. Other namespaces that want the same file are not affected. If
all namespaces are refused, reading stops and the copy is deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Set
from contextlib import suppress

from pantala_protocol.reasons import Reason
from pantala_protocol.rules.quotas import Quotas
from pantala_protocol.statement import Failure
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import QuotaExceededError
from pantala_supernode.tasks.accounts import UNLIMITED, Accounts
from pantala_supernode.tasks.copy import Copy
from pantala_supernode.tasks.manager import TaskChanges, TaskManager
from pantala_supernode.tasks.task import Refusal, Task

AHEAD = 24 * 1024 * 1024
"""The bytes to reserve for a body of unknown length. A connection is never further ahead of its reader."""
_MARGIN = 64 * 1024
"""The most bytes that a connection receives after the position at which it should stop."""


class Tenancy:
    """Applies the quotas of namespaces. ``changed`` is called after Task resources were refused or admitted."""

    def __init__(self, tasks: TaskManager, quotas: Quotas, changed: Callable[[TaskChanges], object]) -> None:
        self.accounts = Accounts(quotas.of)
        self._tasks = tasks
        self._limited = bool(quotas)
        self._changed = changed
        self._sizes: Counter[str] = Counter()
        """The bytes with which each copy is charged."""
        self._charged: dict[str, set[str]] = {}
        """The namespaces that are charged for each copy."""
        self._refused: set[TaskID] = set()

    def budget(self, task_id: TaskID) -> ReadBudget:
        """The budget for one try to complete a copy."""
        return ReadBudget(self if self._limited else None, task_id)

    def settle(self, changes: TaskChanges) -> None:
        """Charge the namespaces that want a changed task, and release all others. Adds refusals to ``changes``."""
        if not self._limited:
            return
        for task_id in changes.tasks | changes.deleted | changes.retired:
            task = self._tasks.get(task_id)
            wanting = frozenset[str]() if task is None else task.namespaces
            for namespace in self._charged.get(task_id, set()) - wanting:
                self._release(task_id, namespace)
            if task is None:
                self._sizes.pop(task_id, None)
                self._refused.discard(task_id)
                continue
            size = max(self._sizes[task_id], copy_size(task.copy))
            for namespace in wanting - self._charged.get(task_id, set()):
                self._charge(task, namespace, size, changes)

    def on_copy(self, task: Task) -> None:
        """Charge a copy that is larger than its charge, for example after a restart."""
        size = copy_size(task.copy)
        if self._limited and size > self._sizes[task.id]:
            with suppress(QuotaExceededError):
                self.grow(task.id, size, size)

    def tick(self, day: int) -> None:
        """Begin the day, and admit refused namespaces that have room again."""
        self.accounts.begin_day(day)
        changes = TaskChanges()
        for task_id in sorted(self._refused):
            task = self._tasks.get(task_id)
            if task is not None:
                for namespace in sorted(task.refusals):
                    self._reconsider(task, namespace, task.refusals[namespace], changes)
            if task is None or not task.refusals:
                self._refused.discard(task_id)
        if changes.tasks:
            self._changed(changes)

    def _reconsider(self, task: Task, namespace: str, refusal: Refusal, changes: TaskChanges) -> None:
        """Admit a namespace if its quotas now allow the file. For a complete copy, the exact size is known."""
        size, reads = (copy_size(task.copy), 0) if task.complete else (refusal.size, refusal.reads)
        account = self.accounts.of(namespace)
        if account.left >= reads and account.charge(task.id, size):
            self._charged.setdefault(task.id, set()).add(namespace)
            self._sizes[task.id] = max(self._sizes[task.id], size)
            self._tasks.admit(task.id, namespace, changes)

    def grow(self, task_id: TaskID, least: int, wanted: int) -> int:
        """Charge a copy that grows to ``wanted`` bytes. Returns how many bytes it may have: at least ``least``.

        Namespaces whose quota does not allow this size are refused. Raises :class:`QuotaExceededError` if all are.
        """
        task = self._tasks.get(task_id)
        if task is None or not task.wanted:
            return self._unless_refused(task, wanted)
        rooms = {namespace: self.accounts.of(namespace).room(task_id) for namespace in task.namespaces}
        granted = wanted if task.leased else min(wanted, max(rooms.values()))
        changes, granted = TaskChanges(), max(granted, least)
        self._sizes[task_id] = max(self._sizes[task_id], granted)
        for namespace in sorted(rooms):
            self._charge(task, namespace, granted, changes)
        return self._concluded(task, changes, granted)

    def reserve(self, task_id: TaskID, least: int, wanted: int) -> tuple[int, Set[str]]:
        """Reserve ``wanted`` bytes to read, or at least ``least``. Returns how many bytes, and the charged namespaces.

        Refuses and raises as :meth:`grow` does.
        """
        task = self._tasks.get(task_id)
        if task is None or not task.wanted:
            return self._unless_refused(task, wanted), frozenset()
        left = {namespace: self.accounts.of(namespace).left for namespace in task.namespaces}
        granted = wanted if task.leased else max(min(wanted, max(left.values())), least)
        changes = TaskChanges()
        for namespace in sorted(left):
            account = self.accounts.of(namespace)
            if not account.reserve(granted):
                what = f"may read {account.quota.daily} bytes a day from origins, and {left[namespace]} are left today"
                self._refuse(task, namespace, f"{what}. The file needs {granted} bytes", changes, reads=granted)
        return self._concluded(task, changes, granted), task.namespaces

    def resize(self, task_id: TaskID, size: int) -> None:
        """Charge a copy with its size after a try to complete it."""
        self._sizes[task_id] = size
        for namespace in self._charged.get(task_id, ()):
            self.accounts.of(namespace).charge(task_id, size)

    def _charge(self, task: Task, namespace: str, size: int, changes: TaskChanges) -> None:
        account = self.accounts.of(namespace)
        if account.charge(task.id, size):
            self._charged.setdefault(task.id, set()).add(namespace)
            return
        what = f"may keep {account.quota.bytes} bytes on a supernode, and {account.room(task.id)} of them are free"
        self._refuse(task, namespace, f"{what}. The file needs {size} bytes", changes, size=size)

    def _refuse(
        self, task: Task, namespace: str, what: str, changes: TaskChanges, *, size: int = 0, reads: int = 0
    ) -> None:
        message = QuotaExceededError.with_action(f"The namespace {namespace} {what}")
        failure = Failure(Reason.QUOTA_EXCEEDED, str(message), final=True)
        self._release(task.id, namespace)
        self._tasks.refuse(task.id, namespace, Refusal(failure, max(size, self._sizes[task.id]), reads), changes)
        self._refused.add(task.id)

    def _release(self, task_id: str, namespace: str) -> None:
        self.accounts.of(namespace).release(task_id)
        charged = self._charged.get(task_id, set())
        charged.discard(namespace)
        if not charged:
            self._charged.pop(task_id, None)

    def _concluded(self, task: Task, changes: TaskChanges, granted: int) -> int:
        if changes.tasks:
            self._changed(changes)
        return granted if task.wanted or task.leased else self._unless_refused(task, granted)

    @staticmethod
    def _unless_refused(task: Task | None, granted: int) -> int:
        if task is not None and task.refusals and not task.leased:
            raise QuotaExceededError(next(iter(task.refusals.values())).failure.message)
        return granted


class ReadBudget:
    """The quotas for one try to complete a copy. Without ``tenancy``, nothing is limited."""

    def __init__(self, tenancy: Tenancy | None, task_id: TaskID) -> None:
        self._tenancy = tenancy
        self._task_id = task_id
        self._received = 0
        self._reserved = 0
        self._expected = False
        self._by: Counter[str] = Counter()

    def claim(self, length: int) -> None:
        """Charge the whole copy, whose length is known. Raises :class:`QuotaExceededError`."""
        self._expected = False
        if self._tenancy is not None:
            self._tenancy.grow(self._task_id, length, length)

    def expect(self, missing: int) -> None:
        """Reserve the missing bytes of the copy, once for all connections. Raises :class:`QuotaExceededError`."""
        if not self._expected:
            self._ensure(self._received + missing, self._received + missing)
            self._expected = True

    def count(self, received: int) -> None:
        """Count bytes that have arrived. Bytes that arrive twice may exceed the expected number."""
        self._received += received
        self._ensure(self._received, self._received)

    def extend(self, offset: int, arrived: int) -> int:
        """How many bytes of a body of unknown length may arrive. ``arrived``: the bytes that have already arrived.

        ``offset``: the position of the body in the file. Raises :class:`QuotaExceededError` if no more may arrive.
        """
        if self._tenancy is None:
            return UNLIMITED
        position = offset + arrived
        size = self._tenancy.grow(self._task_id, position + 2 * _MARGIN, position + AHEAD)
        self._ensure(self._received + 2 * _MARGIN, self._received + AHEAD)
        return min(size - offset, arrived + self._reserved - self._received) - _MARGIN

    def close(self, size: int) -> None:
        """End the try with a copy of ``size`` bytes. Reserved bytes that did not arrive are given back."""
        if self._tenancy is None:
            return
        unread = self._reserved - self._received
        for namespace, count in self._by.items():
            self._tenancy.accounts.of(namespace).give_back(max(0, min(unread, count)))
        self._by.clear()
        self._reserved = self._received
        self._tenancy.resize(self._task_id, size)

    def _ensure(self, least: int, wanted: int) -> None:
        if self._tenancy is None or wanted <= self._reserved:
            return
        more, namespaces = self._tenancy.reserve(self._task_id, max(0, least - self._reserved), wanted - self._reserved)
        self._reserved += more
        self._by.update(dict.fromkeys(namespaces, more))


def copy_size(copy: Copy) -> int:
    """The bytes of a copy on the volume. The room for a file of known length is reserved from the start."""
    return copy.length if copy.length is not None else copy.cached.bit_count() * copy.piece_size
