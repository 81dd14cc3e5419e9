"""The exchange with the peers: takes what one says, answers what it shall do, holds the answer while there is nothing.

Whenever something becomes possible (a piece was cached, a provider has room, a provider has a new piece) a waiting peer
is looked for and its held exchange answered. No peer polls.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pantala_protocol import ranges
from pantala_protocol.sync import Held, PieceFailure, SyncAnswer, SyncRequest, Work
from pantala_protocol.task_id import TaskID
from pantala_supernode.dfget_task import DfgetTaskManager
from pantala_supernode.dispatch import Dispatcher
from pantala_supernode.peer import Peer, PeerManager
from pantala_supernode.progress import SUPERNODE, ProgressManager
from pantala_supernode.reports import Reports
from pantala_supernode.roster import Roster
from pantala_supernode.scheduler import SchedulerManager
from pantala_supernode.session import Session
from pantala_supernode.task import Task, TaskManager
from pantala_supernode.waiting import SupersededError, WaitingRoom


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things last, in seconds."""

    hold: float = 10.0
    """An exchange is held at most so long. Shorter than what idle connections survive anywhere."""
    away_after: float = 3.0
    """A peer without an exchange under way for so long is offered to nobody, and what it was given is free."""
    forgotten_after: float = 600.0
    """A peer that is away for so long is forgotten; a node that reboots is back sooner."""
    silence: float = 120.0
    """A peer that speaks but reports nothing of what it was given for so long has lost it."""
    local_pause: float = 5.0
    """A peer whose own disk failed gets no piece of that task for so long."""


