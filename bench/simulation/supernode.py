"""The real scheduler and the real exchange of a supernode, with one core and a modelled copy of the file."""

from collections.abc import Callable
from typing import cast

import msgspec

from bench.simulation.clock import SimulatedLoop
from bench.simulation.host import Host, Transfer
from bench.simulation.links import Link, Network
from bench.simulation.row import SimulatedRow
from pantala_pieces.transfer.upload.fetches import FetchState, PieceFetch
from pantala_protocol import task_id
from pantala_protocol.statement import CDNStatus, Statement, WantedTask
from pantala_protocol.sync import SyncAnswer, SyncRequest
from pantala_protocol.task_id import TaskID
from pantala_supernode.images.orders import StatedImages
from pantala_supernode.images.service import ImageService
from pantala_supernode.replicas.membership import ReplicaSet
from pantala_supernode.swarm.download import DfgetTaskManager
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.peer import PeerManager
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.scheduler import Managers, SchedulerManager
from pantala_supernode.sync.assignments import AssignmentTable
from pantala_supernode.sync.dispatch import Dispatcher
from pantala_supernode.sync.feed import ChangeFeed
from pantala_supernode.sync.former_digests import FormerDigests
from pantala_supernode.sync.server import SyncServer
from pantala_supernode.sync.small_files import SmallFiles
from pantala_supernode.sync.tickets import Endpoint, TicketCache
from pantala_supernode.tasks.copy import Copy
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.volume.epochs import EpochFence

_URL = "http://origin.example/file"
_ID = task_id.compute(_URL)
_GENERATION = "generation"
_DIGEST = "sha256:" + "0" * 64
_SECOND = 1.0
_HEADERS = 400
"""Bytes of a request or an answer beside its body: HTTP and TCP."""
_MEASURED = 16
"""One in this many requests and answers is encoded, to measure its size."""


class _NoImages:
    """Replaces the parts of the exchange about images, because the simulated peers have no images."""

    def __init__(self) -> None:
        self.stated = StatedImages()
        self.blobs = self

    def take(self, *_: object) -> None: ...

    def take_holdings(self, *_: object) -> None: ...

    def take_inventory(self, *_: object) -> None: ...


