"""Publishes complete files at their paths, and reports each delivery to the supernodes."""

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import structlog
from msgspec import structs

from pantala_peer.cache.publisher import PublicationRequest, Publisher
from pantala_peer.errors import DeliveryError, failed
from pantala_peer.events import FilePublished, PeerEvents
from pantala_peer.sync.supernodes import SupernodeSessions
from pantala_pieces.errors import StoreError, StoreFullError
from pantala_protocol import digest
from pantala_protocol.sync import Assignment, Delivery, DeliveryState, DeliveryStatus

_PUBLISHED = DeliveryState(DeliveryStatus.PUBLISHED)

log = structlog.get_logger()


class Deliveries:
    """Runs the publisher in one thread, because only one thread may use it."""

    def __init__(self, supernodes: SupernodeSessions, publisher: Publisher, events: PeerEvents) -> None:
        self._supernodes = supernodes
        self._events = events
        self._publisher = publisher
        self._thread = ThreadPoolExecutor(1, "tree")
        self._reported: dict[str, set[str]] = {}

    async def open(self) -> None:
        """Read the records of an earlier process. Raises :class:`StoreError`."""
        await self._in_thread(self._publisher.open)

    def tasks(self) -> set[str]:
        """The tasks with published files."""
        return self._publisher.tasks()

    async def publish(self, assignment: Assignment, source: Path) -> bool:
        """Publish a complete file at each of its paths, and report each result. Returns False if the disk was full."""
        sha256, fits = digest.parse(assignment.digest).hex, True
        for delivery in assignment.deliveries:
            request = PublicationRequest(delivery.path, assignment.task_id, source, sha256)
            began = time.monotonic()
            try:
                await self._in_thread(partial(self._publisher.publish, request))
            except (DeliveryError, StoreError) as error:
                log.warning("a file cannot be published; trying again later", path=delivery.path, error=str(error))
                self._report(assignment.task_id, delivery, failed(error))
                fits = fits and not isinstance(error, StoreFullError)
            else:
                self._report(assignment.task_id, delivery, _PUBLISHED)
                self._events.emit(FilePublished(assignment.task_id, delivery, time.monotonic() - began))
        return fits

    def report(self, assignment: Assignment, state: DeliveryState | None) -> None:
        """Report one state for all deliveries of a task. ``None``: not published yet, without an error."""
        for delivery in assignment.deliveries:
            self._report(assignment.task_id, delivery, state)

    async def withdraw(self, task_id: str, keep: Iterable[Delivery] = ()) -> list[str]:
        """Unpublish a task's files except at the paths in ``keep``. Return the removed paths. Raises StoreError."""
        kept = tuple(keep)
        paths, uids = {delivery.path for delivery in kept}, {delivery.uid for delivery in kept}
        removed = [path for path in self._publisher.paths(task_id) if path not in paths]
        for path in removed:
            await self._in_thread(partial(self._publisher.unpublish, path))
            log.info("unpublished a file", path=path)
        reported = self._reported.pop(task_id, set())
        for uid in reported - uids:
            self._supernodes.delivery(task_id, uid, None)
        if reported & uids:
            self._reported[task_id] = reported & uids
        return removed

    async def withdraw_changed(self, task_id: str) -> None:
        """Unpublish a file that changed on the disk. A failure is logged, not raised."""
        log.warning("a published file changed on the disk; unpublishing it and fetching it again", task=task_id)
        try:
            await self.withdraw(task_id)
        except StoreError as error:
            log.warning("a changed file cannot be unpublished", task=task_id, error=str(error))

    def close(self) -> None:
        """End the thread. Published files stay."""
        self._thread.shutdown()

    def _report(self, task_id: str, delivery: Delivery, state: DeliveryState | None) -> None:
        self._reported.setdefault(task_id, set()).add(delivery.uid)
        self._supernodes.delivery(task_id, delivery.uid, structs.replace(state, path=delivery.path) if state else None)

    async def _in_thread(self, operation: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, operation)
