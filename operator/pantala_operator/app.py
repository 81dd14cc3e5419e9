"""The operator, put together: the only place that knows all parts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from pantala_operator.adapters import kubernetes
from pantala_operator.adapters.clock import SystemClock
from pantala_operator.adapters.supernode import HTTPSupernode
from pantala_operator.conversation import Conversation
from pantala_operator.credentials import Credentials
from pantala_operator.handlers.watch import Watch
from pantala_operator.health import Health, Reach
from pantala_operator.listing import Listing
from pantala_operator.loop import Loop
from pantala_operator.observation import Observation
from pantala_operator.ports import Clock, Cluster, Inbox, Kinds, Supernode
from pantala_operator.settings import Settings, host_and_port
from pantala_operator.writer import Writer

log = structlog.get_logger(__name__)

Watching = Callable[[Inbox, Kinds, Callable[[], None]], Awaitable[None]]
"""Something that watches until cancelled: (inbox, whether our kinds are served, called when it begins)."""


class App:
    """Runs until cancelled."""

    def __init__(
        self,
        settings: Settings,
        cluster: Cluster,
        supernode: Supernode,
        clock: Clock,
        watching: Watching,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        """Wire the parts; nothing runs yet."""
        self._settings = settings
        self._watching = watching
        self._close = close
        observation = Observation()
        self._writer = Writer(cluster, observation, clock, settings.progress_interval)
        self.loop = Loop(observation, self._writer, clock, settings.root)
        self._conversation = Conversation(supernode, clock, settings.supernode_patience, self.loop.hear, self.loop.away)
        self.loop.attach(self._conversation)
        self._reach = Reach(cluster, clock)
        self._listing = Listing(cluster, observation, settings.relist_interval, self.loop.mark_all)
        self._credentials = Credentials(cluster, observation, clock, self.loop.mark_secret)
        self.health = Health(clock, lambda: self.loop.beat, self.problems)
        self._known = observation

    def problems(self) -> list[str]:
        """What keeps the operator from its work now."""
        known = self._known
        listed = known.tasks.listed and known.nodes.listed and known.peers.listed
        return [
            reason
            for reason in (self._reach.problem, "" if listed else f"no full list yet: {self._listing.problem}")
            if reason
        ]

    async def run(self) -> None:
        """Run; ends only by cancellation, or by a fault that a new process may not have."""
        host, port = host_and_port(self._settings.health_listen)
        try:
            port = await self.health.start(host, port)
            log.info("The operator runs", supernode=self._settings.supernode, health=f"{host}:{port}")
            async with asyncio.TaskGroup() as group:
                for part in (
                    self._reach.run(),
                    self._listing.run(),
                    self._credentials.run(),
                    self._conversation.listen(),
                    self._conversation.speak(),
                    self._conversation.watch(),
                    self._writer.run(),
                    self.loop.run(),
                    self._watch(),
                ):
                    group.create_task(part)
        finally:
            await self.health.stop()
            await self._close()

    async def _watch(self) -> None:
        await self._watching(self.loop, self._reach, self._listing.hurry)


async def build(settings: Settings) -> App:
    """Put the operator together from its real parts."""
    cluster = await kubernetes.connect(settings.kubeconfig)
    supernode = HTTPSupernode(settings.supernode, settings.token_file)

    async def watching(inbox: Inbox, kinds: Kinds, started: Callable[[], None]) -> None:
        await Watch(inbox, cluster.login, kinds, started).run()

    async def close() -> None:
        await supernode.close()
        await cluster.close()

    return App(settings, cluster, supernode, SystemClock(), watching, close)
