"""A supernode that follows a script, on a real socket."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from pantala_pieces.digests import PieceHash
from pantala_protocol import ranges, registry, ticket
from pantala_protocol.images import NodeOrders, PullState, RuntimeState
from pantala_protocol.statement import Membership
from pantala_protocol.sync import (
    Assignment,
    Delivery,
    DeliveryState,
    DeliveryStatus,
    HeldPieces,
    PieceFailure,
    PieceWork,
    SyncAnswer,
    SyncRequest,
)
from tests.support.eventually import eventually
from tests.support.scripted_files import File
from tests.support.web_server import web_server

KEY = b"k" * 32
HOLD = 5.0
PUBLISHED = DeliveryState(DeliveryStatus.PUBLISHED)


@dataclass
class Known:
    """What the supernode knows about one peer."""

    boot: str = ""
    seq: int = 0
    host: str = ""
    port: int = 0
    leaving: bool = False
    held: dict[str, int] = field(default_factory=dict)
    given: dict[tuple[str, int], PieceWork] = field(default_factory=dict)
    greeted: bool = False
    answers: dict[int, SyncAnswer] = field(default_factory=dict)
    deliveries: dict[str, DeliveryState | None] = field(default_factory=dict)
    stated: int = 0
    """The ``seq`` of the newest exchange with ``pulls`` or ``runtime``."""
    pulls: dict[str, PullState] = field(default_factory=dict)
    runtime: RuntimeState | None = None


class ScriptedSupernode:
    """A supernode that gives work for all assigned pieces, four at a time, from peers that have them or itself."""

    def __init__(self, name: str = "boot", key: bytes = KEY) -> None:
        self.name = name
        self.boot = f"{name}-1"
        self.key = key
        self.membership: Membership | None = None
        self.revision = 1
        self.files: dict[str, File] = {}
        self.assigned: dict[str, list[tuple[File, tuple[Delivery, ...]]]] = {}
        self.peers: dict[str, Known] = {}
        self.requests: list[SyncRequest] = []
        self.failures: list[PieceFailure] = []
        self.sent: list[tuple[str, int]] = []
        self.status = 200
        self.hold: float | None = HOLD
        self.drop: Callable[[SyncRequest], bool] = lambda _request: False
        """Returns True for a request that the supernode should apply, but not answer."""
        self.window = 4
        self.prefer_peers = True
        self.liars: dict[str, int] = {}
        """Peers that the supernode names as providers of every piece, each with the port to name. 0: its real port."""
        self.enclose: Callable[[bytes], bytes | None] = lambda _content: None
        """Returns what the supernode sends together with the work for a piece with this content."""
        self.orders: NodeOrders | None = None
        """The orders for all peers."""
        self.pause_after_failure = 0.0
        self.port = 0
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # What a test does

    async def assign(self, peer: str, *files: tuple[File, tuple[Delivery, ...]]) -> None:
        self.assigned[peer] = list(files)
        self.files.update({file.task_id: file for file, _ in files})
        self.revision += 1
        await self.notify()

    async def state(self, membership: Membership, peer: str, *files: tuple[File, tuple[Delivery, ...]]) -> None:
        """Set the membership and the peer's files at once, like a statement of the operator."""
        self.membership = membership
        await self.assign(peer, *files)

    async def deliver(self, file: File, path: str = "a", *, peer: str = "node-1", uid: str = "uid-1") -> None:
        await self.assign(peer, (file, (Delivery(uid, path),)))

    async def publish(
        self, file: File, path: str = "a", *, peer: str = "node-1", uid: str = "uid-1", timeout: float = 10.0
    ) -> None:
        """Assign a file, and wait until the peer has published it."""
        await self.deliver(file, path, peer=peer, uid=uid)
        await self.until_published(peer, uid, timeout)

    async def until_published(self, peer: str = "node-1", uid: str = "uid-1", timeout: float = 10.0) -> None:
        """Wait for the first report about a delivery, which must be its success."""
        assert PUBLISHED == await self.until_delivered(peer, uid, timeout)

    async def order(self, images: NodeOrders) -> None:
        self.orders = images
        await self.notify()

    async def join(self, membership: Membership) -> None:
        self.membership = membership
        self.revision += 1
        await self.notify()

    async def notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def set_status(self, status: int) -> None:
        """Answer all exchanges with this status from now on, including those that wait for an answer."""
        self.status = status
        await self.notify()

    async def restart(self) -> None:
        self.boot = f"{self.name}-{int(self.boot.rpartition('-')[2]) + 1}"
        self.peers.clear()
        await self.notify()

    def delivered(self, peer: str = "node-1", uid: str = "uid-1") -> DeliveryState | None:
        state = self.peers[peer].deliveries.get(uid) if peer in self.peers else None
        return msgspec.structs.replace(state, path="") if state else None

    async def until_delivered(self, peer: str = "node-1", uid: str = "uid-1", timeout: float = 10.0) -> DeliveryState:
        return await eventually(lambda: self.delivered(peer, uid), within=timeout)

    def has_sent_once(self, file: File) -> bool:
        """True if this supernode has sent each piece of the file once, and nothing else."""
        return sorted(self.sent) == [(file.task_id, number) for number in range(file.geometry.pieces)]

    # Serving

    @contextlib.asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        routes = (
            web.post("/api/v1/sync", self._sync),
            web.get("/pieces/{task_id}/{generation}", self._piece),
            web.get(registry.PATH, self._manifest),
            web.get(registry.BLOBS, self._right),
        )
        async with web_server(*routes, port=port) as self.port:
            yield self.url

    async def _piece(self, request: web.Request) -> web.Response:
        name, generation = request.match_info["task_id"], request.match_info["generation"]
        file = self.files[name]
        assert file.generation == generation
        assert request.headers[ticket.HEADER] == f"own-{name}"
        asked = request.http_range
        body = file.content[asked.start : asked.stop]
        if file.corrupt:
            body = bytes(len(body))
        assert asked.start is not None
        self.sent.append((name, asked.start // file.piece_size))
        shown = f"bytes {asked.start}-{asked.stop - 1}/{len(file.content)}"
        return web.Response(status=206, body=body, headers={"Content-Range": shown})

    async def _right(self, request: web.Request) -> web.Response:
        raise web.HTTPNotFound

    async def _manifest(self, request: web.Request) -> web.Response:
        raise web.HTTPNotFound

    async def _sync(self, http: web.Request) -> web.Response:
        request = msgspec.json.decode(await http.read(), type=SyncRequest)
        answer = await self.exchange(request, http.remote or "")
        if answer is None:
            return web.Response(status=self.status)
        if self.drop(request):
            assert http.transport is not None
            http.transport.abort()
        return web.Response(body=msgspec.json.encode(answer))

    async def exchange(self, request: SyncRequest, host: str = "") -> SyncAnswer | None:
        """Apply a request, and return its answer. Return ``None`` while ``status`` is an error."""
        self.requests.append(request)
        if self.status != 200:
            return None
        known = self._connected(request, host)
        if request.seq not in known.answers:
            self._apply(known, request)
            await self.notify()
            answer = await self._answer(known, request)
            if self.status != 200:
                return None
            known.answers[request.seq] = answer
        return known.answers[request.seq]

    def _connected(self, request: SyncRequest, host: str) -> Known:
        known = self.peers.get(request.peer)
        if known is None or known.boot != request.boot:
            known = self.peers[request.peer] = Known(boot=request.boot)
        known.host, known.port = host, request.port
        known.leaving = request.leaving
        return known

    def _apply(self, known: Known, request: SyncRequest) -> None:
        known.seq = max(known.seq, request.seq)
        if request.inventory is not None:
            known.greeted = True
            known.held = {name: self._mask(name, held) for name, held in request.inventory.items()}
            known.deliveries = {}
        for name, held in request.done.items():
            known.held[name] = known.held.get(name, 0) | self._mask(name, held)
        for name, mask in known.held.items():
            for number in ranges.members(mask):
                known.given.pop((name, number), None)
        for failure in request.failures:
            self.failures.append(failure)
            known.given.pop((failure.task_id, failure.piece), None)
        known.deliveries.update(request.deliveries)
        if request.seq > known.stated:
            known.stated = request.seq
            known.pulls = known.pulls if request.pulls is None else request.pulls
            known.runtime = known.runtime if request.runtime is None else request.runtime

    def _mask(self, name: str, held: HeldPieces) -> int:
        file = self.files.get(name)
        return ranges.parse(held.pieces) if file and held.generation == file.generation else 0

    async def _answer(self, known: Known, request: SyncRequest) -> SyncAnswer:
        if not known.greeted:
            return SyncAnswer(self.boot, request.seq, key=self.key.hex(), inventory_wanted=True)
        if request.failures and self.pause_after_failure:
            await asyncio.sleep(self.pause_after_failure)
        known_revision = request.revision if request.supernode == self.boot else 0
        work: tuple[PieceWork, ...] = ()

        def may_answer() -> bool:
            nonlocal work
            if self.status != 200 or known.seq > request.seq or known is not self.peers.get(request.peer):
                return True
            work = self._work(known, request) if not request.leaving else ()
            news = bool(work) or known_revision != self.revision or unsent_orders() is not None
            return news or request.leaving or request.inventory is not None

        def unsent_orders() -> NodeOrders | None:
            known_orders = request.images if request.supernode == self.boot else 0
            return self.orders if self.orders is not None and self.orders.revision != known_orders else None

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.hold), self._changed:
                await self._changed.wait_for(may_answer)
        if self.status != 200 or known.seq > request.seq:
            return SyncAnswer(self.boot, request.seq)
        for piece in work:
            known.given[piece.task_id, piece.piece] = piece
        news = known_revision != self.revision
        return SyncAnswer(
            self.boot,
            request.seq,
            key=self.key.hex(),
            revision=self.revision,
            assignments=self._assignments(request.peer) if news else None,
            work=work,
            membership=self.membership if news else None,
            images=unsent_orders(),
        )

    def _assignments(self, peer: str) -> tuple[Assignment, ...] | None:
        return tuple(
            Assignment(
                file.task_id,
                file.generation,
                file.piece_size,
                len(file.content),
                f"sha256:{file.sha256}" if file.digest_known else "",
                deliveries,
            )
            for file, deliveries in self.assigned.get(peer, [])
        )

    def _work(self, known: Known, request: SyncRequest) -> tuple[PieceWork, ...]:
        work: list[PieceWork] = []
        for file in self._given(request.peer):
            missing = file.geometry.all & ~known.held.get(file.task_id, 0)
            for number in self._in_order(file, list(ranges.members(missing))):
                if (file.task_id, number) not in known.given and len(known.given) + len(work) < self.window:
                    work.append(self._one(file, number, request.peer))
        return tuple(work)

    def _in_order(self, file: File, pieces: list[int]) -> list[int]:
        """The order in which this supernode gives the pieces. Subclasses may change it."""
        return pieces

    def _given(self, peer: str) -> list[File]:
        """The files for which this supernode gives work to a peer."""
        return [file for file, _ in self.assigned.get(peer, [])]

    def _one(self, file: File, number: int, asking: str) -> PieceWork:
        provider = ""
        for name, other in self.peers.items():
            has = other.held.get(file.task_id, 0) >> number & 1 or name in self.liars
            if self.prefer_peers and name != asking and has and not other.leaving:
                provider = name
        peer = self.peers.get(provider)
        shown = (
            ticket.issue(self.key, file.task_id, file.generation, now=time.time()) if peer else f"own-{file.task_id}"
        )
        return PieceWork(
            file.task_id,
            file.generation,
            number,
            number * file.piece_size,
            len(file.piece(number)),
            peer.host if peer else "127.0.0.1",
            (self.liars.get(provider) or peer.port) if peer else self.port,
            shown,
            provider,
            content=None if provider else self.enclose(file.piece(number)),
            digest=PieceHash(file.piece(number)).hexdigest(),
        )
