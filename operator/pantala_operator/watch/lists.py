"""Full lists: at the start, after a gap in watching, and every few minutes, since watching may miss something."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from pantala_operator.backoff import Backoff
from pantala_operator.errors import ClusterError, ClusterNotFoundError
from pantala_operator.ports import ClusterAPI
from pantala_operator.resources.api import Node, PeerResource, TaskResource
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.watch.observation import Collection, Observation

log = structlog.get_logger(__name__)

R = TypeVar("R", TaskResource, Node, PeerResource, ImagePrefetch)


class FullLists:
    """Lists until cancelled; after each round ``done`` is called."""

    def __init__(
        self, cluster: ClusterAPI, observation: Observation, interval: float, done: Callable[[], None]
    ) -> None:
        """``interval``: seconds between two rounds that succeed."""
        self._cluster = cluster
        self._known = observation
        self._interval = interval
        self._done = done
        self._soon = asyncio.Event()
        self._told = False
        self.problem = "the first full list is not complete"
        """Why the last round failed; empty: it did not."""

    def hurry(self) -> None:
        """List as soon as possible."""
        self._soon.set()

    async def run(self) -> None:
        """List, for ever."""
        backoff = Backoff(1, 15)
        while True:
            self._soon.clear()
            try:
                await self._round()
            except ClusterError as error:
                if str(error) != self.problem:
                    log.warning("A full list failed; it is tried again", error=str(error))
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
            await self._list(self._known.nodes, self._cluster.list_nodes)
            await self._list(self._known.peers, self._cluster.list_peers)
            await self._list(self._known.tasks, self._cluster.list_tasks)
            await self._list(self._known.prefetches, self._prefetches)
        finally:
            self._done()

    async def _prefetches(self) -> list[ImagePrefetch]:
        """All of them: none, where their kind is not served."""
        try:
            found = await self._cluster.list_prefetches()
        except ClusterNotFoundError:
            if not self._told:
                log.warning("CRD imageprefetches.pantala.dev is not served: no image is prefetched; install crds/")
            self._told = True
            return []
        self._told = False
        return found

    async def _list(self, collection: Collection[R], read: Callable[[], Awaitable[list[R]]]) -> None:
        before = collection.begin_list()
        collection.end_list(before, await read())
