"""A peer, composed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from aiohttp import web

from pantala_peer import health
from pantala_peer.cache import room
from pantala_peer.cache.pieces import Cache
from pantala_peer.cache.publish import Publisher, check_root
from pantala_peer.cache.room import BlobRoom
from pantala_peer.cache.waiters import Arrivals
from pantala_peer.download.jobs import Downloads
from pantala_peer.download.providers import Providers
from pantala_peer.download.receive import Patience
from pantala_peer.images.blobs import CachedImages
from pantala_peer.images.helper import RuntimeHelper
from pantala_peer.images.kept import LedgerFile
from pantala_peer.images.orders import ImageOrders
from pantala_peer.images.runtime import RuntimeWatch
from pantala_peer.mirror.server import Rules
from pantala_peer.mirror.service import MirrorService
from pantala_peer.settings import Address, Settings
from pantala_peer.sync.assignments import Assignments
from pantala_peer.sync.client import HTTPSupernode
from pantala_peer.sync.deliveries import Deliveries
from pantala_peer.sync.session import Identity, Load
from pantala_peer.sync.supernodes import Present, Supernodes
from pantala_pieces.server import PieceServer
from pantala_pieces.wrapped import WrappedServer
from pantala_protocol import __version__

_READY_FOR = 60.0
"""Seconds since any supernode's last answer for which a peer counts as registered."""

log = structlog.get_logger()


