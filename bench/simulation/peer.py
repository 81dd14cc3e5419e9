"""A simulated peer: the real session of the exchange, and a model of its downloads."""

from collections import deque
from collections.abc import Callable, Mapping

from bench.simulation.clock import SimulatedLoop
from bench.simulation.connection import SimulatedConnection
from bench.simulation.host import Host, Transfer
from bench.simulation.row import SimulatedRow
from bench.simulation.supernode import SimulatedSupernode
from pantala_peer.sync.client import SyncClient
from pantala_peer.sync.pace import PieceWindow
from pantala_peer.sync.session import NodeState, SupernodeSession
from pantala_protocol import ranges
from pantala_protocol.sync import HeldPieces, PieceFailure, PieceWork, SyncAnswer, SyncRequest

_STALL = 2.0
"""Seconds without a byte after which a download fails, or four usual piece times if that is longer."""
_HEAD = 3.0
"""Seconds without an answer after which a request for a piece fails."""


class SimulatedPeer:
    """One process of a peer. ``hosts`` has the host of each peer, ``on_whole`` is called when the peer has the file."""

    def __init__(
        self,
        name: str,
        boot: str,
        hosts: Mapping[str, Host],
        supernode: SimulatedSupernode,
        row: SimulatedRow,
        loop: SimulatedLoop,
        *,
        on_whole: Callable[["SimulatedPeer"], object],
    ) -> None:
        self.name = name
        self.began_at = loop.time()
        self.imported = 0
        """The number of pieces that came from another zone."""
        self.failures = 0
        self.twice = 0
        """The number of pieces that were fetched although the peer had them."""
        self._host = hosts[name]
        self._hosts = hosts
        self._supernode = supernode
        self._row = row
        self._loop = loop
        self._on_whole = on_whole
        self._all = (1 << row.geometry.pieces) - 1
        self._have = 0
        self._content = ("", "")
        """The task and the generation of the pieces."""
        self._running: dict[int, Transfer] = {}
        self._queue: deque[PieceWork] = deque()
        usual = row.downloads * row.geometry.piece_size / row.peer_rate
        self._stall = max(_STALL, 4 * usual)
        identity = SyncRequest(
            name, boot, 0, zone=self._host.zone, downloads=row.downloads, upload_slots=row.uploads, blake3=True
        )
        self._session = SupernodeSession(identity)
        self._window = PieceWindow(row.downloads)
        node = NodeState(
            65002, self._uploads, self._cache_bytes, self._inventory, self._busy, self._left, self._window_size
        )
        connection = SimulatedConnection(supernode)
        self._client = SyncClient(self._session, connection, node, apply=self._apply, rng=row.chance())
        self._exchanges = loop.create_task(self._client.run())

    def power_off(self) -> None:
        """End the process and its host at once, without a last message."""
        self._host.power_off()
        self._exchanges.cancel()
        for transfer in self._running.values():
            transfer.provider.cancel(transfer)
        self._running.clear()
        self._queue.clear()

    def _uploads(self) -> int:
        return self._host.uploads

    def _cache_bytes(self) -> int:
        return self._have.bit_count() * self._row.geometry.piece_size

    def _inventory(self) -> dict[str, HeldPieces]:
        task_id, generation = self._content
        return {task_id: HeldPieces(generation, ranges.render(self._have))} if self._have else {}

    def _busy(self) -> bool:
        return len(self._running) >= self._row.downloads

    def _left(self) -> int:
        return len(self._running) + len(self._queue)

    def _window_size(self) -> int:
        return self._window.size(self._loop.time(), self._client.interval)

    def _apply(self, answer: SyncAnswer) -> None:
        for work in answer.work:
            self._take(work)

    def _take(self, work: PieceWork) -> None:
        self._content = (work.task_id, work.generation)
        running = self._running.get(work.piece)
        if self._have >> work.piece & 1:
            self.twice += 1
            self._report(work)
        elif running is not None:
            if running.work.provider != work.provider:  # the supernode has replaced the provider
                self._drop(running)
                self._queue.appendleft(work)
        elif all(other.piece != work.piece for other in self._queue):
            self._queue.append(work)
        self._begin()

    def _begin(self) -> None:
        while self._queue and not self._busy():
            work = self._queue.popleft()
            provider = self._hosts[work.provider] if work.provider else self._supernode.host
            size = work.size * self._row.overhead
            transfer = Transfer(work, self.name, provider, self._host.down, size, self._on_end)
            self._running[work.piece] = transfer
            now = self._loop.time()
            if provider.powered:
                self._loop.at(now + self._row.rtt, provider.request, transfer)
            else:
                self._loop.at(now + _HEAD, self._fail, transfer, "unreachable")

    def _on_end(self, transfer: Transfer, whole: bool) -> None:
        if whole:
            seconds = self._row.rtt / 2 + transfer.work.size / self._row.verify_rate
            self._loop.at(self._loop.time() + seconds, self._verified, transfer)
        else:
            self._fail(transfer, "refused")

    def _verified(self, transfer: Transfer) -> None:
        if not self._drop(transfer):
            return  # the host has lost power
        self._have |= 1 << transfer.work.piece
        self._window.note(self._loop.time())
        self.imported += transfer.provider.zone != self._host.zone
        self._report(transfer.work)
        self._begin()
        if self._have == self._all:
            self._on_whole(self)

    def on_provider_lost(self) -> None:
        """Let the peer notice, after a while, that a provider lost power.

        Call this for each peer that fetches from it.
        """
        for transfer in self._running.values():
            if not transfer.provider.powered:
                self._loop.at(self._loop.time() + self._stall, self._fail, transfer, "stalled")

    def _fail(self, transfer: Transfer, kind: str) -> None:
        if not self._drop(transfer):
            return
        self.failures += 1
        work = transfer.work
        self._session.piece_failed(PieceFailure(work.task_id, work.piece, work.provider, kind))
        self._client.wake()
        self._begin()

    def _drop(self, transfer: Transfer) -> bool:
        """Forget a running transfer. False if it was forgotten before."""
        if self._running.get(transfer.work.piece) is not transfer:
            return False
        del self._running[transfer.work.piece]
        transfer.provider.cancel(transfer)
        return True

    def _report(self, work: PieceWork) -> None:
        self._session.piece_done(work.task_id, work.generation, work.piece)
        self._client.wake()
