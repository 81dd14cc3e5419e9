"""Creates and connects the parts of one supernode."""

import asyncio
import contextlib
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any

import aiohttp
import structlog
from aiohttp import web

from pantala_pieces.scrub import Scrub
from pantala_pieces.store import PieceStore
from pantala_pieces.transfer.upload.sender import PieceSender
from pantala_pieces.writing import alone
from pantala_process import health, memory
from pantala_process.flight import cancel_all
from pantala_process.identity import ServerClock
from pantala_process.tls.keeper import keeper_of
from pantala_process.tracing.collector import open_traces
from pantala_supernode import composition
from pantala_supernode.cdn.manager import CDNManager
from pantala_supernode.cdn.table import CopyTable
from pantala_supernode.dragonfly.frontend import DragonflyFrontend
from pantala_supernode.events import Events
from pantala_supernode.http.access import Access, guard_of
from pantala_supernode.http.api import NativeAPI
from pantala_supernode.http.application import application
from pantala_supernode.http.clients import ClientLimits
from pantala_supernode.http.copies import CopiesAPI
from pantala_supernode.http.front import Front
from pantala_supernode.http.registries import RegistriesAPI
from pantala_supernode.http.site import GRACE, site
from pantala_supernode.images.service import ImageService
from pantala_supernode.metrics import Metrics, StateCollector
from pantala_supernode.origin.limits import Rate
from pantala_supernode.origin.rate import OriginRate
from pantala_supernode.outbound.policies import SourcePolicies
from pantala_supernode.registry.service import RegistryService, open_service
from pantala_supernode.replicas.client import ReplicaClient
from pantala_supernode.replicas.copies import CopyServer
from pantala_supernode.replicas.membership import Handover, ReplicaSet
from pantala_supernode.replicas.source import ReplicaSource
from pantala_supernode.settings import Settings
from pantala_supernode.supernode import PieceInspector, Supernode
from pantala_supernode.sync.assignments import AssignmentTable
from pantala_supernode.sync.dispatch import Dispatcher
from pantala_supernode.sync.feed import ChangeFeed
from pantala_supernode.sync.former_digests import FormerDigests
from pantala_supernode.sync.overview import Overview
from pantala_supernode.sync.server import SyncServer
from pantala_supernode.sync.small_files import SmallFiles
from pantala_supernode.sync.tickets import Endpoint, TicketCache
from pantala_supernode.sync.timing import SyncTiming
from pantala_supernode.tasks.tenancy import Tenancy
from pantala_supernode.traces import FetchTraces
from pantala_supernode.volume.epochs import EpochFence
from pantala_supernode.volume.identity import open_volume
from pantala_supernode.volume.janitor import Janitor
from pantala_supernode.volume.reads import DailyReads

_log = structlog.get_logger(__name__)


