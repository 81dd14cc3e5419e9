"""Which peer shall hold which tasks, and takes part in which swarms."""

from __future__ import annotations

from pantala_protocol.sync import Assignment
from pantala_supernode.replicas.membership import ReplicaSet
from pantala_supernode.swarm.download import DfgetTaskStatus
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.sync.session import PeerSession
from pantala_supernode.tasks.task import Task


class AssignmentTable:
    """Keeps the peers' assignments and their part in the swarms in step with what is wanted. Pure."""

    def __init__(self, managers: Managers, members: ReplicaSet) -> None:
        self._members = members
        self._tasks = managers.tasks
        self._dfget_tasks = managers.dfget_tasks
        self._peers = managers.peers
        self._progress = managers.progress

    def assign(self, session: PeerSession) -> bool:
        """Say anew what a peer shall hold, and let it take part in just that. Returns whether it changed.

        Before the first statement nothing is known to be unwanted, and before a peer's first inventory not what it
        keeps for others, so nothing is said.
        """
        if not self._tasks.revision or (session.told is None and not session.inventoried):
            return False
        tasks = sorted(self._tasks.assigned_to(session.peer), key=lambda task: (-task.priority, task.id))
        wanted = {task.id for task in tasks}
        for task_id in self._progress.tasks_of(session.peer) - wanted:
            self._progress.forget_progress(task_id, session.peer)
        for task_id in session.holdings.keys() - wanted:
            del session.holdings[task_id]  # the peer drops it, and may be given it anew
        for download in self._dfget_tasks.list(session.peer):
            if download.task_id not in wanted:
                self._dfget_tasks.delete(session.peer, download.task_id)
        for task in tasks:
            self._enrol(session, task)
        session.open_tasks = {task.id: None for task in tasks if task.id in session.open_tasks}
        told: tuple[Assignment, ...] = tuple(task.assignment(session.peer) for task in tasks)
        if (told, self._members.membership) == (session.told, session.membership):
            return False
        session.told, session.membership = told, self._members.membership
        session.revision += 1
        return True

    def take_inventory(self, session: PeerSession) -> None:
        """A peer told anew what it holds: what was known of it is void."""
        session.open_tasks.clear()
        for task_id in self._progress.tasks_of(session.peer):
            self._progress.forget_progress(task_id, session.peer)
        self._dfget_tasks.delete_client(session.peer)
        self.assign(session)

    def note_completion(self, session: PeerSession, task: Task) -> None:
        """Close a task for a peer that lacks nothing of it; open it for one that does."""
        have = self._progress.pieces_by_cid(task.id, session.peer)
        if task.complete and have & task.copy.cached == task.copy.cached:
            session.open_tasks.pop(task.id, None)
            self._dfget_tasks.update_status(session.peer, task.id, DfgetTaskStatus.SUCCESS)
        else:
            session.open_tasks.setdefault(task.id, None)
            self._dfget_tasks.update_status(session.peer, task.id, DfgetTaskStatus.RUNNING)

    def takes_part(self, peer: str, task_id: str) -> bool:
        """Whether a peer is a client of a task's swarm."""
        swarm = self._progress.tasks.get(task_id)
        return swarm is not None and peer in swarm.peers

    def _enrol(self, session: PeerSession, task: Task) -> None:
        self._dfget_tasks.add(session.peer, task.id)
        if not task.copy.generation or not session.inventoried:
            session.open_tasks.pop(task.id, None)  # no part in its swarm, so no work of it
            return
        if not self.takes_part(session.peer, task.id):
            self._progress.init_task(task.id).copy = task.copy
            generation, pieces = session.holdings.get(task.id, ("", 0))
            have = pieces & task.possible if generation == task.copy.generation else 0
            peer = self._peers.get(session.peer)
            self._progress.init_progress(task.id, session.peer, have, zone=peer.zone if peer is not None else "")
        self.note_completion(session, task)
        if session.peer in task.keepers and not task.runs_on(session.peer):
            session.open_tasks.pop(task.id, None)  # it keeps what it has