class Exchange:
    """Speaks with all peers. ``clock`` tells monotonic seconds."""

    def __init__(
        self,
        boot: str,
        *,
        tasks: TaskManager,
        dfget_tasks: DfgetTaskManager,
        peers: PeerManager,
        progress: ProgressManager,
        scheduler: SchedulerManager,
        reports: Reports,
        dispatcher: Dispatcher,
        on_accused: Callable[[TaskID, int], None],
        clock: Callable[[], float],
        timing: Timing,
    ) -> None:
        self._boot = boot
        self._tasks = tasks
        self._dfget_tasks = dfget_tasks
        self._peers = peers
        self._progress = progress
        self._scheduler = scheduler
        self._reports = reports
        self._dispatcher = dispatcher
        self._on_accused = on_accused
        self._clock = clock
        self._timing = timing
        self._sessions: dict[str, Session] = {}
        self._waiting = WaitingRoom()
        self._roster = Roster(tasks, dfget_tasks, progress)

    async def sync(self, request: SyncRequest, host: str) -> SyncAnswer:
        """One exchange of a peer whose connection came from ``host``."""
        session = self._session(request, host)
        repeated = session.answers.get(request.seq)
        if repeated is not None:
            return repeated
        self._waiting.supersede(request.peer)
        session.under_way += 1
        try:
            self._take(session, request)
            answer = self._answer(session, request)
            if not _says_something(answer, request):
                answer = await self._hold(session, request)
            return session.remember(answer)
        except SupersededError:
            return SyncAnswer(supernode=self._boot, seq=request.seq, revision=request.revision)
        finally:
            session.under_way -= 1
            session.quiet_since = self._clock()

    # What the rest of the supernode tells the exchange.

    def known_peers(self) -> list[str]:
        """The peers that are spoken with."""
        return list(self._sessions)

    def assignments_changed(self, peers: Iterable[str]) -> None:
        """What some peers shall hold changed: tell them."""
        for name in peers:
            session = self._sessions.get(name)
            if session is not None and self._roster.assign(session):
                self._waiting.release(name)

    def task_restarted(self, task_id: str) -> None:
        """A task has new content (or its content became known): what peers hold of it is judged anew."""
        if task_id in self._progress.tasks:
            self._progress.restart_task(task_id)
        for session in self._sessions.values():
            self._dfget_tasks.restart(session.peer, task_id)
        task = self._tasks.get(task_id)
        if task is not None:
            self.task_changed(task)

    def task_changed(self, task: Task) -> None:
        """What is said of a task in assignments changed."""
        self.assignments_changed({peer for wanted in task.wanted.values() for peer in wanted.peers})

    def pieces_cached(self, task_id: str) -> None:
        """The supernode has more pieces of a task."""
        self._serve_waiting(task_id)

    def tick(self) -> None:
        """Notice who is away, and serve who can be served by now; to be called about once a second."""
        now = self._clock()
        for session in list(self._sessions.values()):
            self._check(session, now)
        self._scheduler.expire(now)
        self._dispatcher.expire()
        for task_id in self._waiting.tasks():
            self._serve_waiting(task_id)

    def close(self) -> None:
        """Answer all held exchanges."""
        self._waiting.release_all()

    # A peer's word.

    def _session(self, request: SyncRequest, host: str) -> Session:
        session = self._sessions.get(request.peer)
        if session is None or session.boot != request.boot:
            if session is not None:
                self._waiting.supersede(request.peer)
                self._progress.forget_peer(request.peer)
                self._dfget_tasks.delete_client(request.peer)
            session = self._sessions[request.peer] = Session(request.peer, request.boot)
            self._peers.register(Peer(request.peer, request.boot, host, request.port, secrets.token_bytes(32)))
            self._reports.touch_peer(request.peer)
        peer = self._peers.get(request.peer)
        assert peer is not None  # noqa: S101 - registered with its session
        before = (peer.connected, peer.address, peer.port, peer.cache_bytes, peer.leaving)
        peer.address, peer.port, peer.zone, peer.version = host, request.port, request.zone, request.version
        peer.connected, peer.leaving, peer.last_seen = True, request.leaving, self._clock()
        peer.cache_bytes, peer.uploads = request.cache_bytes, request.uploads
        if before != (peer.connected, peer.address, peer.port, peer.cache_bytes, peer.leaving):
            self._reports.touch_peer(peer.name)
        return session

    def _take(self, session: Session, request: SyncRequest) -> None:
        if request.inventory is not None:
            self._take_inventory(session, request.inventory)
        for task_id, held in request.done.items():
            self._take_done(session, task_id, held)
        for failure in request.failures:
            self._take_failure(session, failure)
        for uid, state in request.deliveries.items():
            task = self._tasks.of(uid)
            if task is not None:
                self._dfget_tasks.deliver(session.peer, task.id, uid, state)
                self._reports.touch_task(task.id)

    def _take_inventory(self, session: Session, inventory: dict[str, Held]) -> None:
        session.holdings = {
            task_id: (held.generation, ranges.parse(held.pieces)) for task_id, held in inventory.items()
        }
        session.inventoried = True
        self._roster.take_inventory(session)

    def _take_done(self, session: Session, task_id: str, held: Held) -> None:
        pieces = ranges.parse(held.pieces)
        generation, before = session.holdings.get(task_id, (held.generation, 0))
        session.holdings[task_id] = (held.generation, (before if generation == held.generation else 0) | pieces)
        session.moved_at = self._clock()
        task = self._tasks.get(task_id)
        if (
            task is None
            or task.copy.generation != held.generation
            or not self._roster.takes_part(session.peer, task_id)
        ):
            return
        providers = self._progress.succeed(task_id, session.peer, pieces & task.possible, task.size)
        self._roster.note_completion(session, task)
        self._reports.touch_task(task_id)
        self._serve_waiting(task_id)
        if SUPERNODE in providers:  # the supernode serves all tasks: its room may be another's
            for other in self._waiting.tasks():
                self._serve_waiting(other)

    def _take_failure(self, session: Session, failure: PieceFailure) -> None:
        task_id = failure.task_id
        if not self._roster.takes_part(session.peer, task_id):
            return
        now = self._clock()
        session.moved_at = now
        own = failure.kind == "local"
        corrupt = failure.kind == "corrupt"
        provider = self._progress.fail(task_id, session.peer, failure.piece, blame=not own, corrupt=corrupt)
        if provider is None:
            return
        if own:
            session.paused[task_id] = now + self._timing.local_pause
        elif provider == SUPERNODE:
            if corrupt or failure.kind == "missing":
                self._on_accused(TaskID(task_id), failure.piece)
        else:
            self._scheduler.failed(session.peer, provider, now=now)
            if failure.kind == "missing":
                self._lost(provider, task_id, failure.piece)
        self._serve_waiting(task_id)

    def _lost(self, provider: str, task_id: str, piece: int) -> None:
        """A provider does not have what it is said to have: ask it for all it has."""
        if self._roster.takes_part(provider, task_id):
            self._progress.lose(task_id, provider, 1 << piece)
        other = self._sessions.get(provider)
        if other is not None:
            other.inventoried = False
            self._waiting.release(provider)

    # The supernode's answer.

    def _answer(self, session: Session, request: SyncRequest, work: tuple[Work, ...] = ()) -> SyncAnswer:
        peer = self._peers.get(session.peer)
        changed = request.revision != session.revision or request.supernode != self._boot
        return SyncAnswer(
            supernode=self._boot,
            seq=request.seq,
            key=peer.key.hex() if peer else "",
            inventory_wanted=not session.inventoried,
            revision=session.revision,
            assignments=session.told if changed else None,
            work=work + (() if request.leaving else self._dispatcher.work(session)),
        )

    async def _hold(self, session: Session, request: SyncRequest) -> SyncAnswer:
        held = self._waiting.enter(session)
        work: tuple[Work, ...] = ()
        try:
            async with asyncio.timeout(self._timing.hold):
                work = await held
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            if (
                held.done() and not held.cancelled() and held.exception() is None
            ):  # the work is given: the repeat gets it
                session.remember(self._answer(session, request, held.result()))
            raise
        finally:
            self._waiting.leave(session.peer, held)
        return self._answer(session, request, work)

    def _serve_waiting(self, task_id: str) -> None:
        self._dispatcher.serve_waiting(task_id, self._waiting, self._sessions)

    def _check(self, session: Session, now: float) -> None:
        peer = self._peers.get(session.peer)
        if peer is None:
            return
        quiet = now - session.quiet_since if not session.under_way else 0.0
        if quiet > self._timing.forgotten_after:
            self._forget(session)
        elif quiet > self._timing.away_after and peer.connected:
            peer.connected = False
            self._release(session)
            self._reports.touch_peer(peer.name)
        elif now - session.moved_at > self._timing.silence:
            self._release(session)
            session.moved_at = now

    def _release(self, session: Session) -> None:
        for task_id in self._progress.release(session.peer):
            self._reports.touch_task(task_id)
            self._serve_waiting(task_id)

    def _forget(self, session: Session) -> None:
        concerned = self._progress.tasks_of(session.peer)
        self._progress.forget_peer(session.peer)
        self._dfget_tasks.delete_client(session.peer)
        self._scheduler.forget(session.peer)
        self._peers.deregister(session.peer)
        del self._sessions[session.peer]
        for task_id in concerned:
            self._reports.touch_task(task_id)
        self._reports.touch_peer(session.peer)


def _says_something(answer: SyncAnswer, request: SyncRequest) -> bool:
    return bool(
        answer.work
        or answer.assignments is not None
        or answer.inventory_wanted
        or request.supernode != answer.supernode
        or request.leaving
    )
