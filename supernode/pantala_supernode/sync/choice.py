"""Chooses the tasks whose pieces a peer gets next. Pure."""

from collections import deque
from collections.abc import Iterator
from itertools import chain, groupby

from pantala_protocol.geometry import SMALL_FILE
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.sync.session import PeerSession
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.task import Task


def by_importance(session: PeerSession, tasks: TaskManager) -> Iterator[deque[str]]:
    """The peer's open tasks in groups of equal importance, the most important group first.

    Files that readers wait for are more important than all others. The tasks of a group take turns: the task that was
    given a piece last comes last.
    """

    def importance(name: str) -> tuple[bool, int]:
        task = tasks.get(name)
        return name in session.wants, task.priority if task is not None else 0

    names = sorted(session.open_tasks, key=session.open_tasks.__getitem__)
    names.sort(key=importance, reverse=True)
    return (deque(group) for _, group in groupby(names, key=importance))


class SmallFileChoice:
    """Chooses the small files that a peer gets now. Pure."""

    def __init__(self, tasks: TaskManager, progress: ProgressManager, policy: SchedulingPolicy) -> None:
        self._tasks = tasks
        self._progress = progress
        self._policy = policy

    def choose(self, session: PeerSession) -> Iterator[Task]:
        """The tasks whose file the peer gets now. Those that readers wait for come first.

        The number is limited, because the peer has the bytes in memory until it has stored them.
        """
        room = self._policy.most_carried - self._progress.carried(session.peer)
        left = self._policy.most_carried_bytes
        wanted = (name for name in session.wants if name in session.small_tasks)
        for name in chain(wanted, session.small_tasks):
            if room <= 0 or left < SMALL_FILE:
                return
            task = self._tasks.get(name)
            if task is not None and task.is_small and self._lacks(session.peer, name):
                room, left = room - 1, left - task.size(0)
                yield task

    def _lacks(self, peer: str, task_id: str) -> bool:
        swarm = self._progress.tasks.get(task_id)
        progress = swarm.peers.get(peer) if swarm is not None else None
        return progress is not None and not (progress.have | progress.given_mask) & 1
