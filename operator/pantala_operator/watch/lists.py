"""Full lists: at the start, when a watch starts, and every few minutes, because a watch may miss changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from pantala_operator.backoff import Backoff
from pantala_operator.errors import ClusterError, ClusterNotFoundError
from pantala_operator.events import ListsRead, OperatorEvents, WatchStarted
from pantala_operator.ports import ClusterAPI
from pantala_operator.resources.api import Node, PeerResource, TaskResource
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.watch.observation import Collection, Observation

log = structlog.get_logger(__name__)

R = TypeVar("R", TaskResource, Node, PeerResource, ImagePrefetch)


class FullLists:
    """Lists all kinds into the observation, and publishes ``ListsRead`` after each round."""

    def __init__(self, cluster: ClusterAPI, observation: Observation, events: OperatorEvents, interval: float) -> None:
        """``interval``: seconds between two rounds that succeed."""
        self._cluster = cluster
        self._observation = observation
        self._events = events
        self._interval = interval
        self._soon = asyncio.Event()
        self._warned = False
        self.problem = "the first full list is not complete"
        """Why the last round failed; empty: it succeeded."""
        events.subscribe(WatchStarted, self._on_watch)

    def _on_watch(self, _: WatchStarted) -> None:
        self._soon.set()

    async def run(self) -> None:
        backoff = Backoff(1, 15)
        while True:
            self._soon.clear()
            try:
                await self._round()
            except ClusterError as error:
                if str(error) != self.problem:
                    log.warning("A full list failed. It is tried again.", error=str(error))
                self.problem = str(error)
                await backoff.pause()
                continue
            backoff.reset()
            self.problem = ""
            try:
                async with asyncio.timeout(self._interval):
                    await self._soon.wait()
            except TimeoutError:
                continue

    async def _round(self) -> None:
        try:
            await self._list(self._observation.nodes, self._cluster.list_nodes)
            await self._list(self._observation.peers, self._cluster.list_peers)
            await self._list(self._observation.tasks, self._cluster.list_tasks)
            await self._list(self._observation.prefetches, self._list_prefetches)
        finally:
            self._events.publish(ListsRead())

    async def _list_prefetches(self) -> list[ImagePrefetch]:
        """All ImagePrefetches; none while their kind is not served."""
        try:
            found = await self._cluster.list_prefetches()
        except ClusterNotFoundError:
            if not self._warned:
                log.warning("CRD imageprefetches.pantala.dev is not served: no image is prefetched; install crds/")
            self._warned = True
            return []
        self._warned = False
        return found

    async def _list(self, collection: Collection[R], read: Callable[[], Awaitable[list[R]]]) -> None:
        before = collection.begin_list()
        collection.end_list(before, await read())
