"""Builds the operator from its parts, and runs them.

The watch and the full lists fill the observation. The control loop reads it, and plans Tasks, ImagePrefetches and
Peers. The writer sends their statuses to the API server, and the clients send statements to the supernodes.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog

from pantala_operator.adapters import kubernetes
from pantala_operator.adapters.probe import HTTPHealthProbe
from pantala_operator.adapters.supernode import HTTPSupernodeAPI
from pantala_operator.authority.endpoint import Authority, authority_of
from pantala_operator.console.history import ConditionHistory
from pantala_operator.console.overview import ConsoleOverview
from pantala_operator.console.server import ConsoleServer
from pantala_operator.control.details import Details
from pantala_operator.control.elector import Elector
from pantala_operator.control.guard import PlanGuard
from pantala_operator.control.loop import Loop
from pantala_operator.control.peers import PeerController, ReconnectGrace
from pantala_operator.control.prefetch import PrefetchController
from pantala_operator.control.sources import SourceController
from pantala_operator.control.tasks import TaskController
from pantala_operator.control.write_queue import WriteQueue
from pantala_operator.control.writer import Writer
from pantala_operator.errors import LeaseLostError, OperatorError
from pantala_operator.events import OperatorEvents
from pantala_operator.metrics import OperatorMetrics
from pantala_operator.plan.paths import PublishedPaths
from pantala_operator.plan.startup_taint import NodeRights
from pantala_operator.ports import Clock, ClusterAPI, HealthProbe, SystemClock
from pantala_operator.resources.api import Metadata
from pantala_operator.settings import Settings, parse
from pantala_operator.supernodes import discovery
from pantala_operator.supernodes.connections import Connect, SupernodeClients
from pantala_operator.supernodes.discovery import Discovery, PodURL
from pantala_operator.term import Term
from pantala_operator.traces import TaskTraces
from pantala_operator.watch.kinds import ServedKinds
from pantala_operator.watch.lists import FullLists
from pantala_operator.watch.observation import Observation, ResourceInbox
from pantala_operator.watch.registries import ImageResolver
from pantala_operator.watch.secrets import SecretReader
from pantala_operator.watch.silence import SilenceWatch
from pantala_operator.watch.stream import watch
from pantala_operator.watch.workloads import WorkloadWatch
from pantala_process import health, lifecycle, logs
from pantala_process.identity import ServerClock
from pantala_process.lifecycle import Stop
from pantala_process.tracing.collector import open_traces
from pantala_process.tracing.spans import NOWHERE, Traces
from pantala_protocol.redaction import RedactedURL

log = structlog.get_logger(__name__)

RunWatch = Callable[[ResourceInbox, ServedKinds], Coroutine[Any, Any, None]]
"""Puts watch events into the inbox until cancelled."""


_STALE = 60.0
"""The liveness probe fails if the control loop has begun no turn for this many seconds."""

_LOG_LEVELS = {
    # kopf logs a line for each object that it handles.
    **dict.fromkeys(("kopf.objects", "kopf.activities", "kopf._core", "aiohttp.access"), logging.WARNING),
    # kopf logs a traceback when a watch ends. The room ``watch`` reports the end in one line.
    **dict.fromkeys(("kopf._core.reactor.running", "kopf._core.reactor.orchestration"), logging.CRITICAL),
}


class App:
    """One operator: its parts, and its state for the health probes."""

    def __init__(
        self,
        settings: Settings,
        cluster: ClusterAPI,
        connect: Connect,
        run_watch: RunWatch,
        clock: Clock,
        pod_url: PodURL = discovery.service_url,
        authority: Authority | None = None,
        term: Term | None = None,
        probe: HealthProbe | None = None,
        traces: Traces = NOWHERE,
    ) -> None:
        """``pod_url`` returns the base URL of a supernode's pod. ``authority`` signs certificates for TLS.

        ``term``: the term of this replica, which ``cluster`` may use too. ``probe`` asks the health ports of silent
        peers. ``None``: it asks no peer. Nothing runs before :meth:`run`.
        """
        self._authority = authority
        self._traces = traces
        self._settings = settings
        self.term = term = Term(clock, alone=settings.lease is None) if term is None else term
        self._clock = clock
        self._cluster = cluster
        self._run_watch = run_watch
        self._observation = known = Observation(settings.namespace)
        self.events = events = OperatorEvents()
        self._inbox = ResourceInbox(known, events)

        self._kinds = ServedKinds(cluster, clock)
        self._lists = FullLists(cluster, self._kinds, known, events, settings.relist_interval)
        self._secrets = SecretReader(cluster, known, events, clock, settings.secret_grant)
        self._workloads = WorkloadWatch(cluster, clock, known.workloads, known.prefetches.items, events)
        self._discovery: Discovery | None = None
        if settings.supernode_statefulset:
            namespace, _, name = settings.supernode_statefulset.partition("/")
            self._discovery = Discovery(cluster, events, namespace, name, pod_url)

        self._elector: Elector | None = None
        if settings.lease is not None:
            namespace, _, name = settings.lease.partition("/")
            lease = Metadata(name, namespace)
            self._elector = Elector(cluster, term, known.supernodes, events, clock, lease, pod=settings.pod)

        self._clients = SupernodeClients(connect, events, clock, settings.supernode_patience, term)
        self._resolver = ImageResolver(known.supernodes, self._clients, events, clock)
        self._writes = WriteQueue(events, clock, term)
        writer = Writer(self._writes, cluster, known, events, clock, settings.progress_interval)

        grace, guard = ReconnectGrace(known, clock), PlanGuard(writer)
        paths = PublishedPaths(settings.root, settings.shared_paths)
        tasks = TaskController(known, writer, guard, paths, settings.quotas, traced=traces.enabled)
        node_rights = NodeRights(settings.startup_taints, settings.node_condition)
        prefetches = PrefetchController(known, clock, writer, guard, self._resolver, grace, node_rights)
        peers = PeerController(known, writer, guard, grace, clock)
        sources = SourceController(known, writer, guard)
        self.loop = Loop(known, events, self._clients, tasks, prefetches, peers, sources, clock, term)
        self._silence = None if probe is None else SilenceWatch(known, probe, events, clock, term)
        self.metrics = OperatorMetrics(known, events, term, self._writes, clock)
        if traces.enabled:
            TaskTraces(traces, known, events)
        self.details = Details(known, tasks, prefetches, clock)
        history = ConditionHistory(events, clock)
        self._console = ConsoleServer(ConsoleOverview(known, self.details, history, term, self._leader, clock))

    def _leader(self) -> str:
        return "" if self._elector is None else self._elector.leader

    def problems(self) -> list[str]:
        """The reasons why the operator is not ready. Empty if it is ready."""
        known = self._observation
        reasons = [self._kinds.problem]
        if not known.listed and not self._kinds.problem:
            reasons.append(f"the operator has not listed all objects yet: {self._lists.problem}")
        if self._authority is not None and self._authority.keeper.problem:
            reasons.append(f"certificates cannot be signed: {self._authority.keeper.problem}")
        if self._elector is not None:
            reasons.append(self._elector.problem)
        if self._discovery is not None and not known.supernodes.members:
            reasons.append(self._discovery.problem)
        return [reason for reason in reasons if reason]

    def stalled(self) -> list[str]:
        """The reasons why the liveness probe fails. Empty if it succeeds."""
        age = self._clock.monotonic() - self.loop.last_alive
        return [f"the control loop has not run for {age:.0f} s"] if age >= _STALE else []

    async def run(self) -> None:
        """Run until cancelled, or until an error that a restart may cure.

        Raises :class:`LeaseLostError` when another replica leads instead.
        """
        try:
            await self._run()
        except ExceptionGroup as errors:
            lost = errors.subgroup(LeaseLostError)
            if lost is None:
                raise
            raise LeaseLostError(str(lost.exceptions[0])) from None
        finally:
            await self._cluster.close()
            if self._traces.enabled:
                await asyncio.to_thread(self._traces.close)

    async def _run(self) -> None:
        settings = self._settings
        probes = health.serving(settings.health_listen, self.metrics.registry, ready=self.problems, alive=self.stalled)
        console = self._console.serving(settings.console_listen)
        async with probes as port, console as console_port, asyncio.TaskGroup() as group:
            supernodes = settings.supernode_statefulset or [str(RedactedURL(url)) for url in settings.supernode]
            log.info("The operator runs", supernodes=supernodes, health_port=port, console_port=console_port)
            for part in (
                self._kinds.run(),
                self._lists.run(),
                self._secrets.run(),
                self._workloads.run(),
                self._clients.run(),
                self._resolver.run(),
                self._writes.run(),
                self.loop.run(),
                self._run_watch(self._inbox, self._kinds),
            ):
                group.create_task(part)
            for optional in (self._silence, self._elector, self._authority, self._discovery):
                if optional is not None:
                    group.create_task(optional.run())
            if self._discovery is None:
                self.events.publish(discovery.of_urls(settings.supernode))


async def build(settings: Settings, pod_url: PodURL | None = None, probe: HealthProbe | None = None) -> App:
    """Build the operator with its real adapters. A test may replace ``pod_url`` and ``probe``."""
    clock = SystemClock()
    term, time = Term(clock, alone=settings.lease is None), ServerClock()
    cluster = await kubernetes.connect(settings.kubeconfig, term=term, clock=time)
    authority = authority_of(settings, cluster, time)
    tls = None if authority is None else authority.keeper.contexts
    if pod_url is None:
        pod_url = discovery.service_url if tls is None else discovery.secured_url

    def connect(url: str) -> HTTPSupernodeAPI:
        return HTTPSupernodeAPI(url, settings.token_file, tls)

    run_watch = partial(watch, find_login=cluster.login)
    probe = probe or HTTPHealthProbe(settings.peer_health_port)
    traces = open_traces("operator", os.environ)
    return App(settings, cluster, connect, run_watch, clock, pod_url, authority, term, probe, traces)


def main() -> None:
    """Run an operator until SIGTERM or SIGINT."""
    settings = lifecycle.settings("pantala-operator", parse)
    logs.configure(settings.log_level, _LOG_LEVELS)

    async def work() -> None:
        await (await build(settings)).run()

    async def life(stop: Stop) -> None:
        await lifecycle.until(stop.asked, work())

    lifecycle.run("pantala-operator", life, failures=(OperatorError, OSError))