class SimulatedSupernode:
    """One supernode, which fetches the file from its origin and serves the swarm."""

    def __init__(self, row: SimulatedRow, loop: SimulatedLoop, network: Network) -> None:
        self.exchanges = 0
        self._answers = 0
        self.request_bytes = self.answer_bytes = 0.0
        """The bytes of all requests and answers on the supernode's link."""
        self.busy_seconds = 0.0
        """Seconds of its core that the exchange has used."""
        self.longest_wait = 0.0
        """The longest time in seconds that a request or an answer waited for the core."""
        self.origin_bytes = 0
        self._row = row
        self._loop = loop
        self._network = network
        rate = row.supernode_rate
        self.host = Host(loop, network, row.zone_of(0), Link(rate), Link(rate), row.supernode_uploads, self._on_fetch)
        self._free_at = 0.0
        peers, self.progress = PeerManager(), ProgressManager()
        scheduler = SchedulerManager(self.progress, policy=SchedulingPolicy(), chance=row.chance(), lookup=peers.get)
        self.managers = Managers(TaskManager(grace=5.0), DfgetTaskManager(), peers, self.progress, scheduler)
        replicas = ReplicaSet()
        assignments = AssignmentTable(self.managers, replicas)
        feed = ChangeFeed("supernode", self.managers, EpochFence())
        self.dispatcher = Dispatcher(
            self.managers,
            assignments,
            feed,
            endpoint=Endpoint("10.0.0.1", 8001, b"s" * 32),
            tickets=TicketCache(loop.time),
            digest_of=lambda _task, piece: piece.to_bytes(32, "big"),
            on_accused=lambda _task, _piece: None,
            clock=loop.time,
        )
        self._server = SyncServer(
            "supernode",
            self.managers,
            assignments,
            feed,
            self.dispatcher,
            cast("ImageService", _NoImages()),
            SmallFiles(lambda _task: None),
            FormerDigests(lambda _task: None, on_damaged=lambda _task, _piece: None),
            clock=loop.time,
            wall=loop.time,
            timing=row.timing,
        )
        self._repeat(_SECOND, self._server.tick)
        self._watch = loop.create_task(self.dispatcher.watch_places())
        self._shared = {self.host.up: 0.0, self.host.down: 0.0}
        self._repeat(_SECOND, self._share_link)

    @property
    def spent(self) -> tuple[int, float, float]:
        """The exchanges, the seconds of the core, and the bytes of answers since the start."""
        return self.exchanges, self.busy_seconds, self.answer_bytes

    def ask(self, request: SyncRequest, ended: Callable[[SyncAnswer], object]) -> None:
        """Carry a request to the supernode, and its answer back to ``ended``. Both use the core."""
        self.exchanges += 1
        arrives = self._loop.time() + self._row.rtt / 2
        self._loop.at(self._use(arrives, self._row.costs.request), self._take, request, ended)

    def _take(self, request: SyncRequest, ended: Callable[[SyncAnswer], object]) -> None:
        if self.exchanges % _MEASURED == 0:
            self.request_bytes += _MEASURED * (len(msgspec.json.encode(request)) + _HEADERS)
        answer = self._server.begin(request, request.peer)
        if isinstance(answer, SyncAnswer):
            self._answer(answer, ended)
        else:
            answer.add_done_callback(lambda held: self._answer(held.result(), ended))

    def _answer(self, answer: SyncAnswer, ended: Callable[[SyncAnswer], object]) -> None:
        self._answers += 1
        if self._answers % _MEASURED == 0:
            self.answer_bytes += _MEASURED * (len(msgspec.json.encode(answer)) + _HEADERS)
        costs = self._row.costs
        used = costs.answer + costs.piece * len(answer.work)
        self._loop.at(self._use(self._loop.time(), used) + self._row.rtt / 2, ended, answer)

    def distribute(self, peers: list[str]) -> None:
        """Take the operator's statement, and begin to fetch the file."""
        wanted = WantedTask("uid", "simulate/file", _ID, _URL, path="simulate/file", peers=tuple(peers))
        self.managers.tasks.state(Statement(1, (wanted,)), now=self._loop.time())
        self._server.on_assignments(None)
        geometry, rate = self._row.geometry, self._row.origin_rate
        self._pieces = geometry.pieces
        if rate is None:
            self._update(self._pieces)
            return
        self._update(0)
        self._origin = Link(rate)
        self._fetch(0)

    def _fetch(self, piece: int) -> None:
        size = self._row.geometry.size(piece)

        def arrived() -> None:
            self.origin_bytes += size
            if piece + 1 < self._pieces:
                self._fetch(piece + 1)
            self._update(piece + 1)

        self._network.start(self._origin, self.host.down, size * self._row.overhead, arrived)

    def _update(self, cached: int) -> None:
        """Set the number of cached pieces."""
        task, geometry = self.managers.tasks.known(_ID), self._row.geometry
        whole = cached == self._pieces
        before = task.copy
        copy = Copy(
            TaskID(_ID),
            CDNStatus.SUCCESS if whole else CDNStatus.RUNNING,
            _GENERATION,
            geometry.piece_size,
            geometry.length,
            (1 << cached) - 1,
            digest=_DIGEST if whole else "",
        )
        self.managers.tasks.update(_ID, copy)
        self._server.on_copy(task, before)

    def _on_fetch(self, transfer: Transfer, state: FetchState) -> None:
        session = self.dispatcher.sessions.get(transfer.reader)
        if session is not None:
            self.dispatcher.on_fetch(PieceFetch(session.reader, transfer.work.task_id, transfer.work.piece), state)

    def _use(self, since: float, seconds: float) -> float:
        """Use the core for some seconds as soon as it is free. Returns the time of the end."""
        self.busy_seconds += seconds
        self.longest_wait = max(self.longest_wait, self._free_at - since)
        self._free_at = max(since, self._free_at) + seconds
        return self._free_at

    def _share_link(self) -> None:
        """Give the part of the supernode's link that the exchanges do not use to the pieces."""
        for link, total in ((self.host.up, self.answer_bytes), (self.host.down, self.request_bytes)):
            used, self._shared[link] = (total - self._shared[link]) / _SECOND, total
            rate = max(self._row.supernode_rate - used, 0.1 * self._row.supernode_rate)
            if abs(link.rate - rate) > 0.01 * link.rate:
                self._network.change(link, rate)

    def _repeat(self, seconds: float, call: Callable[[], object]) -> None:
        def again() -> None:
            call()
            self._loop.at(self._loop.time() + seconds, again)

        self._loop.at(self._loop.time() + seconds, again)