class App:
    """The parts of one supernode, connected. Creating an ``App`` starts nothing; :func:`serving` does."""

    def __init__(
        self, settings: Settings, store: PieceStore, session: aiohttp.ClientSession, registries: RegistryService
    ) -> None:
        self._certificate = keeper_of(settings, settings.token_file)
        self._tls = tls = None if self._certificate is None else self._certificate.contexts
        self.settings = settings
        self.store = store
        self.events = events = Events()
        clock, chance = time.monotonic, random.Random()  # noqa: S311 - not used for secrets

        # Tickets and tokens use the API server's time, once it is known.
        cluster_time = ServerClock()

        # The peers, the tasks and the other replicas.
        self.metrics = Metrics()
        self.managers = managers = composition.managers(settings, chance)
        replicas = ReplicaSet()
        client = ReplicaClient(session, settings.token_file, clock=clock, tls=tls)
        source = ReplicaSource(replicas, client, settings.shares)

        # The volume, and the CDN that fills it.
        copies = CopyTable(store, events.copy_reported.publish)
        self._janitor = Janitor(
            store,
            copies.delete,
            wanted=managers.tasks.__contains__,
            released=copies.released,
            stated=lambda: managers.tasks.stated,
            spare=events.room_needed.request,
            claimed=managers.tasks.claimed,
            rules=composition.housekeeping(settings),
        )
        tenancy = Tenancy(managers.tasks, settings.quotas, events.tenants_refused.publish)
        self._reads = DailyReads(settings.data / "reads.json", tenancy.accounts)
        tools = composition.tools(settings, chance, self._janitor.make_room, tenancy.budget)
        cdn = CDNManager(copies, registries.reader, tools, choose=source.trying, shares=settings.shares)
        self._inspector = PieceInspector(store, cdn)
        self._scrub = Scrub(self._inspector, busy=cdn.gate.busy)

        # What the operator and clients want.
        boot = secrets.token_hex(8)
        fence = EpochFence(settings.data / "epoch.json")
        self.feed = feed = ChangeFeed(boot, managers, fence)
        self.supernode = Supernode(boot, managers, replicas, cdn, feed, events, fence, tenancy, clock=clock)
        self.images = ImageService(
            registries,
            settings.registries,
            managers,
            leases=self.supernode,
            events=events,
            received=cdn.kept_bytes,
            vouch=cdn.vouch,
            blob_seconds=settings.blob_seconds,
            ledger=settings.data / "blobs.json",
            clock=clock,
        )

        # The exchange with peers and other supernodes.
        key = secrets.token_bytes(32)
        assignments = AssignmentTable(managers, replicas)
        self.dispatcher = dispatcher = Dispatcher(
            managers,
            assignments,
            feed,
            endpoint=Endpoint(settings.advertise, settings.piece_listen.port, key, tls),
            tickets=TicketCache(cluster_time.now),
            digest_of=cdn.piece_digest,
            on_accused=events.piece_accused.publish,
            timer=self.metrics.scheduling.time,
            clock=clock,
            shares=settings.shares,
        )
        self._small_files = SmallFiles(store.get)
        self.sync = SyncServer(
            boot,
            managers,
            assignments,
            feed,
            dispatcher,
            self.images,
            self._small_files,
            FormerDigests(store.get, on_damaged=events.piece_accused.publish),
            clock=clock,
            wall=cluster_time.now,
            timing=SyncTiming(),
        )
        self._pieces = PieceSender(
            store.get,
            keys=lambda: (key,),
            clock=cluster_time.now,
            slots=settings.piece_slots,
            pace=None if settings.serve_rate is None else Rate(settings.serve_rate).reserve,
            on_fetch=events.piece_fetched.publish,
            claim=partial(settings.shares.claim_of_task, managers.tasks),
            tls=tls,
        )
        accuse = events.piece_accused.publish
        self.copies = CopyServer(
            self.supernode, managers.tasks, store, replicas, stage=source.stage, accuse=accuse, clock=clock
        )

        # Dragonfly's clients and its REST API.
        self.dragonfly = DragonflyFrontend(
            self.supernode,
            events,
            managers,
            dispatcher,
            store,
            enabled=settings.dragonfly,
            advertise=settings.advertise,
            clock=clock,
        )

        # The routes.
        self.metrics.registry.register(
            StateCollector(
                managers,
                self.dragonfly.downloads,
                dispatcher.waiting,
                cdn,
                self._pieces,
                self.images.manifests,
                self._janitor,
                self._scrub,
                self.supernode,
            )
        )
        self.guard = guard_of(settings, session, cluster_time)
        self._overview = Overview(
            boot, managers, self.sync, dispatcher.sessions, cdn, clock=clock, wall=cluster_time.now
        )
        self.handover = Handover(replicas, self._is_idle, self._overview.asked_since, patience=settings.leave_seconds)
        self._limits = ClientLimits()
        self._native = NativeAPI(self.supernode, self.feed, self.sync, self._overview, self.metrics, self._limits)
        hot = (*self._native.hot_routes(), *self.dragonfly.hot_routes())
        self.front = Front(hot, self.guard, self.metrics, self._limits)
        self.api = self._api()
        self._subscribe()

    def _subscribe(self) -> None:
        """Connect each event with its subscribers, in the order in which they are called."""
        events = self.events
        events.volume_read.subscribe(self.images.blobs.on_volume_read)
        events.statement_taken.subscribe(self.images.on_statement)
        events.tenants_refused.subscribe(self.supernode.apply)
        events.copy_reported.subscribe(self.supernode.on_copy_report)
        events.copy_changed.subscribe(self.sync.on_copy, self.metrics.on_copy)
        events.task_changed.subscribe(
            self.copies.on_task_changed, self.images.blobs.on_task_changed, self.dragonfly.preheats.on_task_changed
        )
        events.assignments_changed.subscribe(self.sync.on_assignments)
        events.orders_changed.subscribe(self.sync.on_orders)
        events.piece_accused.subscribe(self._small_files.forget, self._inspector.inspect)
        events.piece_fetched.subscribe(self.dispatcher.on_fetch)
        events.room_needed.subscribe(self.images.blobs.release_idle, self.dragonfly.service.release_idle)
        events.second_passed.subscribe(
            self.supernode.tick, self.sync.tick, self.images.blobs.tick, self.dragonfly.tick, self._overview.tick
        )

    def _api(self) -> web.Application:
        api = application(
            (
                *self._native.operations(),
                *CopiesAPI(self.copies).operations(),
                *RegistriesAPI(self.images, self._limits).operations(),
                *self.dragonfly.operations(),
            ),
            self.guard,
            self.metrics,
            document_access=self.dragonfly.access,
            metrics_access=Access.METRICS if self.settings.metrics_open else Access.OPERATOR,
        )
        api.on_shutdown.append(self._release)  # once no new request is accepted
        self.dragonfly.add_routes(api.router, self.guard)
        return api

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        settings = self.settings
        await self.images.ledger.restore()
        self._running = asyncio.gather(
            self.supernode.recover(),
            self.events.run(),
            self.dispatcher.watch_places(),
            self._janitor.run(),
            self._scrub.run(),
            self.images.ledger.run(),
            self._reads.run(),
            memory.keep_trimmed(),
        )
        registry = self.metrics.registry if settings.metrics_open else None
        try:
            async with (
                health.serving(settings.health_listen, registry, ready=self._problems),
                contextlib.nullcontext() if self._certificate is None else self._certificate.running(),
                site(self.api, self.front, settings.listen, share=0.5, tls=self._tls) as port,
                self._pieces.serving(settings.piece_listen, share=0.25, grace=GRACE, flag="--piece-listen"),
            ):
                _log.info(
                    "supernode is up",
                    boot=self.supernode.boot,
                    listen=settings.listen._replace(port=port),
                    data=str(settings.data),
                )
                if settings.no_auth:
                    _log.warning("--no-auth: every client that reaches the API may do everything")
                if settings.dragonfly:
                    _log.warning("--dragonfly: every client that reaches the API may fetch and read files")
                yield
                await self.images.evidence.close()
                await self._inspector.close()
                await self.supernode.close()
        finally:
            await cancel_all([self._running])
            self.dragonfly.close()

    async def until(self, end: Coroutine[Any, Any, object]) -> None:
        """Wait until ``end`` returns. If a part of the supernode fails before that, raise its error."""
        ended = asyncio.create_task(end)
        both: set[asyncio.Future[Any]] = {ended, self._running}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            (ended if ended.done() else self._running).result()
        finally:
            ended.cancel()

    async def _release(self, _: web.Application) -> None:
        """Answer all requests that the supernode holds, so that the server can stop."""
        self.sync.close()
        self.feed.release()

    def _problems(self) -> list[str]:
        """The reasons why the supernode is not ready. Empty if it is ready."""
        if self._certificate is not None and self._certificate.problem:
            return [f"the supernode waits for its certificate: {self._certificate.problem}"]
        return list(self._native.problems())

    def _is_idle(self) -> bool:
        """True if this replica has no Task resource left, and serves no replica and no client of Dragonfly."""
        return not (self.supernode.stated or self.copies.readers or self.dragonfly.busy)


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[App]:
    """Run a supernode until the block ends. Then finish the running requests, and stop."""
    folder = await asyncio.to_thread(open_volume, settings.data, partial(secrets.token_hex, 8))
    rate = settings.origin_rate
    throttle = None if rate is None else OriginRate(rate, settings.shares).throttle
    policies = SourcePolicies(settings.sources)
    async with (
        alone(settings.data, "supernode", "--data"),
        aiohttp.ClientSession(trust_env=False) as session,
        composition.outbound(settings, policies) as outbound,
        open_service(settings.registries, outbound, throttle=throttle, environment=settings.cloud) as registries,
    ):
        store = PieceStore(folder, durable=True, headroom=settings.disk_headroom)
        app = App(settings, store, session, registries)
        app.events.statement_taken.subscribe(policies.take)
        policies.changed.subscribe(app.supernode.on_sources)
        traces = open_traces("supernode", os.environ)
        if traces.enabled:
            app.events.copy_changed.subscribe(FetchTraces(traces).on_copy)
        async with app.running():
            yield app
        await asyncio.to_thread(traces.close)
