"""The peer: :func:`build` makes its objects, and :meth:`PeerApp.run` runs them."""

import asyncio
import contextlib
import os
import random
import secrets
import time
from dataclasses import dataclass, field
from functools import partial

import structlog

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.cache.publisher import Publisher
from pantala_peer.cache.tree import FileAccess, check_root
from pantala_peer.containerd.watch import read_note
from pantala_peer.download.jobs import Downloads, PieceWaiters
from pantala_peer.errors import PeerError
from pantala_peer.events import FileDue, PeerEvents
from pantala_peer.images.blobs import CachedImages
from pantala_peer.images.helper import RuntimeHelper
from pantala_peer.images.ledger import LedgerFile
from pantala_peer.images.orders import ImageOrders
from pantala_peer.images.runtime import RuntimeWatch
from pantala_peer.metrics import PeerMetrics
from pantala_peer.mirror.server import MirrorRules
from pantala_peer.mirror.service import MirrorService
from pantala_peer.settings import Settings, parse
from pantala_peer.sync.connection import SyncConnection
from pantala_peer.sync.session import NodeState
from pantala_peer.sync.supernodes import SupernodeSessions
from pantala_peer.tasks.assigned import AssignedTasks
from pantala_peer.tasks.deliveries import Deliveries
from pantala_peer.tasks.room import BlobRoom
from pantala_peer.traces import DeliveryTraces
from pantala_pieces.errors import StoreError
from pantala_pieces.scrub import Scrub
from pantala_pieces.transfer.deadlines import ReceiveTimeouts
from pantala_pieces.transfer.providers import Providers
from pantala_pieces.transfer.receiver import PieceReceiver
from pantala_pieces.transfer.upload.sender import PieceSender
from pantala_pieces.writing import alone
from pantala_process import health, lifecycle, logs
from pantala_process.lifecycle import Stop
from pantala_process.settings import SettingsError
from pantala_process.tls.keeper import CertificateKeeper, keeper_of
from pantala_process.tracing.collector import open_traces
from pantala_process.tracing.spans import Traces
from pantala_protocol import __version__
from pantala_protocol.sync import SyncRequest

_READY_FOR = 60.0
"""Seconds for which a peer is ready after the last answer of any supernode."""

_SHARE = 0.25
"""Connections at the piece port may use this fraction of the limit of open files."""

log = structlog.get_logger()


