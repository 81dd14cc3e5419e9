"""Builds the operator from its parts, and runs them.

Watch and lists fill the observation. The control loop plans from it: Tasks, ImagePrefetches and Peers. The writer
takes statuses to the API server, and the clients take statements to the supernodes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from pantala_operator.adapters import kubernetes
from pantala_operator.adapters.supernode import HTTPSupernodeAPI
from pantala_operator.control.loop import Loop
from pantala_operator.control.peers import PeerController, ReconnectGrace
from pantala_operator.control.prefetch import PrefetchController
from pantala_operator.control.tasks import TaskController
from pantala_operator.control.writer import Writer
from pantala_operator.events import OperatorEvents
from pantala_operator.health import Health
from pantala_operator.ports import Clock, ClusterAPI, SystemClock
from pantala_operator.settings import Settings, host_and_port
from pantala_operator.supernodes import discovery
from pantala_operator.supernodes.connections import Connect, SupernodeClients
from pantala_operator.supernodes.discovery import Discovery, PodURL
from pantala_operator.watch.kinds import ServedKinds
from pantala_operator.watch.lists import FullLists
from pantala_operator.watch.observation import Observation, ResourceInbox
from pantala_operator.watch.registries import ImageResolver
from pantala_operator.watch.secrets import SecretReader
from pantala_operator.watch.stream import KopfWatch
from pantala_operator.watch.workloads import WorkloadWatch
from pantala_protocol.redaction import RedactedURL

log = structlog.get_logger(__name__)

RunWatch = Callable[[ResourceInbox, ServedKinds], Awaitable[None]]
"""Puts watch events into the inbox until cancelled."""


class App:
    """Runs until cancelled."""

    def __init__(
        self,
        settings: Settings,
        cluster: ClusterAPI,
        connect: Connect,
        run_watch: RunWatch,
        clock: Clock,
        pod_url: PodURL = discovery.service_url,
    ) -> None:
        """Nothing runs yet. ``pod_url``: where a pod of the supernodes' StatefulSet is reached."""
        self._settings = settings
        self._cluster = cluster
        self._run_watch = run_watch
        self._observation = known = Observation()
        self._events = events = OperatorEvents()
        self._inbox = ResourceInbox(known, events)

        self._kinds = ServedKinds(cluster, clock)
        self._lists = FullLists(cluster, known, events, settings.relist_interval)
        self._secrets = SecretReader(cluster, known, events, clock)
        self._workloads = WorkloadWatch(
            cluster, clock, known.around, known.prefetches.items, events, settings.namespace
        )
        self._discovery: Discovery | None = None
        if settings.supernode_statefulset:
            namespace, _, name = settings.supernode_statefulset.partition("/")
            self._discovery = Discovery(cluster, events, namespace, name, pod_url)

        self._clients = SupernodeClients(connect, events, clock, settings.supernode_patience)
        self._resolver = ImageResolver(known.supernodes, self._clients, events, clock)
        self._writer = Writer(cluster, known, events, clock, settings.progress_interval)

        grace = ReconnectGrace(known, clock)
        tasks = TaskController(known, self._writer, settings.root)
        prefetches = PrefetchController(known, clock, self._writer, self._resolver, grace, settings.namespace)
        peers = PeerController(known, self._writer, grace, clock)
        self.loop = Loop(known, events, self._clients, tasks, prefetches, peers, clock)
        self.health = Health(clock, lambda: self.loop.last_alive, self.problems)

    def problems(self) -> list[str]:
        """What keeps the operator from its work now."""
        known = self._observation
        reasons = [self._kinds.problem, "" if known.listed else f"no full list yet: {self._lists.problem}"]
        if self._discovery is not None and not known.supernodes.members:
            reasons.append(self._discovery.problem)
        return [reason for reason in reasons if reason]

    async def run(self) -> None:
        """Run; ends only by cancellation, or by an error that a restart may cure."""
        settings = self._settings
        host, port = host_and_port(settings.health_listen)
        try:
            port = await self.health.start(host, port)
            supernodes = settings.supernode_statefulset or ", ".join(
                str(RedactedURL(url)) for url in settings.supernode
            )
            log.info("The operator runs", supernodes=supernodes, health=f"{host}:{port}")
            async with asyncio.TaskGroup() as group:
                for part in (
                    self._kinds.run(),
                    self._lists.run(),
                    self._secrets.run(),
                    self._workloads.run(),
                    self._clients.run(),
                    self._resolver.run(),
                    self._writer.run(),
                    self.loop.run(),
                    self._watch(),
                ):
                    group.create_task(part)
                if self._discovery is not None:
                    group.create_task(self._discovery.run())
                else:
                    self._events.publish(discovery.of_urls(settings.supernode))
        finally:
            await self.health.stop()
            await self._cluster.close()

    async def _watch(self) -> None:
        await self._run_watch(self._inbox, self._kinds)


async def build(settings: Settings, pod_url: PodURL = discovery.service_url) -> App:
    """Build the operator with its real adapters."""
    cluster = await kubernetes.connect(settings.kubeconfig)

    def connect(url: str) -> HTTPSupernodeAPI:
        return HTTPSupernodeAPI(url, settings.token_file)

    async def run_watch(inbox: ResourceInbox, kinds: ServedKinds) -> None:
        await KopfWatch(inbox, kinds, cluster.login).run()

    return App(settings, cluster, connect, run_watch, SystemClock(), pod_url)
