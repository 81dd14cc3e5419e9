"""Gives work to peers, at once or when it becomes possible, and applies their reports about pieces."""

import asyncio
import itertools
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from pantala_pieces.errors import PieceMissingError
from pantala_pieces.transfer.upload.fetches import FetchState, PieceFetch
from pantala_process.tls import names
from pantala_protocol import ticket
from pantala_protocol.geometry import Wrapping
from pantala_protocol.sync import PieceFailure, PieceWork
from pantala_protocol.task_id import TaskID
from pantala_supernode.swarm.peer import SwarmPeer
from pantala_supernode.swarm.scheduler import Managers, PieceChoice
from pantala_supernode.swarm.task_progress import SUPERNODE
from pantala_supernode.sync.assignments import AssignmentTable
from pantala_supernode.sync.choice import SmallFileChoice, TaskTurns, idle_blobs, urgent
from pantala_supernode.sync.feed import ChangeFeed
from pantala_supernode.sync.session import HeldExchanges, PeerSession
from pantala_supernode.sync.tickets import Endpoint, TicketCache
from pantala_supernode.tasks.shares import Shares
from pantala_supernode.tasks.task import Task

_MOMENT = 0.25
"""Seconds between two checks for unused places."""

_LOCAL_PAUSE = 5.0
"""Seconds for which a peer gets no piece of a task, after its own disk failed to store a piece."""


