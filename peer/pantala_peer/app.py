"""A peer, composed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import structlog
from aiohttp import web

from pantala_peer import health
from pantala_peer.assignments import Assignments
from pantala_peer.cache import Cache
from pantala_peer.deliveries import Deliveries
from pantala_peer.download import Downloads
from pantala_peer.exchange import Exchange
from pantala_peer.providers import Providers
from pantala_peer.publish import Publisher, check_root
from pantala_peer.receive import Patience
from pantala_peer.session import Identity, Load, Session
from pantala_peer.settings import Address, Settings
from pantala_peer.supernode import HTTPSupernode
from pantala_pieces.server import PieceServer
from pantala_pieces.wrapped import WrappedServer
from pantala_protocol import __version__

_READY_FOR = 60.0
"""Seconds since the supernode's last answer for which a peer counts as registered."""

log = structlog.get_logger()


@dataclass(slots=True)
class Peer:
    """The process on one node. :func:`build` makes it, :meth:`run` is its life."""

    settings: Settings
    session: Session
    cache: Cache
    deliveries: Deliveries
    assignments: Assignments
    providers: Providers
    pieces: PieceServer
    supernode: HTTPSupernode
    exchange: Exchange
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
            await stack.enter_async_context(self.supernode)
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
        silent = asyncio.get_running_loop().time() - self.exchange.answered_at
        if silent > _READY_FOR:
            return (
                f"no answer from the supernode {self.supernode.shown} lately: {self.exchange.error or 'it is silent'}"
            )
        return ""

    async def _live(self, stack: contextlib.AsyncExitStack) -> None:
        await asyncio.to_thread(check_root, self.settings.root)
        await self.assignments.open()
        application = web.Application()
        self.pieces.add_routes(application.router)
        WrappedServer(self.pieces).add_routes(application.router)
        port = await stack.enter_async_context(_serving(application, self.settings.listen, grace=self.settings.grace))
        self.session.identity = replace(self.session.identity, port=port)
        self._opened = True
        log.info("serving pieces", port=port, held=len(self.cache.inventory()))
        async with asyncio.TaskGroup() as group:
            group.create_task(self.exchange.run())
            group.create_task(self.assignments.keep_looking(self.settings.recheck_interval))

    async def _leave(self) -> None:
        log.info("leaving")
        if self._opened:
            await self.exchange.leave()
        await self.assignments.close()
        self.deliveries.close()
        self.providers.close()


def build(settings: Settings) -> Peer:
    """Put a peer together. Nothing happens before it runs."""
    boot = secrets.token_hex(8)
    session = Session(
        Identity(settings.name, boot, settings.listen.port, settings.zone, __version__, settings.downloads)
    )
    cache = Cache(settings.root / "cache")
    deliveries = Deliveries(session, Publisher(settings.root))
    assignments = Assignments(session, cache, deliveries, news=lambda: exchange.wake())
    providers = Providers(
        connect_timeout=settings.connect_timeout, patience=Patience(settings.head_timeout, settings.stall_timeout)
    )
    assignments.downloads = Downloads(providers, cache, parallel=settings.downloads, ended=assignments.ended)
    pieces = PieceServer(cache.lookup, key=lambda: session.key, clock=time.time, slots=settings.uploads)
    pieces.on_missing = assignments.touch
    supernode = HTTPSupernode(settings.supernode, token_file=settings.token_file, timeout=settings.exchange_timeout)
    exchange = Exchange(
        session,
        supernode,
        load=lambda: Load(pieces.uploads, cache.bytes),
        inventory=cache.inventory,
        busy=lambda: assignments.downloads.busy,
        obey=assignments.obey,
        rng=random.Random(boot),  # noqa: S311 - spreads tries over time
    )
    return Peer(settings, session, cache, deliveries, assignments, providers, pieces, supernode, exchange)


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
