"""The operator, put together: the only place that knows all parts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from pantala_operator.adapters import kubernetes
from pantala_operator.adapters.clock import SystemClock
from pantala_operator.adapters.supernode import HTTPSupernodeAPI
from pantala_operator.control.loop import Loop
from pantala_operator.control.prefetch import PrefetchController
from pantala_operator.control.prefetch_writer import PrefetchWriter
from pantala_operator.control.writer import Writer
from pantala_operator.health import Health, ServedKinds
from pantala_operator.plan.prefetch.pins import Resolution
from pantala_operator.ports import Clock, ClusterAPI, Inbox, Kinds
from pantala_operator.resources.prefetch import ImageKey
from pantala_operator.settings import Settings, host_and_port
from pantala_operator.supernodes import replicas
from pantala_operator.supernodes.connections import Connect, SupernodeClients
from pantala_operator.supernodes.discovery import Discovery
from pantala_operator.supernodes.replicas import Address
from pantala_operator.watch.lists import FullLists
from pantala_operator.watch.observation import Observation
from pantala_operator.watch.registries import ImageResolver
from pantala_operator.watch.secrets import SecretReader
from pantala_operator.watch.stream import KopfWatch
from pantala_operator.watch.workloads import WorkloadWatch
from pantala_protocol.redaction import RedactedURL

log = structlog.get_logger(__name__)

Watching = Callable[[Inbox, Kinds, Callable[[], None]], Awaitable[None]]
"""Something that watches until cancelled: (inbox, whether our kinds are served, called when it begins)."""


class App:
    """Runs until cancelled."""

    def __init__(
        self,
        settings: Settings,
        cluster: ClusterAPI,
        connect: Connect,
        clock: Clock,
        watching: Watching,
        close: Callable[[], Awaitable[None]],
        address: Address = replicas.service_address,
    ) -> None:
        """Wire the parts; nothing runs yet. ``address``: where a pod of the supernodes' StatefulSet is found."""
        self._settings = settings
        self._watching = watching
        self._close = close
        observation = Observation()
        self._writer = Writer(cluster, observation, clock, settings.progress_interval)
        own = PrefetchWriter(cluster, observation, clock, self._writer)
        prefetching = PrefetchController(observation, clock, self._writer, own, settings.namespace)
        self.loop = Loop(observation, self._writer, prefetching, clock, settings.root)
        self._conversations = SupernodeClients(
            connect, clock, settings.supernode_patience, self.loop.hear, self.loop.away, self.loop.wake
        )
        self.loop.attach(self._conversations)

        def answered(uid: str, key: ImageKey, said: Resolution) -> None:
            prefetching.answered(uid, key, said)
            self.loop.wake()

        self._asking = ImageResolver(observation.supernodes, clock, self._conversations.resolve, answered)
        prefetching.attach(self._asking)
        self._following = WorkloadWatch(cluster, clock, observation.around, prefetching.needs, self.loop.mark_images)
        self._discovery: Discovery | None = None
        if settings.supernode_statefulset:
            namespace, _, name = settings.supernode_statefulset.partition("/")
            self._discovery = Discovery(cluster, namespace, name, address, self.loop.settle)
        else:
            self.loop.settle(replicas.of_urls(settings.supernode))
        self._reach = ServedKinds(cluster, clock)
        self._listing = FullLists(cluster, observation, settings.relist_interval, self.loop.mark_all)
        self._credentials = SecretReader(cluster, observation, clock, self.loop.mark_secret)
        self.health = Health(clock, lambda: self.loop.beat, self.problems)
        self._known = observation

    def problems(self) -> list[str]:
        """What keeps the operator from its work now."""
        known = self._known
        reasons = [self._reach.problem, "" if known.listed else f"no full list yet: {self._listing.problem}"]
        if self._discovery is not None and not known.supernodes.members:
            reasons.append(self._discovery.problem)
        return [reason for reason in reasons if reason]

    async def run(self) -> None:
        """Run; ends only by cancellation, or by a fault that a new process may not have."""
        host, port = host_and_port(self._settings.health_listen)
        try:
            port = await self.health.start(host, port)
            log.info("The operator runs", supernodes=self._supernodes(), health=f"{host}:{port}")
            async with asyncio.TaskGroup() as group:
                for part in (
                    self._reach.run(),
                    self._listing.run(),
                    self._credentials.run(),
                    self._conversations.run(),
                    self._writer.run(),
                    self._asking.run(),
                    self._following.run(),
                    self.loop.run(),
                    self._watch(),
                ):
                    group.create_task(part)
                if self._discovery is not None:
                    group.create_task(self._discovery.run())
        finally:
            await self.health.stop()
            await self._close()

    def _supernodes(self) -> str:
        settings = self._settings
        return settings.supernode_statefulset or ", ".join(str(RedactedURL(url)) for url in settings.supernode)

    async def _watch(self) -> None:
        await self._watching(self.loop, self._reach, self._listing.hurry)


async def build(settings: Settings, address: Address = replicas.service_address) -> App:
    """Put the operator together from its real parts."""
    cluster = await kubernetes.connect(settings.kubeconfig)

    def connect(url: str) -> HTTPSupernodeAPI:
        return HTTPSupernodeAPI(url, settings.token_file)

    async def watching(inbox: Inbox, kinds: Kinds, started: Callable[[], None]) -> None:
        await KopfWatch(inbox, cluster.login, kinds, started).run()

    return App(settings, cluster, connect, SystemClock(), watching, cluster.close, address)
