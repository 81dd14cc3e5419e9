"""The exchange with the peers: applies a peer's request, and answers it at once or holds it until something changes.

When a piece is cached, or a provider has room or a new piece, the supernode answers the held exchange of a waiting
peer. So peers need not poll.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable

from pantala_process.flight import Turns
from pantala_protocol.images import NodeOrders
from pantala_protocol.sync import PieceWork, SyncAnswer, SyncRequest
from pantala_supernode.images.service import ImageService
from pantala_supernode.swarm.peer import SwarmPeer
from pantala_supernode.swarm.scheduler import Managers
from pantala_supernode.sync.assignments import AssignmentTable
from pantala_supernode.sync.dispatch import Dispatcher
from pantala_supernode.sync.feed import ChangeFeed
from pantala_supernode.sync.former_digests import FormerDigests
from pantala_supernode.sync.session import Hold, PeerSession, parse_held
from pantala_supernode.sync.small_files import SmallFiles
from pantala_supernode.sync.timing import SyncTiming
from pantala_supernode.tasks.copy import Copy
from pantala_supernode.tasks.task import Task


class SyncServer:
    """Serves the exchanges of all peers. ``clock`` returns monotonic seconds."""

    def __init__(
        self,
        boot: str,
        managers: Managers,
        assignments: AssignmentTable,
        feed: ChangeFeed,
        dispatcher: Dispatcher,
        images: ImageService,
        small_files: SmallFiles,
        former: FormerDigests,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        timing: SyncTiming,
    ) -> None:
        self._boot = boot
        self._managers = managers
        self._assignments = assignments
        self._feed = feed
        self._dispatcher = dispatcher
        self._small_files = small_files
        self._former = former
        self._images = images.stated
        self._blobs = images.blobs
        self._sessions = dispatcher.sessions
        self._waiting = dispatcher.waiting
        self._clock = clock
        self._wall = wall
        self._timing = timing
        self._pace = 0.0
        self._turns = Turns(self._assign)

    def begin(self, request: SyncRequest, host: str) -> SyncAnswer | asyncio.Future[SyncAnswer]:
        """Answer one exchange at once, or return a future of the answer. ``host``: the peer's address.

        Raises :class:`ValueError` for invalid piece ranges.
        """
        session = self._session(request, host)
        session.last_heard = session.last_alive = self._clock()
        repeated = session.answers.get(request.seq)
        if repeated is not None:
            return self._filled(session, repeated)
        self._waiting.supersede(request.peer)
        if request.clock and self._managers.peers.note_clock(request.peer, request.clock + 0.5 - self._wall()):
            self._feed.touch_peer(request.peer)
        self._apply(session, request)
        answer = self._answer(session, request)
        if _has_news(answer, request) or self._has_orders(session):
            return self._filled(session, session.remember(answer))
        return self._hold(session, request)

    def on_copy(self, task: Task, before: Copy) -> None:
        """Update a task's swarm and its peers after a change of the task's copy. ``before``: the former state."""
        copy = task.copy
        if copy.generation != before.generation:
            self._restart(task)
        self._managers.progress.init_task(task.id).copy = copy
        if (copy.length, copy.digest, copy.status) != (before.length, before.digest, before.status):
            self._on_task(task)
        if (copy.cached, copy.status) != (before.cached, before.status):
            self._dispatcher.serve_waiting(task.id)

    def on_assignments(self, peers: Iterable[str] | None) -> None:
        """Update the assignments of ``peers`` (``None``: all). If they changed, answer the peer's held exchange."""
        self._turns.add(self._sessions if peers is None else peers)

    def _assign(self, name: str) -> None:
        session = self._sessions.get(name)
        if session is not None and session.path is None and self._assignments.assign(session):
            self._waiting.release(name)

    def on_orders(self, nodes: Iterable[str] | None) -> None:
        """Answer the held exchanges of ``nodes`` (``None``: all) whose orders about images have changed."""
        for name in list(self._sessions) if nodes is None else nodes:
            session = self._sessions.get(name)
            if session is not None and self._has_orders(session):
                self._waiting.release(name)

    def tick(self) -> None:
        """Detect silent peers, and give work to waiting peers. Call about once a second."""
        now = self._clock()
        for session in list(self._sessions.values()):
            if session.path is None:
                self._check(session, now)
        outstanding = self._managers.progress.outstanding
        active = sum(outstanding(name) > 0 for name, session in self._sessions.items() if session.path is None)
        self._pace = round(min(active * self._timing.share, self._timing.most_pace), 3)
        self._dispatcher.expire()

    def is_silent(self, session: PeerSession, now: float) -> bool:
        """True if the next exchange of a peer is overdue."""
        return not session.under_way and now - session.last_alive > self._timing.away_after + self._pace

    def close(self) -> None:
        self._waiting.release_all()

    def _restart(self, task: Task) -> None:
        self._managers.progress.restart_task(task.id)
        for name in self._sessions:
            self._managers.dfget_tasks.restart(name, task.id)
        self._on_task(task)

    def _on_task(self, task: Task) -> None:
        """Update the assignments of a task after a change of its copy."""
        for name in task.recipients:
            session = self._sessions.get(name)
            if session is not None and session.path is None and self._assignments.update(session, task):
                self._waiting.release(name)

    def _session(self, request: SyncRequest, host: str) -> PeerSession:
        session, peers = self._sessions.get(request.peer), self._managers.peers
        if session is None or session.boot != request.boot:
            session, key = PeerSession(request.peer, request.boot), secrets.token_bytes(32)
            peer = SwarmPeer(request.peer, host, request.port, key, connected=False)
            self._dispatcher.add(session, peer)
        if peers.update(
            request.peer,
            address=host,
            port=request.port,
            zone=request.zone or self._managers.tasks.zones.get(request.peer, ""),
            version=request.version,
            connected=True,
            leaving=request.leaving,
            cache_bytes=request.cache_bytes,
            uploads=request.uploads,
            downloads=request.downloads,
            upload_slots=request.upload_slots,
        ):
            self._feed.touch_peer(request.peer)
        peers.known(request.peer).window = request.window
        session.is_former = not request.blake3
        return session

    def _apply(self, session: PeerSession, request: SyncRequest) -> None:
        if request.inventory is not None:
            session.holdings = parse_held(request.inventory)
            session.inventoried = True
            self._blobs.take_holdings(session.peer, session.holdings)
            self._assignments.take_inventory(session)
        for task_id, (generation, pieces) in parse_held(request.done).items():
            self._apply_done(session, task_id, generation, pieces)
        for failure in request.failures:
            self._dispatcher.failed(session, failure)
        for uid, state in request.deliveries.items():
            task = self._managers.tasks.of(uid)
            if task is not None:
                self._managers.dfget_tasks.deliver(session.peer, task.id, uid, state)
                self._feed.touch_task(task.id)
        if request.seq >= session.seq:  # otherwise a newer request overtook this one
            session.seq = request.seq
            self._apply_state(session, request)

    def _apply_state(self, session: PeerSession, request: SyncRequest) -> None:
        """Apply the fields that describe the peer's current state. For these, only the newest request counts."""
        reported = {"pulls": request.pulls, "runtime": request.runtime}
        news = {name: new for name, new in reported.items() if new is not None}
        if news and self._managers.peers.update(session.peer, **news):
            self._feed.touch_peer(session.peer)
        before, session.wants = session.wants, request.wants
        for task_id, wanted in request.wants.items():
            task, former = self._managers.tasks.get(task_id), before.get(task_id)
            if task is not None and former is not None and wanted.stalls > former.stalls:
                self._dispatcher.stalled(session, task, wanted.position)
        self._blobs.take(session.peer, request.wants)
        if request.inventory is not None:
            self._blobs.take_inventory(session.peer, request.inventory)

    def _apply_done(self, session: PeerSession, task_id: str, generation: str, pieces: int) -> None:
        if session.last_sent is not None and task_id not in session.positions:
            return  # the task is not assigned, so the peer drops the pieces
        former, before = session.holdings.get(task_id, (generation, 0))
        session.holdings[task_id] = (generation, (before if former == generation else 0) | pieces)
        task = self._managers.tasks.get(task_id)
        if task is None or task.copy.generation != generation:
            return
        if self._assignments.takes_part(session.peer, task_id):
            self._dispatcher.succeeded(session, task, pieces)

    def _answer(self, session: PeerSession, request: SyncRequest, work: tuple[PieceWork, ...] = ()) -> SyncAnswer:
        peer = self._managers.peers.get(session.peer)
        changed = request.revision != session.revision or request.supernode != self._boot
        return SyncAnswer(
            supernode=self._boot,
            seq=request.seq,
            key=peer.key.hex() if peer else "",
            inventory_wanted=not session.inventoried,
            revision=session.revision,
            assignments=session.last_sent if changed else None,
            membership=session.membership if changed else None,
            work=work + (() if request.leaving else self._dispatcher.work(session)),
            images=self._orders(session, request),
            pace=self._pace,
        )

    def _has_orders(self, session: PeerSession) -> bool:
        return session.path is None and self._images.news(session.peer, session.images)

    def _orders(self, session: PeerSession, request: SyncRequest) -> NodeOrders | None:
        """The node's orders about images. ``None``: the peer certainly has them. Repeated orders have no effect."""
        orders = self._images.orders(session.peer) if session.path is None else None
        if orders is None:
            return None
        sent = session.images
        if not self._has_orders(session) and request.supernode == self._boot and request.images:
            foreign = sent is not None and request.images != sent.revision  # the peer has orders of another replica
            if not foreign or request.images >= orders.revision:
                return None
        return orders

    def _hold(self, session: PeerSession, request: SyncRequest) -> asyncio.Future[SyncAnswer]:
        """Hold an exchange until something changes. A cancellation of the returned future ends the hold.

        An answer with work is kept even then, so that the peer's repeated request gets it.
        """
        loop = asyncio.get_running_loop()
        held, outcome = self._waiting.enter(session, full=self._dispatcher.is_full(session)), loop.create_future()
        hold = self._timing.busy_hold if session.lacks_pieces else self._timing.hold
        timer = loop.call_later(hold, self._waiting.release, session.peer, (), held)
        session.under_way += 1

        def on_held(held: Hold) -> None:
            timer.cancel()
            session.under_way -= 1
            session.last_alive = self._clock()
            if not held.cancelled():
                self._answer_held(session, request, held, outcome)

        def on_outcome(outcome: asyncio.Future[SyncAnswer]) -> None:
            if outcome.cancelled():
                self._waiting.leave(session.peer, held)
                held.cancel()

        held.add_done_callback(on_held)
        outcome.add_done_callback(on_outcome)
        return outcome

    def _answer_held(
        self, session: PeerSession, request: SyncRequest, held: Hold, outcome: asyncio.Future[SyncAnswer]
    ) -> None:
        if held.exception() is not None:  # a newer exchange of the peer ended this hold
            _settle(outcome, SyncAnswer(supernode=self._boot, seq=request.seq, revision=request.revision))
            return
        try:
            filled = self._filled(session, session.remember(self._answer(session, request, held.result())))
        except Exception as error:
            if outcome.done():
                raise
            outcome.set_exception(error)
            return
        if isinstance(filled, SyncAnswer):
            _settle(outcome, filled)
        else:
            filled.add_done_callback(lambda filled: _pass_on(filled, outcome))

    def _filled(self, session: PeerSession, answer: SyncAnswer) -> SyncAnswer | asyncio.Future[SyncAnswer]:
        """The answer, with the digests and small files that threads read from the volume."""
        if not (session.is_former and answer.work) and self._small_files.has_all(answer):
            return self._small_files.filled(answer)
        return asyncio.ensure_future(self._fill(session, answer))

    async def _fill(self, session: PeerSession, answer: SyncAnswer) -> SyncAnswer:
        session.under_way += 1
        try:
            return await self._small_files.fill(await self._former.fill(answer) if session.is_former else answer)
        finally:
            session.under_way -= 1
            session.last_alive = self._clock()

    def _check(self, session: PeerSession, now: float) -> None:
        peer = self._managers.peers.get(session.peer)
        if peer is None:
            return
        quiet = now - session.last_alive if not session.under_way else 0.0
        if quiet > self._timing.forgotten_after:
            self._dispatcher.forget(session)
        elif self.is_silent(session, now) and peer.connected:
            peer.connected = False
            self._dispatcher.release(session)
            self._feed.touch_peer(peer.name)
        elif now - session.last_moved > self._timing.silence:
            self._dispatcher.release(session)
            session.last_moved = now


def _pass_on(filled: asyncio.Future[SyncAnswer], outcome: asyncio.Future[SyncAnswer]) -> None:
    try:
        _settle(outcome, filled.result())
    except asyncio.CancelledError:
        outcome.cancel()
    except Exception as error:
        if not outcome.done():
            outcome.set_exception(error)


def _settle(outcome: asyncio.Future[SyncAnswer], answer: SyncAnswer) -> None:
    if not outcome.done():
        outcome.set_result(answer)


def _has_news(answer: SyncAnswer, request: SyncRequest) -> bool:
    return bool(
        request.inventory is not None  # the peer sends nothing else before its inventory is answered
        or answer.work
        or answer.assignments is not None
        or answer.inventory_wanted
        or request.supernode != answer.supernode
        or request.leaving
    )