@dataclass(slots=True)
class PeerApp:
    """One node's peer."""

    settings: Settings
    cache: PieceCache
    providers: Providers
    downloads: Downloads
    supernodes: SupernodeSessions
    deliveries: Deliveries
    tasks: AssignedTasks
    scrub: Scrub
    pieces: PieceSender
    mirror: MirrorService
    helper: RuntimeHelper
    runtime: RuntimeWatch
    images: ImageOrders
    metrics: PeerMetrics
    traces: Traces
    certificate: CertificateKeeper | None
    """Keeps the peer's certificate. ``None``: the peer uses plain HTTP."""
    _opened: bool = field(default=False, init=False)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until ``stop`` is set. Then report the end to the supernodes, and let running uploads end. Files stay.

        Raises :class:`PeerError` or :class:`StoreError` if the root cannot be used.
        """
        async with contextlib.AsyncExitStack() as lock, contextlib.AsyncExitStack() as stack:
            stack.callback(self.cache.close)
            stack.push_async_callback(self.downloads.close)
            probes = health.serving(self.settings.health_listen, self.metrics.registry, ready=self.problems)
            await stack.enter_async_context(probes)
            await lifecycle.until(stop, self._live(stack, lock))
            await self._leave()

    def problems(self) -> list[str]:
        """The reasons why this peer is not ready. Empty if it is ready."""
        if self.certificate is not None and self.certificate.problem:
            return [f"the peer waits for its certificate: {self.certificate.problem}"]
        if not self._opened:
            return ["the pieces on the disk are being verified"]
        silent = asyncio.get_running_loop().time() - self.supernodes.answered_at
        if silent > _READY_FOR:
            return [
                f"no exchange with a supernode has succeeded lately: {'; '.join(self.supernodes.errors) or 'no answer'}"
            ]
        return []

    async def _live(self, stack: contextlib.AsyncExitStack, lock: contextlib.AsyncExitStack) -> None:
        await asyncio.to_thread(check_root, self.settings.root, self.settings.files_group)
        await lock.enter_async_context(alone(self.settings.root, "peer", "--root"))
        await self.images.open()
        await self.tasks.open()
        if self.certificate is not None:
            await stack.enter_async_context(self.certificate.running())
        port = await stack.enter_async_context(
            self.pieces.serving(self.settings.listen, share=_SHARE, grace=self.settings.grace)
        )
        if self.settings.mirror_listen is not None:
            await stack.enter_async_context(self.mirror.serving(self.settings.mirror_listen))
        await stack.enter_async_context(self.helper.connected())
        self._opened = True
        log.info("serving pieces", port=port, held=len(self.cache.inventory()))
        node = NodeState(
            port=port,
            uploads=lambda: self.pieces.log.uploads,
            cache_bytes=self.cache.total_bytes,
            inventory=self.cache.inventory,
            busy=self.downloads.busy,
            left=self.downloads.left,
            window=self.supernodes.window,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self.supernodes.run(node))
            group.create_task(self.images.run())
            group.create_task(self.runtime.run())
            group.create_task(self.tasks.run(self.settings.recheck_interval))
            group.create_task(self.scrub.run(self.tasks.touch))
            group.create_task(self.metrics.run())

    async def _leave(self) -> None:
        log.info("leaving")
        if self._opened:
            await self.supernodes.leave()
        await self.tasks.close()
        self.deliveries.close()
        await asyncio.to_thread(self.traces.close)
        self.providers.close()


def build(settings: Settings) -> PeerApp:
    """Make the objects of a peer. They open no file and no socket before :meth:`PeerApp.run`."""
    boot = secrets.token_hex(8)
    events = PeerEvents()
    traces = open_traces("peer", os.environ)
    if traces.enabled:
        DeliveryTraces(traces, settings.name, events)
    certificate = keeper_of(settings, settings.token_file)
    tls = None if certificate is None else certificate.contexts

    # Pieces come from providers into the cache.
    cache = PieceCache(settings.root / "cache", headroom=settings.disk_headroom)
    waiters = PieceWaiters(events)
    timeouts = ReceiveTimeouts(settings.head_timeout, settings.stall_timeout, settings.slow_timeout)
    providers = Providers(connect_timeout=settings.connect_timeout, timeouts=timeouts, tls=tls)
    receiver = PieceReceiver(
        providers.fetch, cache.put, threads=settings.downloads, urgent=waiters.is_urgent, rest=providers.rest
    )
    downloads = Downloads(receiver, events, parallel=settings.downloads, urgent=waiters.is_urgent)

    # Supernodes assign tasks and give work. The peer carries both out and reports.
    identity = SyncRequest(
        settings.name,
        boot,
        seq=0,
        zone=settings.zone,
        version=__version__,
        downloads=settings.downloads,
        upload_slots=settings.uploads,
        blake3=True,
    )
    supernodes = SupernodeSessions(
        settings.supernode,
        identity,
        events,
        connect=lambda url: SyncConnection(
            url, token_file=settings.token_file, timeout=settings.exchange_timeout, tls=tls
        ),
        rng=random.Random(boot),  # noqa: S311 - spreads attempts over time
    )
    access = FileAccess(settings.files_access == "everyone", settings.files_group)
    deliveries = Deliveries(supernodes, Publisher(settings.root, access), events)
    room = BlobRoom(settings.blob_cache)
    tasks = AssignedTasks(supernodes, cache, downloads, deliveries, room, events)

    # Other peers download this peer's pieces, and containerd reads images through the mirror.
    pieces = PieceSender(
        cache.lookup, keys=supernodes.keys, clock=time.time, slots=settings.uploads, on_missing=tasks.touch, tls=tls
    )
    scrub = Scrub(cache, busy=lambda: downloads.left() > 0 or pieces.log.uploads > 0, interval=settings.scrub_interval)
    events.subscribe(FileDue, lambda _: scrub.wake())
    rules = MirrorRules(settings.mirror_token_file, settings.mirror_resolve, settings.mirror_deadlines)
    mirror = MirrorService(
        supernodes,
        cache,
        waiters,
        rules,
        room,
        node=settings.name,
        address=settings.mirror_address,
        token_file=settings.token_file,
        tls=tls,
    )

    # The operator orders images. They are stored in the container runtime or in the cache.
    helper = RuntimeHelper(settings.runtime_socket)
    runtime = RuntimeWatch(
        helper,
        supernodes,
        settings.name,
        events=events,
        port=mirror.reachable_port,
        problem=mirror.problem,
        last_probe=mirror.server.last_probe,
        repair=partial(read_note, settings.mirror_token_file),
        clock=time.monotonic,
    )
    images = ImageOrders(
        LedgerFile(settings.root / "cache" / "images.json"),
        helper,
        CachedImages(cache, mirror.demand, waiters, trouble=tasks.trouble),
        mirror.grants,
        supernodes,
        events=events,
        mirror_url=mirror.url,
        wall=time.time,
        keep=tasks.keep,
        pinned=runtime.pinned,
    )
    return PeerApp(
        settings,
        cache,
        providers,
        downloads,
        supernodes,
        deliveries,
        tasks,
        scrub,
        pieces,
        mirror,
        helper,
        runtime,
        images,
        PeerMetrics(cache, pieces, scrub, events, supernodes, images, mirror.server.counts),
        traces,
        certificate,
    )


def main() -> None:
    """Run a peer until SIGTERM or SIGINT."""
    settings = lifecycle.settings("pantala-peer", parse)
    logs.configure(settings.log_level)
    os.umask(0o022)

    async def life(stop: Stop) -> None:
        await build(settings).run(stop.asked)

    lifecycle.run("pantala-peer", life, failures=(PeerError, SettingsError, StoreError, OSError))
