"""Giving work: pieces for one who asks, and for those who wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pantala_protocol.sync import Work
from pantala_protocol.task_id import TaskID
from pantala_supernode.peer import PeerManager
from pantala_supernode.progress import SUPERNODE, ProgressManager
from pantala_supernode.scheduler import SchedulerManager
from pantala_supernode.session import Session
from pantala_supernode.task import Task, TaskManager
from pantala_supernode.tickets import TicketOffice
from pantala_supernode.waiting import WaitingRoom


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the supernode itself serves pieces."""

    host: str
    port: int
    key: bytes


class Dispatcher:
    """Turns the scheduler's decisions into work. ``clock`` tells monotonic seconds, ``sha256`` a cached piece's."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        tasks: TaskManager,
        peers: PeerManager,
        progress: ProgressManager,
        scheduler: SchedulerManager,
        tickets: TicketOffice,
        sha256: Callable[[TaskID, int], bytes],
        clock: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self._tasks = tasks
        self._peers = peers
        self._progress = progress
        self._scheduler = scheduler
        self._tickets = tickets
        self._sha256 = sha256
        self._clock = clock

    def work(self, session: Session) -> tuple[Work, ...]:
        """Give pieces of the peer's tasks, those that matter most first, until its window is full."""
        work: list[Work] = []
        room = self._scheduler.room(session.peer)
        for task_id in list(session.open_tasks):
            if len(work) >= room:
                break
            work += self._work_of(session, task_id, room - len(work))
        return tuple(work)

    def _work_of(self, session: Session, task_id: str, room: int) -> list[Work]:
        task = self._tasks.get(task_id)
        now = self._clock()
        if task is None or room <= 0 or not task.runs_on(session.peer) or session.paused.get(task_id, 0.0) > now:
            return []
        decided = self._scheduler.schedule(task_id, session.peer, room=room, now=now)
        if decided:
            session.moved_at = now
        return [self._piece(task, info.piece, info.provider) for info in decided]

    def _piece(self, task: Task, piece: int, provider: str) -> Work:
        copy = task.copy
        server = self._peers.get(provider) if provider != SUPERNODE else None
        host, port, key = (
            (server.address, server.port, server.key)
            if server is not None
            else (self._endpoint.host, self._endpoint.port, self._endpoint.key)
        )
        return Work(
            task_id=task.id,
            generation=copy.generation,
            piece=piece,
            offset=piece * copy.piece_size,
            size=task.size(piece),
            sha256=self._sha256(task.id, piece).hex(),
            host=host,
            port=port,
            ticket=self._tickets.ticket(key, task.id, copy.generation),
            provider=provider,
        )

    def serve_waiting(self, task_id: str, waiting: WaitingRoom, sessions: Mapping[str, Session]) -> None:
        """Give waiting peers what has become possible, those with the fewest pieces first."""
        if task_id not in self._progress.tasks:
            return
        while names := waiting.waiting(task_id):
            for name in self._scheduler.next_in_line(task_id, names):
                work = self._work_of(sessions[name], task_id, self._scheduler.room(name))
                if work:
                    waiting.release(name, tuple(work))
                    break
            else:
                return

    def expire(self) -> None:
        """Forget what is not used any more."""
        self._tickets.expire()
