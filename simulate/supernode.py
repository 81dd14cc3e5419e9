"""The real scheduler and the real exchange of a supernode, with one core and a modelled copy of the file."""

import math
from typing import Any, cast

import msgspec
from msgspec import structs

from pantala_pieces.server import FetchState, PieceFetch
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
from pantala_supernode.sync.server import SyncServer, SyncTiming
from pantala_supernode.sync.tickets import Endpoint, TicketCache
from pantala_supernode.tasks.copy import Copy
from pantala_supernode.tasks.manager import TaskManager
from simulate.clock import SimulatedLoop
from simulate.host import Host, Transfer
from simulate.links import Link, Network
from simulate.scenario import Scenario

_URL = "http://origin.example/file"
_ID = task_id.compute(_URL)
_GENERATION = "generation"
_DIGEST = "sha256:" + "0" * 64
_SECOND, _MOMENT = 1.0, 0.25
_HEADERS = 400
"""Bytes of a request or an answer beside its body: HTTP and TCP."""
_MEASURED = 16
"""One of so many exchanges is encoded, to learn how many bytes they have."""


class _NoImages:
    """Stands for the parts of the exchange about images, of which the simulated peers have none."""

    def __init__(self) -> None:
        self.stated = StatedImages()
        self.blobs = self

    def take(self, *_: object) -> None: ...

    def take_holdings(self, *_: object) -> None: ...

    def take_inventory(self, *_: object) -> None: ...


class SimulatedSupernode:
    """One supernode, which fetches the file from its origin and serves the swarm."""

    def __init__(self, scenario: Scenario, loop: SimulatedLoop, network: Network) -> None:
        self.exchanges = 0
        self.control_bytes = 0.0
        """The bytes of requests and answers, in both directions."""
        self.busy_seconds = 0.0
        """Seconds of its core that the exchange has used."""
        self.origin_bytes = 0
        self._scenario = scenario
        self._loop = loop
        self._network = network
        rate = scenario.supernode_rate
        self.host = Host(
            loop, network, scenario.zone_of(0), Link(rate), Link(rate), scenario.supernode_uploads, self._on_fetch
        )
        self._free_at = 0.0
        peers, self.progress = PeerManager(), ProgressManager()
        scheduler = SchedulerManager(
            self.progress, policy=SchedulingPolicy(), chance=scenario.chance(), lookup=peers.get
        )
        self.managers = Managers(TaskManager(grace=5.0), DfgetTaskManager(), peers, self.progress, scheduler)
        replicas = ReplicaSet()
        assignments = AssignmentTable(self.managers, replicas)
        feed = ChangeFeed("supernode", self.managers)
        self.dispatcher = Dispatcher(
            self.managers,
            assignments,
            feed,
            endpoint=Endpoint("10.0.0.1", 8001, b"s" * 32),
            tickets=TicketCache(loop.time),
            sha256=lambda _task, piece: piece.to_bytes(32, "big"),
            on_accused=lambda _task, _piece: None,
            clock=loop.time,
        )
        self._server = SyncServer(
            "supernode",
            self.managers,
            assignments,
            feed,
            self.dispatcher,
            cast(ImageService, _NoImages()),
            clock=loop.time,
            timing=SyncTiming(),
        )
        self._pace = 0.02
        self.window=4
        import os,json
        self.X=json.loads(os.environ.get('X','{}'))
        self._repeat(_SECOND, self._server.tick)
        self._repeat(_SECOND, self._set_pace)
        self._repeat(_MOMENT, self.dispatcher.free_places)
        self._control_before = 0.0
        self._repeat(_SECOND, self._share_link)

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        """Carry a request to the supernode and its answer back. Both use its core."""
        costs, half = self._scenario.costs, self._scenario.rtt / 2
        self.exchanges += 1
        number = self.exchanges
        await self._loop.until(self._use(self._loop.time() + half, costs.request))
        if self.window != request.downloads:
            request = structs.replace(request, downloads=self.window, upload_slots=self.window)
        answer = await self._server.sync(request, request.peer)
        if number % _MEASURED == 0:
            size = len(msgspec.json.encode(request)) + len(msgspec.json.encode(answer)) + 2 * _HEADERS
            self.control_bytes += _MEASURED * size
        used = costs.answer + costs.piece * len(answer.work)
        await self._loop.until(self._use(self._loop.time(), used) + half)
        return answer

    def pace(self) -> float:
        """The seconds that a peer lets pass between two exchanges."""
        return self._pace

    def distribute(self, peers: list[str]) -> None:
        """Take the operator's statement, and begin to fetch the file."""
        wanted = WantedTask("uid", "simulate/file", _ID, _URL, path="simulate/file", peers=tuple(peers))
        self.managers.tasks.state(Statement(1, (wanted,)), now=self._loop.time())
        self._server.on_assignments(None)
        geometry, rate = self._scenario.geometry, self._scenario.origin_rate
        self._pieces = geometry.pieces
        if rate is None:
            self._update(self._pieces)
            return
        self._update(0)
        self._origin = Link(rate)
        self._fetch(0)

    def _fetch(self, piece: int) -> None:
        size = self._scenario.geometry.size(piece)

        def arrived() -> None:
            self.origin_bytes += size
            if piece + 1 < self._pieces:
                self._fetch(piece + 1)
            self._update(piece + 1)

        self._network.start(self._origin, self.host.down, size * self._scenario.overhead, arrived)

    def _update(self, cached: int) -> None:
        """Set the number of cached pieces."""
        task, geometry = self.managers.tasks.known(_ID), self._scenario.geometry
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
        """Use the core for some seconds as soon as it is free. Returns when that ends."""
        self.busy_seconds += seconds
        self._free_at = max(since, self._free_at) + seconds
        return self._free_at

    def _share_link(self) -> None:
        """Leave to pieces what the exchanges do not use of the supernode's link."""
        used = (self.control_bytes - self._control_before) / 2 / _SECOND
        self._control_before = self.control_bytes
        rate = max(self._scenario.supernode_rate - used, 0.1 * self._scenario.supernode_rate)
        for link in (self.host.up, self.host.down):
            if abs(link.rate - rate) > 0.01 * link.rate:
                self._network.change(link, rate)

    def _set_pace(self) -> None:
        active = sum(1 for session in self.dispatcher.sessions.values() if session.open_tasks)
        X=self.X
        self._pace = min(max(X.get("least",0.02), active * X.get("per",0.33e-3)), X.get("most",0.25))
        sc=self._scenario
        usual=sc.geometry.piece_size*sc.overhead/sc.peer_rate
        self.window = min(sc.downloads + math.ceil((self._pace + sc.rtt)/usual*X.get("look",1.0)), X.get("wmax",16))

    def _repeat(self, seconds: float, call: Any) -> None:
        def again() -> None:
            call()
            self._loop.at(self._loop.time() + seconds, again)

        self._loop.at(self._loop.time() + seconds, again)