class Dispatcher:
    """Turns the scheduler's decisions into work for peers and Dragonfly's clients.

    ``digest_of`` returns the digest of a cached piece. ``on_accused`` is called with a piece of this supernode that a
    peer reports as wrong or missing. ``timer`` measures each decision. ``clock`` returns monotonic seconds.
    """

    def __init__(
        self,
        managers: Managers,
        assignments: AssignmentTable,
        feed: ChangeFeed,
        *,
        endpoint: Endpoint,
        tickets: TicketCache,
        digest_of: Callable[[TaskID, int], bytes],
        on_accused: Callable[[TaskID, int], None],
        clock: Callable[[], float],
        timer: Callable[[], AbstractContextManager[object]] = nullcontext,
        shares: Shares | None = None,
    ) -> None:
        self.sessions: dict[str, PeerSession] = {}
        """The session of each connected peer or client, by its name."""
        self._readers: dict[str, PeerSession] = {}
        """The sessions by their mark (:attr:`PeerSession.reader`), which requests for pieces contain."""
        self._turns = itertools.count(1)
        self._places_taken = asyncio.Event()
        self._shares = shares or Shares()
        self.waiting = HeldExchanges()
        self._managers = managers
        self._progress = managers.progress
        self._scheduler = managers.scheduler
        self._small = SmallFileChoice(managers.tasks, managers.progress, managers.scheduler.policy)
        self._assignments = assignments
        self._feed = feed
        self._endpoint = endpoint
        self._tickets = tickets
        self._digest_of = digest_of
        self._on_accused = on_accused
        self._clock = clock
        self._timer = timer

    def work(self, session: PeerSession) -> tuple[PieceWork, ...]:
        """Give a peer as many pieces as it may get now. Blobs for which containers wait come first."""
        work = [*self._small_files(session), *self._first_pieces(session)]
        room = self._scheduler.room(session.peer)
        turns = TaskTurns(session, self._managers.tasks, self._shares) if room else None
        while turns is not None and room and (name := turns.next()) is not None:
            given = self._work_of(session, name, room if turns.alone else 1)
            work, room = work + given, room - len(given)
            if given:
                session.open_tasks[name] = next(self._turns)
                turns.again(name, sum(piece.size for piece in given))
        return tuple(work)

    def serve_waiting(self, task_id: str, provider: str | None = None) -> None:
        """Give pieces of a task to peers whose exchanges are held. Peers with the fewest pieces come first.

        With ``provider``, only to peers that can take a piece from this provider, which has room or a new piece.
        """
        if task_id not in self._progress.tasks or not self.waiting.waiting(task_id):
            return
        while self._serve_one(task_id, provider):
            pass

    def serve_all_waiting(self, provider: str | None = None) -> None:
        for task_id in self.waiting.tasks():
            self.serve_waiting(task_id, provider)

    def given(self, session: PeerSession, task: Task) -> tuple[tuple[int, str], ...]:
        return tuple(self._progress.tasks[task.id].peers[session.peer].given.items())

    def piece(self, session: PeerSession, task: Task, piece: int, provider: str) -> PieceWork:
        """The work for a piece from a provider. Raises :class:`PieceMissingError` if the piece is no longer cached."""
        copy = task.copy
        peer = self._managers.peers.get(provider) if provider != SUPERNODE else None
        server = peer if peer is not None else self._endpoint
        other = self.sessions.get(provider)
        path = other.path or "" if other is not None else ""
        client = names.of_peer(session.peer) if self._endpoint.name else ""
        ahead = (peer.ahead_seconds if peer is not None else None) or 0.0
        shown = self._tickets.ticket(server.key, task.id, copy.generation, client, ahead=ahead)
        return PieceWork(
            task_id=task.id,
            generation=copy.generation,
            piece=piece,
            offset=piece * copy.piece_size,
            size=task.size(piece),
            host=server.address,
            port=server.port,
            ticket=ticket.for_reader(shown, session.reader) if provider == SUPERNODE else shown,
            provider=provider,
            certificate=self._endpoint.name if provider == SUPERNODE else "",
            path=path,
            wire_size=Wrapping(copy.piece_size).wire_size if path else 0,
            digest=self._digest_of(task.id, piece).hex(),
        )

    def succeeded(self, session: PeerSession, task: Task, pieces: int, *, serves: bool = True) -> None:
        """A peer has verified pieces (bit mask) of the current generation. ``serves``: others may take them from it."""
        session.last_moved = now = self._clock()
        self._scheduler.places.reported(task.id, session.peer, pieces, now=now)
        providers = self._progress.succeed(
            task.id, session.peer, pieces & task.possible, task.size, now=now, serves=serves
        )
        if providers is None:
            return
        self._scheduler.served(session.peer, providers, now=now)
        self._assignments.note_completion(session, task)
        self._feed.touch_task(task.id)
        for provider in dict.fromkeys((session.peer, *providers)):
            if provider != SUPERNODE:
                self.serve_waiting(task.id, provider)
        if session.peer == self._progress.local_peer:  # after its answer, because it gets the next pieces first
            asyncio.get_running_loop().call_soon(self.serve_waiting, task.id, SUPERNODE)
            return
        self.serve_waiting(task.id, SUPERNODE)  # last, because it gives only pieces that no peer can give
        if SUPERNODE in providers:  # the supernode serves all tasks, so another task may use its room
            self.serve_all_waiting(SUPERNODE)

    def failed(self, session: PeerSession, failure: PieceFailure) -> None:
        task_id, now = failure.task_id, self._clock()
        if not self._assignments.takes_part(session.peer, task_id):
            return
        session.last_moved = now
        own, corrupt = failure.kind == "local", failure.kind == "corrupt"
        provider = self._progress.fail(task_id, session.peer, failure.piece, blame=not own)
        if provider is None:
            return
        self._progress.troubles.failed(session.peer, failure, provider, now=now)
        if own:
            session.paused[task_id] = now + _LOCAL_PAUSE
        elif provider != SUPERNODE:
            refused = failure.kind == "refused"
            self._scheduler.failed(session.peer, provider, corrupt=corrupt, refused=refused, now=now)
            if failure.kind == "missing":
                self._on_missing(provider, task_id, failure.piece)
        elif corrupt or failure.kind == "missing":
            self._on_accused(TaskID(task_id), failure.piece)
        self.serve_waiting(task_id)

    def stalled(self, session: PeerSession, task: Task, position: int) -> None:
        """A peer reports that the byte at ``position`` does not arrive. Take the piece back from its provider."""
        if task.copy.piece_size and self._assignments.takes_part(session.peer, task.id):
            piece = position // task.copy.piece_size
            provider = self._progress.tasks[task.id].peers[session.peer].given.get(piece)
            if provider is not None:
                self.failed(session, PieceFailure(task.id, piece, provider, "stalled"))

    def is_full(self, session: PeerSession) -> bool:
        """True if a peer can be given no work before it reports a piece."""
        return not (session.wants or session.small_tasks or self._scheduler.room(session.peer))

    def release(self, session: PeerSession) -> None:
        released = self._progress.release(session.peer)
        self.waiting.reopen(session)
        for task_id in released:
            self._feed.touch_task(task_id)
            self.serve_waiting(task_id)

    def add(self, session: PeerSession, peer: SwarmPeer) -> None:
        """Add a peer and its session. They replace those of a former process with the same name."""
        former = self.sessions.get(peer.name)
        if former is not None:
            self.forget(former)
        session.reader = secrets.token_hex(8)
        self.sessions[peer.name] = self._readers[session.reader] = session
        self._managers.peers.register(peer)

    def forget(self, session: PeerSession) -> None:
        concerned = self._progress.tasks_of(session.peer)
        self.waiting.supersede(session.peer)
        self._progress.forget_peer(session.peer)
        self._managers.dfget_tasks.delete_client(session.peer)
        self._scheduler.forget(session.peer)
        if self._managers.peers.get(session.peer) is not None:
            self._managers.peers.deregister(session.peer)
        self.sessions.pop(session.peer, None)
        self._readers.pop(session.reader, None)
        for task_id in concerned:
            self._take_back(task_id, session.peer)
            self._feed.touch_task(task_id)
            self.serve_waiting(task_id)
        if session.path is None:
            self._feed.touch_peer(session.peer)

    def _take_back(self, task_id: str, provider: str) -> None:
        """Free the pieces that Dragonfly's clients should take from a removed provider.

        Without this, the clients would get the same provider again in each answer until they report the piece.
        Pantala's peers notice the failure and report it.
        """
        for name, progress in self._progress.tasks[task_id].peers.items():
            session = self.sessions.get(name)
            if session is not None and session.path is not None:
                for piece in [piece for piece, source in progress.given.items() if source == provider]:
                    self._progress.fail(task_id, name, piece, blame=False)

    def on_fetch(self, fetch: PieceFetch, state: FetchState) -> None:
        """Record that a peer begins or ends the fetch of a piece from this supernode."""
        session, now = self._readers.get(fetch.reader), self._clock()
        if session is None:
            return
        part = (fetch.task_id, session.peer, fetch.piece)
        if state is FetchState.BEGUN:
            self._places_taken.set()
            self._scheduler.places.begun(*part, now=now)
        else:
            self._scheduler.places.ended(*part, whole=state is FetchState.SENT, now=now)

    async def watch_places(self) -> None:
        """Free unused places a few times a second until cancelled. Sleep while no peer has a place."""
        while True:
            await self._places_taken.wait()
            await asyncio.sleep(_MOMENT)
            self.free_places()
            if self._scheduler.places.empty:
                self._places_taken.clear()

    def free_places(self) -> None:
        """Free the places that are not used, and give them to waiting peers."""
        lapsed = self._scheduler.places.expire(self._clock())
        for task_id in lapsed:
            self.serve_waiting(task_id)
        if lapsed:  # the supernode serves all tasks, so another task may use its room
            self.serve_all_waiting(SUPERNODE)

    def expire(self) -> None:
        now = self._clock()
        self._scheduler.expire(now)
        self._progress.expire(now)
        self._tickets.expire()
        self.serve_all_waiting()

    def _serve_one(self, task_id: str, provider: str | None) -> bool:
        """Give pieces to one peer of a random sample of the peers that wait for a task. False: no peer took a piece."""
        now, waiting = self._clock(), self.waiting.waiting(task_id)
        for name in self._scheduler.next_in_line(task_id, waiting, now=now, provider=provider) if waiting else ():
            if not self.waiting.listens(name):
                continue
            session, room = self.sessions[name], self._scheduler.room(name)
            work = self._small_files(session) or self._first_pieces(session)
            work = work or self._work_of(session, task_id, room, provider)
            if work:
                self.waiting.release(name, tuple(work))
                return True
        return False

    def _small_files(self, session: PeerSession) -> list[PieceWork]:
        """The work for small files. It contains their bytes, so they need no room, and no place at a provider."""
        work: list[PieceWork] = []
        for task in self._small.choose(session) if session.small_tasks else ():
            if self._may_get(session, task):
                self._progress.give(task.id, session.peer, 0, SUPERNODE, carried=True)
                work += self._works(session, task, [PieceChoice(0, SUPERNODE)])
        return work

    def _first_pieces(self, session: PeerSession) -> list[PieceWork]:
        """One piece of each blob that a container waits for, and of which no piece is being fetched.

        So no blob blocks another, and none waits for room behind the pieces of another file.
        """
        if not session.wants:
            return []
        room = self._scheduler.room(session.peer, urgent=True)
        work: list[PieceWork] = []
        for name in idle_blobs(session, self._progress):
            work += self._work_of(session, name, min(room - len(work), 1))
        return work

    def _work_of(self, session: PeerSession, task_id: str, room: int, provider: str | None = None) -> list[PieceWork]:
        task = self._managers.tasks.get(task_id)
        if task is None or room <= 0 or not self._may_get(session, task) or (session.path is None and task.is_small):
            return []
        now = self._clock()
        with self._timer():
            decided = self._scheduler.schedule(
                task_id, session.peer, room=room, now=now, provider=provider, urgent=urgent(session, task)
            )
        return self._works(session, task, decided)

    def _may_get(self, session: PeerSession, task: Task) -> bool:
        """True if a peer may get pieces. A task that is stated again after a drop has no swarm for a moment."""
        swarm = self._progress.tasks.get(task.id)
        if swarm is None or session.peer not in swarm.peers or swarm.copy.generation != task.copy.generation:
            return False
        return task.runs_on(session.peer) and session.paused.get(task.id, 0.0) <= self._clock()

    def _works(self, session: PeerSession, task: Task, decided: list[PieceChoice]) -> list[PieceWork]:
        if decided:
            session.last_moved = self._clock()
            self._places_taken.set()
        work = []
        for choice in decided:
            try:
                work.append(self.piece(session, task, choice.piece, choice.provider))
            except PieceMissingError:  # the piece was just found damaged
                self._progress.fail(task.id, session.peer, choice.piece, blame=False)
        return work

    def _on_missing(self, provider: str, task_id: str, piece: int) -> None:
        """A provider lacks a piece that it has reported: forget the piece, and ask the provider for its inventory."""
        if self._assignments.takes_part(provider, task_id):
            self._progress.remove_pieces(task_id, provider, 1 << piece)
        session = self.sessions.get(provider)
        if session is not None:
            session.inventoried = False
            self.waiting.release(provider)
