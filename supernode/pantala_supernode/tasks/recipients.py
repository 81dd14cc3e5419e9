"""Which tasks each peer receives. Pure.

Many tasks have the same nodes. So the index has one entry for each distinct set of nodes, and the tasks share the set.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Set

import msgspec

from pantala_protocol.statement import WantedTask
from pantala_protocol.task_id import TaskID


class RecipientIndex:
    """The tasks by set of nodes, and the leased tasks that each peer keeps."""

    def __init__(self) -> None:
        self._sets: dict[tuple[str, ...], tuple[tuple[str, ...], frozenset[str]]] = {}
        """The nodes of the last statement's tasks: each distinct tuple, also as a set."""
        self._assigned: dict[frozenset[str], set[TaskID]] = {}
        self._kept: defaultdict[str, set[TaskID]] = defaultdict(set)

    def share(self, tasks: Iterable[WantedTask]) -> Iterator[tuple[WantedTask, frozenset[str]]]:
        """The tasks of a new statement, and the nodes of each.

        Tasks with the same nodes, also in the last statement, share one tuple and one set.
        """
        former, self._sets = self._sets, {}
        known: dict[int, tuple[tuple[str, ...], frozenset[str]]] = {}
        for task in tasks:
            shared = known.get(id(task.peers))  # to hash a thousand names takes longer than all else
            if shared is None:
                shared = former.get(task.peers) or (task.peers, frozenset(task.peers))
                shared = known[id(task.peers)] = self._sets.setdefault(shared[0], shared)
            peers, nodes = shared
            yield task if peers is task.peers else msgspec.structs.replace(task, peers=peers), nodes

    def move(self, task_id: TaskID, before: frozenset[str], after: frozenset[str]) -> None:
        """Record that a task is assigned to the nodes ``after`` instead of ``before``."""
        if before == after:
            return
        if before:
            tasks = self._assigned[before]
            tasks.discard(task_id)
            if not tasks:
                del self._assigned[before]
        if after:
            self._assigned.setdefault(after, set()).add(task_id)

    def keep(self, task_id: TaskID, peer: str) -> None:
        self._kept[peer].add(task_id)

    def release(self, task_id: TaskID, peers: Set[str]) -> None:
        """Record that ``peers`` no longer keep a task."""
        for peer in peers & self._kept.keys():
            self._kept[peer].discard(task_id)
            if not self._kept[peer]:
                del self._kept[peer]

    def tasks_of(self, peer: str) -> set[TaskID]:
        """The tasks that a peer receives by a Task resource or by a lease."""
        assigned = (tasks for nodes, tasks in self._assigned.items() if peer in nodes)
        return self.kept_by(peer).union(*assigned)

    def kept_by(self, peer: str) -> set[TaskID]:
        """The leased tasks that a peer keeps."""
        return set(self._kept.get(peer, ()))
