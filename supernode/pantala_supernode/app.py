"""Puts one supernode together from its settings."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from pantala_pieces.server import PieceServer
from pantala_pieces.store import PieceStore
from pantala_pieces.wrapped import WrappedServer
from pantala_protocol.geometry import RULES
from pantala_protocol.task_id import TaskID
from pantala_supernode.cdn.manager import CDNManager
from pantala_supernode.cdn.table import CopyTable
from pantala_supernode.dragonfly.checksums import Checksums
from pantala_supernode.dragonfly.clients import Clients, Lasting
from pantala_supernode.dragonfly.preheat import PreheatManager
from pantala_supernode.dragonfly.registration import Patience
from pantala_supernode.dragonfly.rest import RestAPI
from pantala_supernode.dragonfly.routes import DragonflyAPI
from pantala_supernode.dragonfly.service import Conversation
from pantala_supernode.dragonfly.visitors import Visitors
from pantala_supernode.http.access import Access, Guard
from pantala_supernode.http.api import API
from pantala_supernode.http.application import application
from pantala_supernode.http.copies import CopiesAPI
from pantala_supernode.http.identity import ClusterKeys, Verifier
from pantala_supernode.http.registries import RegistriesAPI
from pantala_supernode.http.site import site
from pantala_supernode.images.service import Imaging
from pantala_supernode.metrics import Gauges, Metrics, TimedScheduler
from pantala_supernode.origin.egress import EgressPolicy
from pantala_supernode.origin.http import HTTPReader
from pantala_supernode.origin.rate import Rate
from pantala_supernode.registry.service import RegistryService, open_service
from pantala_supernode.replicas.client import SiblingClient
from pantala_supernode.replicas.copies import Copies
from pantala_supernode.replicas.handover import Handover
from pantala_supernode.replicas.membership import Members
from pantala_supernode.replicas.source import SiblingCopies
from pantala_supernode.settings import Settings
from pantala_supernode.supernode import Supernode
from pantala_supernode.swarm.download import DfgetTaskManager
from pantala_supernode.swarm.managers import Managers
from pantala_supernode.swarm.peer import PeerManager
from pantala_supernode.swarm.policy import Policy
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.sync.assignments import Roster
from pantala_supernode.sync.dispatch import Dispatcher, Endpoint
from pantala_supernode.sync.exchange import Exchange, Timing
from pantala_supernode.sync.reports import Reports
from pantala_supernode.sync.tickets import TicketOffice
from pantala_supernode.tasks.manager import TaskManager
from pantala_supernode.volume.eviction import EvictionCause, Watermarks
from pantala_supernode.volume.identity import alone, open_volume
from pantala_supernode.volume.janitor import Housekeeping, Janitor

_log = structlog.get_logger(__name__)

_TICK = 1.0
"""Seconds between two looks at which visitors are silent."""


class App:
    """One supernode, ready to run."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._store: PieceStore
        self._pieces: PieceServer
        self._key = secrets.token_bytes(32)
        self.guard: Guard
        self.api: web.Application
        self.supernode: Supernode
        self.copies: Copies
        self.imaging: Imaging
        self.handover: Handover
        self.conversation: Conversation
        self.visitors: Visitors
        self.preheats: PreheatManager
        self._managers: Managers
        self._metrics: Metrics
        self._janitor: Janitor
        self._running: asyncio.Future[tuple[None, None, None, None, None]]

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[App]:
        """Serve until the block ends; then let requests under way finish and stop."""
        settings = self.settings
        _, tasks = await asyncio.to_thread(open_volume, settings.data, lambda: secrets.token_hex(8))
        self._store = PieceStore(tasks, durable=True)
        self._pieces = PieceServer(
            self._store.get, keys=lambda: (self._key,), clock=time.time, slots=settings.piece_slots
        )
        if settings.serve_rate is not None:
            self._pieces.pace = Rate(settings.serve_rate).acquire
        egress = EgressPolicy(settings.deny_source)
        async with (
            alone(settings.data),
            aiohttp.ClientSession(trust_env=False) as session,
            HTTPReader(egress=egress) as source,
            open_service(settings.registries, source, egress=egress) as registries,
        ):
            self.supernode = self._supernode(
                registries, SiblingClient(session, settings.token_file, clock=time.monotonic)
            )
            self.guard = Guard(
                None if settings.no_auth else self._verifier(session),
                operator=settings.trusted_operator,
                peer=settings.trusted_peer,
                supernode=settings.trusted_supernode,
            )
            self.api = self._api()
            self.api.on_shutdown.append(self._release)  # once nobody is let in any more
            if settings.dragonfly:
                DragonflyAPI(self.conversation).add_routes(self.api.router, self.guard)
            await self.imaging.ledger.restore()
            self._running = asyncio.gather(
                self.supernode.run(),
                self.conversation.run(),
                self._look_after_visitors(),
                self._janitor.run(),
                self.imaging.ledger.run(),
            )
            try:
                async with (
                    site(self.api, settings.listen, share=0.5),
                    site(self._piece_application(), settings.piece_listen, share=0.25),
                ):
                    _log.info("supernode up", boot=self.supernode.boot, listen=settings.listen, data=str(settings.data))
                    if settings.no_auth:
                        _log.warning("--no-auth: everybody who reaches the ports may do everything")
                    if settings.dragonfly:
                        _log.warning("--dragonfly: everybody who reaches the API may have files fetched, and get them")
                    yield self
                    await self.imaging.proofs.close()
                    await self.supernode.close()
            finally:
                self._running.cancel()
                await asyncio.gather(self._running, return_exceptions=True)

    async def until(self, end: Coroutine[Any, Any, object]) -> None:
        """Wait for ``end``. Raises what ended the supernode before, e.g. a volume that cannot be read."""
        ended = asyncio.create_task(end)
        both: set[asyncio.Future[Any]] = {ended, self._running}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            (ended if ended.done() else self._running).result()
        finally:
            ended.cancel()

    def _is_idle(self) -> bool:
        """Whether nobody would miss this supernode."""
        downloads = any(not client.finished for client in self.conversation.clients)
        return not (self.supernode.stated or self.copies.readers or downloads)

    async def _release(self, _: web.Application) -> None:
        self.supernode.release()

    def _api(self) -> web.Application:
        settings = self.settings
        rest = RestAPI(
            self._managers,
            self.conversation,
            self.visitors,
            self.preheats,
            access=Access.DRAGONFLY if settings.dragonfly else Access.OPERATOR,
        )
        return application(
            (
                *API(self.supernode, self._metrics).operations(),
                *CopiesAPI(self.copies).operations(),
                *RegistriesAPI(self.imaging.manifests).operations(),
                *rest.operations(),
            ),
            self.guard,
            self._metrics,
            document_access=rest.access,
            metrics_access=Access.METRICS if settings.metrics_open else Access.OPERATOR,
        )

    def _supernode(self, registries: RegistryService, client: SiblingClient) -> Supernode:
        settings, boot = self.settings, secrets.token_hex(8)
        members = Members()
        siblings = SiblingCopies(members, client)
        chance = random.Random()  # noqa: S311 - it chooses among equals; secrets come from elsewhere
        managers = self._managers = self._with_metrics(
            TaskManager(grace=settings.grace, keep=settings.cache_seconds > settings.grace), chance
        )
        copies = CopyTable(self._store, lambda task_id: supernode.copy_changed(task_id))
        cdn = CDNManager(
            copies,
            registries.reader,
            siblings=siblings,
            rng=chance,
            limiter=Rate(settings.origin_rate) if settings.origin_rate is not None else None,
            make_room=lambda size: self._janitor.make_room(size),
            piece_size=RULES[settings.piece_size_rule],
            fresh_for=settings.fresh_seconds,
        )
        roster, reports = Roster(managers, members), Reports(boot, managers)
        dispatcher = Dispatcher(
            managers,
            roster,
            reports,
            endpoint=Endpoint(settings.advertise, settings.piece_listen.port, self._key),
            tickets=TicketOffice(time.time),
            sha256=cdn.piece_digest,
            on_accused=lambda task_id, piece: supernode.accused(task_id, piece),
            clock=time.monotonic,
        )
        imaging = self.imaging = Imaging(
            registries,
            settings.registries,
            managers,
            self._store,
            leases=lambda: supernode,
            unknown=lambda name: supernode.recovered and not (members.others or cdn.status(TaskID(name)).generation),
            blob_seconds=settings.blob_seconds,
            ledger=settings.data / "blobs.json",
            chance=chance,
            clock=time.monotonic,
        )
        supernode = Supernode(
            boot,
            managers,
            members,
            dispatcher=dispatcher,
            exchange=Exchange(
                boot, managers, roster, reports, dispatcher, imaging, clock=time.monotonic, timing=Timing()
            ),
            images=imaging.images,
            reports=reports,
            cdn=cdn,
            store=self._store,
            clock=time.monotonic,
        )
        self._janitor = Janitor(
            self._store,
            copies.delete,
            wanted=lambda task_id: managers.tasks.get(task_id) is not None,
            released=copies.released,
            stated=lambda: managers.tasks.revision > 0,
            spare=lambda: self.imaging.wants.spare() or self.conversation.spare(),
            rules=Housekeeping(
                grace=settings.grace,
                kept_for=max(settings.grace, settings.cache_seconds),
                watermarks=Watermarks(settings.disk_high, settings.disk_low),
            ),
        )
        self._metrics.watch(
            managers,
            Gauges(
                held_exchanges=lambda: len(dispatcher.waiting),
                queued_fetches=lambda: cdn.queue,
                uploads=lambda: self._pieces.uploads,
                bytes_sent=lambda: self._pieces.bytes_sent,
                origin_bytes=lambda: cdn.origin_bytes,
                uses=lambda: cdn.uses,
                manifests=lambda: self.imaging.manifests.outcomes,
                evictions=lambda: self._janitor.evictions | {EvictionCause.DROPPED: supernode.dropped},
            ),
        )
        self.copies = Copies(
            supernode, managers.tasks, self._store, members, stage=siblings.stage, clock=time.monotonic
        )
        self.handover = Handover(members, self._is_idle, patience=settings.leave_seconds)
        supernode.listeners += [self._metrics.copy_changed, self.copies.changed, self.imaging.wants.changed]
        supernode.on_statement.append(self.imaging.wants.restated)
        supernode.on_recovery.append(self.imaging.wants.recovered)
        self._invite(supernode, dispatcher)
        return supernode

    def _with_metrics(self, tasks: TaskManager, chance: random.Random) -> Managers:
        """The managers, watched."""
        peers, progress, metrics = PeerManager(), ProgressManager(self.settings.node), Metrics(tasks)
        self._metrics = metrics
        scheduler = TimedScheduler(
            progress,
            policy=Policy(bandwidth=self.settings.uplink),
            chance=chance,
            lookup=peers.get,
            observe=metrics.scheduling.observe,
            stopwatch=time.perf_counter,
        )
        return Managers(tasks, DfgetTaskManager(), peers, progress, scheduler)

    def _invite(self, supernode: Supernode, dispatcher: Dispatcher) -> None:
        """Those who take part without a Task resource."""
        managers, clock = self._managers, time.monotonic
        clients = Clients(managers, dispatcher, clock=clock, lasting=Lasting())
        self.conversation = Conversation(
            supernode,
            managers,
            dispatcher,
            clients,
            Checksums(self._store.get),
            advertise=self.settings.advertise,
            clock=clock,
            patience=Patience(),
        )
        self.visitors = Visitors(
            supernode, managers, dispatcher, clients, new_id=lambda: secrets.token_hex(8), clock=clock
        )
        self.preheats = PreheatManager(supernode, managers.tasks, clock=clock, wall=time.time)
        supernode.listeners.append(self.preheats.changed)

    async def _look_after_visitors(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self.visitors.tick()
            self.preheats.tick()
            self.imaging.wants.tick()

    def _verifier(self, session: aiohttp.ClientSession) -> Verifier:
        settings = self.settings
        return ClusterKeys(session, settings.api_server, ca=settings.api_ca, token=settings.api_token)

    def _piece_application(self) -> web.Application:
        app = web.Application()
        self._pieces.add_routes(app.router)
        WrappedServer(self._pieces).add_routes(app.router)
        return app


def build(settings: Settings) -> App:
    """Put a supernode together; nothing runs yet."""
    return App(settings)
