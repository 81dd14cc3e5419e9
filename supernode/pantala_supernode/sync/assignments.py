"""Decides which tasks each peer must hold, and in which swarms it takes part."""

from pantala_protocol.sync import Assignment
from pantala_supernode.replicas.membership import ReplicaSet
from pantala_supernode.swarm.download import DfgetTaskStatus
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.sync.session import PeerSession
from pantala_supernode.tasks.task import Task


class AssignmentTable:
    """Updates the assignments of peers, and their progress in swarms, when the desired tasks change. Pure."""

    def __init__(self, managers: Managers, replicas: ReplicaSet) -> None:
        self._replicas = replicas
        self._managers = managers

    def assign(self, session: PeerSession) -> bool:
        """Update a peer's assignments and its progress in swarms. Returns whether the assignments changed.

        Nothing changes before the first statement, because any task may still be wanted. The peer's first assignments
        also need its inventory, which shows which leased tasks it keeps.
        """
        if not self._managers.tasks.stated or (session.last_sent is None and not session.inventoried):
            return False
        tasks = sorted(self._managers.tasks.assigned_to(session.peer), key=lambda task: (-task.priority, task.id))
        wanted = {task.id for task in tasks}
        for task_id in self._managers.progress.tasks_of(session.peer) - wanted:
            self._managers.progress.forget_progress(task_id, session.peer)
        for task_id in session.holdings.keys() - wanted:
            del session.holdings[task_id]  # the peer drops its pieces too
        for download in self._managers.dfget_tasks.list(session.peer):
            if download.task_id not in wanted:
                self._managers.dfget_tasks.delete(session.peer, download.task_id)
        for task in tasks:
            self._enrol(session, task)
        opened, small = session.open_tasks, session.small_tasks
        session.open_tasks = {task.id: opened[task.id] for task in tasks if task.id in opened}
        session.small_tasks = {task.id: None for task in tasks if task.id in small}
        assignments: tuple[Assignment, ...] = tuple(task.assignment(session.peer) for task in tasks)
        if (assignments, self._replicas.membership) == (session.last_sent, session.membership):
            return False
        session.last_sent, session.membership = assignments, self._replicas.membership
        session.positions = {assignment.task_id: position for position, assignment in enumerate(assignments)}
        session.revision += 1
        return True

    def update(self, session: PeerSession, task: Task) -> bool:
        """Does what :meth:`assign` does, for one task that the peer is already assigned and whose copy changed."""
        position = session.positions.get(task.id)
        if session.last_sent is None or position is None:
            return False  # assign() adds the task in a later turn
        self._enrol(session, task)
        assignment = task.assignment(session.peer)
        if assignment == session.last_sent[position]:
            return False
        before = session.last_sent
        session.last_sent = (*before[:position], assignment, *before[position + 1 :])
        session.revision += 1
        return True

    def take_inventory(self, session: PeerSession) -> None:
        """Forget a peer's progress in all swarms, and begin again from the inventory that the peer has sent."""
        session.open_tasks.clear()
        session.small_tasks.clear()
        for task_id in self._managers.progress.tasks_of(session.peer):
            self._managers.progress.forget_progress(task_id, session.peer)
        self._managers.dfget_tasks.delete_client(session.peer)
        self.assign(session)

    def note_completion(self, session: PeerSession, task: Task) -> None:
        """Update the open tasks of a session: a task is open while the peer lacks pieces of it."""
        if task.is_whole(self._managers.progress.pieces_by_cid(task.id, session.peer)):
            session.close(task.id)
            self._managers.dfget_tasks.update_status(session.peer, task.id, DfgetTaskStatus.SUCCESS)
        else:
            session.open(task.id, small=task.is_small and session.path is None)
            self._managers.dfget_tasks.update_status(session.peer, task.id, DfgetTaskStatus.RUNNING)

    def takes_part(self, peer: str, task_id: str) -> bool:
        swarm = self._managers.progress.tasks.get(task_id)
        return swarm is not None and peer in swarm.peers

    def _enrol(self, session: PeerSession, task: Task) -> None:
        self._managers.dfget_tasks.add(session.peer, task.id)
        if not task.copy.generation or not session.inventoried:
            session.close(task.id)  # peers outside the swarm get no work
            return
        if not self.takes_part(session.peer, task.id):
            self._managers.progress.init_task(task.id).copy = task.copy
            generation, pieces = session.holdings.get(task.id, ("", 0))
            have = pieces & task.possible if generation == task.copy.generation else 0
            peer = self._managers.peers.get(session.peer)
            self._managers.progress.init_progress(
                task.id, session.peer, have, zone=peer.zone if peer is not None else ""
            )
        self.note_completion(session, task)
        if session.peer in task.keepers and not task.runs_on(session.peer):
            session.close(task.id)  # the peer keeps its pieces, but gets no more pieces
