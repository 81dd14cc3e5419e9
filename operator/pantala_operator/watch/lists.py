"""Makes full lists at the start, when a watch starts, and every few minutes, because a watch may miss changes."""

import asyncio

import structlog

from pantala_operator.errors import ClusterError, ClusterNotFoundError
from pantala_operator.events import ListsRead, OperatorEvents, WatchStarted
from pantala_operator.ports import ClusterAPI, R
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_operator.resources.sources import SourcePolicy
from pantala_operator.watch.kinds import ServedKinds
from pantala_operator.watch.observation import KINDS, Observation
from pantala_process.backoff import Backoff, pause_until

log = structlog.get_logger(__name__)


_OPTIONAL: dict[type, str] = {
    ImagePrefetch: "The CRD imageprefetches.pantala.dev is not installed, so no image is prefetched. Apply crds/.",
    SourcePolicy: "The CRD sourcepolicies.pantala.dev is not installed, so no SourcePolicy is in force. Apply crds/.",
}


class FullLists:
    """Lists all watched kinds, stores them in the observation, and publishes ``ListsRead`` after each round."""

    def __init__(
        self,
        cluster: ClusterAPI,
        kinds: ServedKinds,
        observation: Observation,
        events: OperatorEvents,
        interval: float,
    ) -> None:
        """``kinds`` shows when the API server serves Pantala's resources.

        ``interval``: the longest pause in seconds after a successful round.
        """
        self._cluster = cluster
        self._kinds = kinds
        self._observation = observation
        self._events = events
        self._interval = interval
        self._soon = asyncio.Event()
        self._warned: set[type] = set()
        self.problem = "the first list has not ended"
        """Why the last round failed. Empty if it succeeded."""
        events.subscribe(WatchStarted, lambda _: self._soon.set())

    async def run(self) -> None:
        backoff = Backoff(1, 15)
        while True:
            await self._kinds.served()
            self._soon.clear()
            try:
                await self._round()
            except ClusterError as error:
                if str(error) != self.problem:
                    log.warning("A list of all objects failed. The operator retries.", error=str(error))
                self.problem = str(error)
                await backoff.pause()
                continue
            backoff.reset()
            self.problem = ""
            await pause_until(self._soon, self._interval)

    async def _round(self) -> None:
        try:
            for kind in KINDS.values():
                collection = self._observation.collection(kind)
                before = collection.begin_list()
                collection.end_list(before, await self._list(kind))
        finally:
            self._events.publish(ListsRead())

    async def _list(self, kind: type[R]) -> list[R]:
        """List all objects of a kind. The list is empty if the CRD of an optional kind is not installed."""
        try:
            found = await self._cluster.list_all(kind)
        except ClusterNotFoundError:
            if kind not in _OPTIONAL:
                raise
            if kind not in self._warned:
                log.warning(_OPTIONAL[kind])
            self._warned.add(kind)
            return []
        self._warned.discard(kind)
        return found