@dataclass(slots=True)
class Peer:
    """The process on one node. :func:`build` makes it, :meth:`run` is its life."""

    settings: Settings
    supernodes: Supernodes
    cache: Cache
    deliveries: Deliveries
    assignments: Assignments
    providers: Providers
    pieces: PieceServer
    mirror: MirrorService
    helper: RuntimeHelper
    images: ImageOrders
    runtime: RuntimeWatch
    _opened: bool = field(default=False, init=False)

    async def run(self, stop: asyncio.Event) -> None:
        """Live until ``stop`` is set, then take leave, let uploads end and return. Published files stay.

        Raises :class:`PeerError` or :class:`StoreError` if the root cannot be used.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.cache.close)
            if self.settings.health_listen is not None:
                application = health.application(self.why_not_ready)
                await stack.enter_async_context(_serving(application, self.settings.health_listen, grace=1.0))
            life = asyncio.create_task(self._live(stack))
            stopping = asyncio.create_task(stop.wait())
            try:
                await asyncio.wait({life, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stopping.cancel()
                life.cancel()
                await asyncio.wait({life, stopping})
            if not life.cancelled():
                await life  # what ended it is the caller's to know
            await self._leave()

    def why_not_ready(self) -> str:
        """What is missing for this peer to be of use; empty: nothing."""
        if not self._opened:
            return "the pieces on the disk are being verified"
        silent = asyncio.get_running_loop().time() - self.supernodes.answered_at
        if silent > _READY_FOR:
            return f"no supernode answered lately: {self.supernodes.error or 'they are silent'}"
        return ""

    async def _live(self, stack: contextlib.AsyncExitStack) -> None:
        await asyncio.to_thread(check_root, self.settings.root)
        if self.assignments.room.limit is None:
            self.assignments.room.limit = await asyncio.to_thread(_usual_room, self.settings.root)
        await self.images.open()
        await self.assignments.open()
        application = web.Application()
        self.pieces.add_routes(application.router)
        WrappedServer(self.pieces).add_routes(application.router)
        port = await stack.enter_async_context(_serving(application, self.settings.listen, grace=self.settings.grace))
        self.supernodes.identity = replace(self.supernodes.identity, port=port)
        if self.settings.mirror_listen is not None:
            await stack.enter_async_context(self.mirror.serving(*self.settings.mirror_listen))
            log.info("serving containerd", port=self.mirror.port)
        await stack.enter_async_context(self.helper)
        self._opened = True
        log.info("serving pieces", port=port, held=len(self.cache.inventory()))
        async with asyncio.TaskGroup() as group:
            group.create_task(self.supernodes.run())
            group.create_task(self.images.run())
            group.create_task(self.runtime.run())
            group.create_task(self.assignments.keep_looking(self.settings.recheck_interval))

    async def _leave(self) -> None:
        log.info("leaving")
        if self._opened:
            await self.supernodes.leave()
        await self.assignments.close()
        self.deliveries.close()
        self.providers.close()


def build(settings: Settings) -> Peer:
    """Put a peer together. Nothing happens before it runs."""
    boot = secrets.token_hex(8)
    supernodes = Supernodes(
        settings.supernode,
        Identity(
            peer=settings.name,
            boot=boot,
            port=settings.listen.port,
            zone=settings.zone,
            version=__version__,
            downloads=settings.downloads,
            uploads=settings.uploads,
        ),
        Present(
            load=lambda: Load(pieces.uploads, cache.bytes),
            inventory=lambda: cache.inventory(),
            busy=lambda: assignments.downloads.busy,
        ),
        connect=lambda url: HTTPSupernode(url, token_file=settings.token_file, timeout=settings.exchange_timeout),
        rng=random.Random(boot),  # noqa: S311 - spreads tries over time
    )
    cache = Cache(settings.root / "cache")
    deliveries = Deliveries(supernodes, Publisher(settings.root))
    assignments = supernodes.orders = Assignments(supernodes, cache, deliveries)
    providers = Providers(
        connect_timeout=settings.connect_timeout,
        patience=Patience(settings.head_timeout, settings.stall_timeout, settings.slow_timeout),
    )
    arrivals = Arrivals(cache)
    assignments.downloads = Downloads(providers, arrivals, parallel=settings.downloads, ended=assignments.ended)
    pieces = PieceServer(cache.lookup, keys=supernodes.keys, clock=time.time, slots=settings.uploads)
    pieces.on_missing = assignments.touch
    rules = Rules(settings.mirror_token_file, settings.mirror_resolve, settings.mirror_deadlines)
    blobs = assignments.room = BlobRoom(
        settings.blob_cache, spared=lambda name: mirror.wants.wanted(name) or images.keeps(name)
    )
    mirror = MirrorService(supernodes, cache.lookup, arrivals, rules, token_file=settings.token_file, used=blobs.use)
    helper = RuntimeHelper(settings.runtime_socket)
    runtime = RuntimeWatch(
        helper,
        supernodes,
        settings.name,
        port=lambda: _mirror_port(settings, mirror.port),
        sighting=lambda: mirror.mirror.sighting,
        wall=time.time,
    )
    images = supernodes.image_orders = ImageOrders(
        LedgerFile(settings.root / "cache" / "images.json"),
        helper,
        CachedImages(
            mirror.wants,
            arrivals,
            holds=mirror.blobs.holds,
            held=cache.bytes_of,
            trouble=assignments.trouble,
            release=assignments.reconsider,
        ),
        mirror.grants,
        supernodes,
        mirror_url=lambda: _mirror_url(settings, mirror.port),
        wall=time.time,
        surveyed=runtime.survey,
        pinned=runtime.pinned,
    )
    assignments.kept = images.keeps
    return Peer(
        settings, supernodes, cache, deliveries, assignments, providers, pieces, mirror, helper, images, runtime
    )


def _mirror_url(settings: Settings, port: int) -> str | None:
    return (settings.mirror_address or f"http://127.0.0.1:{port}") if port else None


def _mirror_port(settings: Settings, port: int) -> int:
    """At which containerd reaches it; 0: there is no mirror."""
    return (urlsplit(settings.mirror_address).port or port) if port else 0


def _usual_room(root: Path) -> int:
    status = os.statvfs(root)
    return room.usual(status.f_blocks * status.f_frsize)


@contextlib.asynccontextmanager
async def _serving(application: web.Application, address: Address, *, grace: float) -> AsyncIterator[int]:
    """Serve at an address; tell the port. At the end nothing new is taken; what runs gets ``grace`` seconds."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=grace)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address.host, address.port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
