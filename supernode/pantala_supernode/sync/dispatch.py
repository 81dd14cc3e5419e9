"""Giving work: pieces for one who asks and for those who wait; and taking note of what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pantala_pieces.errors import PieceMissingError
from pantala_protocol import ticket
from pantala_protocol.sync import PieceFailure, Work
from pantala_protocol.task_id import TaskID
from pantala_protocol.wrapping import Wrapping
from pantala_supernode.swarm.scheduler import Managers, Urgent
from pantala_supernode.swarm.task_progress import SUPERNODE
from pantala_supernode.sync.assignments import AssignmentTable
from pantala_supernode.sync.feed import ChangeFeed
from pantala_supernode.sync.session import HeldExchanges, PeerSession
from pantala_supernode.tasks.task import Task

_LOCAL_PAUSE = 5.0
"""Seconds that a peer whose own disk failed gets no piece of that task."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the supernode itself serves pieces."""

    host: str
    port: int
    key: bytes


class Dispatcher:
    """Turns the scheduler's decisions into work, for all clients that have a session.

    ``sha256`` tells a cached piece's digest, ``on_accused`` is told that a piece of ours is said to be wrong or
    missing, ``clock`` tells monotonic seconds.
    """

    def __init__(
        self,
        managers: Managers,
        roster: AssignmentTable,
        reports: ChangeFeed,
        *,
        endpoint: Endpoint,
        tickets: TicketCache,
        sha256: Callable[[TaskID, int], bytes],
        on_accused: Callable[[TaskID, int], None],
        clock: Callable[[], float],
    ) -> None:
        self.sessions: dict[str, PeerSession] = {}
        self.waiting = HeldExchanges()
        self._managers = managers
        self._roster = roster
        self._reports = reports
        self._endpoint = endpoint
        self._tickets = tickets
        self._sha256 = sha256
        self._on_accused = on_accused
        self._clock = clock

    def work(self, session: PeerSession) -> tuple[Work, ...]:
        """Give pieces of the client's tasks, those that matter most first, until its window is full."""
        room = self._managers.scheduler.room(session.peer)
        work = self._firsts(session, room)
        for task_id in sorted(
            session.open_tasks, key=lambda name: name not in session.wants
        ):  # containers wait for those
            if len(work) >= room:
                break
            work += self._work_of(session, task_id, room - len(work))
        return tuple(work)

    def serve_waiting(self, task_id: str, provider: str | None = None) -> None:
        """Give those who wait what has become possible, those with the fewest pieces first.

        ``provider``: because that one has got room, or a piece; only those are looked at who can take it.
        """
        if task_id not in self._managers.progress.tasks:
            return
        while self._serve_one(task_id, provider):
            pass

    def serve_all_waiting(self, provider: str | None = None) -> None:
        """Serve those who wait for any task."""
        for task_id in self.waiting.tasks():
            self.serve_waiting(task_id, provider)

    def given(self, session: PeerSession, task: Task) -> tuple[tuple[int, str], ...]:
        """What a client was given of a task and has not reported: pieces and their providers."""
        return tuple(self._managers.progress.tasks[task.id].peers[session.peer].given.items())

    def piece(self, task: Task, piece: int, provider: str) -> Work:
        """How a piece is had from a provider. Raises :class:`PieceMissingError` if it is not cached any more."""
        copy = task.copy
        server = self._managers.peers.get(provider) if provider != SUPERNODE else None
        host, port, key = (
            (server.address, server.port, server.key)
            if server is not None
            else (self._endpoint.host, self._endpoint.port, self._endpoint.key)
        )
        session = self.sessions.get(provider)
        path = session.path or "" if session is not None else ""
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
            path=path,
            wire_size=Wrapping(copy.piece_size).wire_size if path else 0,
        )

    def succeeded(self, session: PeerSession, task: Task, pieces: int, *, serves: bool = True) -> None:
        """A client verified pieces (bit mask) of the task's content; ``serves``: others may take them from it."""
        session.moved_at = now = self._clock()
        providers = self._managers.progress.succeed(
            task.id, session.peer, pieces & task.possible, task.size, serves=serves
        )
        if providers is None:
            return
        self._managers.scheduler.served(session.peer, providers, now=now)
        self._roster.note_completion(session, task)
        self._reports.touch_task(task.id)
        peers = dict.fromkeys((session.peer, *providers))
        peers.pop(SUPERNODE, None)
        for provider in (*peers, SUPERNODE):  # what peers can give, it need not
            self.serve_waiting(task.id, provider)
        if SUPERNODE in providers:  # it serves all tasks: its room may be another's
            self.serve_all_waiting(SUPERNODE)

    def failed(self, session: PeerSession, failure: PieceFailure) -> None:
        """A client could not have a piece."""
        task_id, now = failure.task_id, self._clock()
        if not self._roster.takes_part(session.peer, task_id):
            return
        session.moved_at = now
        own, corrupt = failure.kind == "local", failure.kind == "corrupt"
        provider = self._managers.progress.fail(task_id, session.peer, failure.piece, blame=not own)
        if provider is None:
            return
        if own:
            session.paused[task_id] = now + _LOCAL_PAUSE
        elif provider != SUPERNODE:
            self._managers.scheduler.failed(session.peer, provider, corrupt=corrupt, now=now)
            if failure.kind == "missing":
                self._lost(provider, task_id, failure.piece)
        elif corrupt or failure.kind == "missing":
            self._on_accused(TaskID(task_id), failure.piece)
        self.serve_waiting(task_id)

    def stalled(self, session: PeerSession, task: Task, position: int) -> None:
        """The byte at ``position``, which a client waits for, does not come: its piece is free again."""
        if task.copy.piece_size and self._roster.takes_part(session.peer, task.id):
            piece = position // task.copy.piece_size
            provider = self._managers.progress.tasks[task.id].peers[session.peer].given.get(piece)
            if provider is not None:
                self.failed(session, PieceFailure(task.id, piece, provider, "stalled"))

    def release(self, session: PeerSession) -> None:
        """What a client was given is free again."""
        for task_id in self._managers.progress.release(session.peer):
            self._reports.touch_task(task_id)
            self.serve_waiting(task_id)

    def forget(self, session: PeerSession) -> None:
        """A client is gone, and all that was known of it."""
        managers = self._managers
        concerned = managers.progress.tasks_of(session.peer)
        self.waiting.supersede(session.peer)
        managers.progress.forget_peer(session.peer)
        managers.dfget_tasks.delete_client(session.peer)
        managers.scheduler.forget(session.peer)
        if managers.peers.get(session.peer) is not None:
            managers.peers.deregister(session.peer)
        self.sessions.pop(session.peer, None)
        for task_id in concerned:
            self._take_back(task_id, session.peer)
            self._reports.touch_task(task_id)
            self.serve_waiting(task_id)
        if session.path is None:
            self._reports.touch_peer(session.peer)

    def _take_back(self, task_id: str, provider: str) -> None:
        """Free what Dragonfly's clients were to take from one who is gone: until they report it they are told the same.

        Our own peers notice by themselves, and say so.
        """
        progress = self._managers.progress
        for name, client in progress.tasks[task_id].peers.items():
            session = self.sessions.get(name)
            if session is not None and session.path is not None:
                for piece in [piece for piece, giver in client.given.items() if giver == provider]:
                    progress.fail(task_id, name, piece, blame=False)

    def expire(self) -> None:
        """Forget what time made void, and serve whom that allows to be served."""
        self._managers.scheduler.expire(self._clock())
        self._tickets.expire()
        self.serve_all_waiting()

    def _serve_one(self, task_id: str, provider: str | None) -> bool:
        """Give one who waits for pieces of a task some, if anybody of a sample can have any."""
        scheduler, now = self._managers.scheduler, self._clock()
        waiting = self.waiting.waiting(task_id)
        for name in scheduler.next_in_line(task_id, waiting, now=now, provider=provider) if waiting else ():
            if not self.waiting.listens(name):
                continue
            session, room = self.sessions[name], scheduler.room(name)
            work = self._firsts(session, room) or self._work_of(session, task_id, room, provider)
            if work:
                self.waiting.release(name, tuple(work))
                return True
        return False

    def _firsts(self, session: PeerSession, room: int) -> list[Work]:
        """A piece of each blob that a container waits for and of which none is on its way: no blob waits for another.

        Those come first of which nothing was read yet: whoever waits for the first byte does not do so for long.
        """
        swarms, peer = self._managers.progress.tasks, session.peer
        idle = [
            name
            for name in session.wants
            if name in session.open_tasks and self._roster.takes_part(peer, name) and not swarms[name].peers[peer].given
        ]
        work: list[Work] = []
        for name in sorted(idle, key=lambda name: session.wants[name].position > 0):
            work += self._work_of(session, name, min(room - len(work), 1))
        return work

    def _work_of(self, session: PeerSession, task_id: str, room: int, provider: str | None = None) -> list[Work]:
        task = self._managers.tasks.get(task_id)
        now = self._clock()
        if task is None or room <= 0 or not task.runs_on(session.peer) or session.paused.get(task_id, 0.0) > now:
            return []
        decided = self._managers.scheduler.schedule(
            task_id, session.peer, room=room, now=now, provider=provider, urgent=_urgent(session, task)
        )
        if decided:
            session.moved_at = now
        work = []
        for info in decided:
            try:
                work.append(self.piece(task, info.piece, info.provider))
            except PieceMissingError:  # it went bad a moment ago, and the CDN is about to say so
                self._managers.progress.fail(task_id, session.peer, info.piece, blame=False)
        return work

    def _lost(self, provider: str, task_id: str, piece: int) -> None:
        """A provider does not have what it is said to have: ask it for all it has."""
        if self._roster.takes_part(provider, task_id):
            self._managers.progress.remove_pieces(task_id, provider, 1 << piece)
        other = self.sessions.get(provider)
        if other is not None:
            other.inventoried = False
            self.waiting.release(provider)


def _urgent(session: PeerSession, task: Task) -> Urgent | None:
    wanted, size = session.wants.get(task.id), task.copy.piece_size
    return Urgent(wanted.position // size, wanted.stalls > 0) if wanted is not None and size else None


_REUSED_FOR = ticket.LIFETIME / 2
"""Seconds: whoever gets a ticket has at least as long again to use it."""


class TicketCache:
    """Issues tickets; ``clock`` tells seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._issued: dict[tuple[bytes, str, str], tuple[float, str]] = {}

    def ticket(self, key: bytes, task_id: str, generation: str) -> str:
        """A ticket for one generation of a task at the server that has ``key``."""
        now = self._clock()
        issued_at, text = self._issued.get((key, task_id, generation), (0.0, ""))
        if not 0 <= now - issued_at < _REUSED_FOR:
            text = ticket.issue(key, task_id, generation, now=now)
            self._issued[key, task_id, generation] = (now, text)
        return text

    def expire(self) -> None:
        """Forget tickets that are not reused any more."""
        now = self._clock()
        self._issued = {who: what for who, what in self._issued.items() if 0 <= now - what[0] < _REUSED_FOR}
