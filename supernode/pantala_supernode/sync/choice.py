"""Chooses the tasks whose pieces a peer gets next. Pure."""

from collections import deque
from collections.abc import Iterator
from itertools import chain

from pantala_process.fair import Claim
from pantala_protocol.geometry import SMALL_FILE
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.scheduler import Urgent
from pantala_supernode.sync.session import PeerSession
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.tasks.shares import Shares
from pantala_supernode.tasks.task import Task

_SLACK = 8.0 * 1024 * 1024
"""The most bytes by which a tenant may be behind other tenants when it takes turns again."""


_REMEMBERED = 64
"""The most tenants without open tasks whose received bytes are kept."""


class TaskTurns:
    """The order in which a peer's open tasks get pieces, for one answer.

    Files that readers wait for come first. Then the tenants take turns by their shares. Within a tenant, tasks with a
    higher priority come first. Tasks with the same priority take turns: the task that last got a piece comes last.
    """

    def __init__(self, session: PeerSession, tasks: TaskManager, shares: Shares) -> None:
        self._session = session
        self._lanes: dict[Claim | None, list[tuple[int, deque[str]]]] = {}
        """The tasks of each tenant by priority, the highest first. ``None``: the tasks that readers wait for."""
        self._left = len(session.open_tasks)
        self._lane: Claim | None = None
        self._priority = 0
        self._group: deque[str] = deque()
        names = sorted(session.open_tasks, key=session.open_tasks.__getitem__)
        found = [(name, tasks.get(name)) for name in names]
        found.sort(key=lambda each: -each[1].priority if each[1] is not None else 0)
        for name, task in found:
            claim = None if name in session.wants else shares.claim_of(task.tenants if task is not None else ())
            priority = task.priority if task is not None else 0
            groups = self._lanes.setdefault(claim, [])
            if not groups or groups[-1][0] != priority:
                groups.append((priority, deque()))
            groups[-1][1].append(name)
        if len(session.received) > len(self._lanes) + _REMEMBERED:
            wanted = {claim.tenant for claim in self._lanes if claim is not None}
            session.received = {tenant: size for tenant, size in session.received.items() if tenant in wanted}

    def next(self) -> str | None:
        """Take the next task. ``None``: no task is left."""
        if not self._left:
            return None
        self._left -= 1
        self._lane = None if None in self._lanes else min(self._lanes, key=self._start)
        groups = self._lanes[self._lane]
        self._priority, self._group = groups[0]
        name = self._group.popleft()
        if not self._group:
            groups.pop(0)
        if not groups:
            del self._lanes[self._lane]
        return name

    @property
    def alone(self) -> bool:
        """True if no other task is left."""
        return not self._left

    def again(self, name: str, size: int) -> None:
        """Record that a task was given pieces of ``size`` bytes. It is now the last task of its priority."""
        session, lane = self._session, self._lane
        if lane is not None:
            start = self._start(lane)
            session.received_now = max(session.received_now, start)
            session.received[lane.tenant] = start + size / lane.share
        if self.alone:
            return
        groups = self._lanes.setdefault(lane, [])
        if not groups or groups[0][1] is not self._group:
            groups.insert(0, (self._priority, self._group))
        self._group.append(name)
        self._left += 1

    def _start(self, claim: Claim | None) -> float:
        """What the tenant has received, divided by its share. A tenant that had no open task begins near the others."""
        if claim is None:
            return 0.0
        return max(self._session.received.get(claim.tenant, 0.0), self._session.received_now - _SLACK)


class SmallFileChoice:
    """Chooses the small files that a peer gets now. Pure."""

    def __init__(self, tasks: TaskManager, progress: ProgressManager, policy: SchedulingPolicy) -> None:
        self._tasks = tasks
        self._progress = progress
        self._policy = policy

    def choose(self, session: PeerSession) -> Iterator[Task]:
        """The tasks whose file the peer gets now. Files that readers wait for come first.

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


def idle_blobs(session: PeerSession, progress: ProgressManager) -> list[str]:
    """The blobs that the peer's readers wait for, and of which the peer fetches no piece.

    Blobs whose readers have not received a byte come first, because a client waits briefly for the first byte.
    """
    found = []
    for name in session.wants:
        swarm = progress.tasks.get(name) if name in session.open_tasks else None
        peer = swarm.peers.get(session.peer) if swarm is not None else None
        if peer is not None and not peer.given:
            found.append(name)
    return sorted(found, key=lambda name: session.wants[name].position > 0)


def urgent(session: PeerSession, task: Task) -> Urgent | None:
    wanted, size = session.wants.get(task.id), task.copy.piece_size
    return Urgent(wanted.position // size, wanted.stalls > 0) if wanted is not None and size else None
