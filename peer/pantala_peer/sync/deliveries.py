"""The files' appearance at their paths, and what is said of it to the supernodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import structlog
from msgspec import structs

from pantala_peer.cache.publish import Publisher, Wanted
from pantala_peer.errors import DeliveryError, failed
from pantala_peer.sync.reports import Reports
from pantala_pieces.errors import StoreError
from pantala_protocol import digest
from pantala_protocol.sync import Assignment, Delivery, DeliveryState, DeliveryStatus

_PUBLISHED = DeliveryState(DeliveryStatus.PUBLISHED)

log = structlog.get_logger()


class Deliveries:
    """Publishes through one thread, so that the publisher's records follow one another."""

    def __init__(self, reports: Reports, publisher: Publisher) -> None:
        self._reports = reports
        self._publisher = publisher
        self._thread = ThreadPoolExecutor(1, "tree")
        self._stated: dict[str, set[str]] = {}

    async def open(self) -> None:
        """Find what an earlier process published. Raises :class:`StoreError`."""
        await self._in_thread(self._publisher.open)

    def tasks(self) -> set[str]:
        """The tasks that something is published for."""
        return self._publisher.tasks()

    async def publish(self, assignment: Assignment, source: Path) -> None:
        """Let a whole file appear at each of its paths, and say so, or why not."""
        sha256 = digest.parse(assignment.digest).hex
        for delivery in assignment.deliveries:
            wanted = Wanted(delivery.path, assignment.task_id, source, sha256)
            try:
                await self._in_thread(partial(self._publisher.publish, wanted))
            except (DeliveryError, StoreError) as error:
                log.warning("a file cannot be published; trying again later", path=delivery.path, error=str(error))
                self._state(assignment.task_id, delivery, failed(error))
            else:
                self._state(assignment.task_id, delivery, _PUBLISHED)

    def state(self, assignment: Assignment, state: DeliveryState | None) -> None:
        """Say the same of all deliveries of a task; ``None``: nothing is wrong, and it is not there yet."""
        for delivery in assignment.deliveries:
            self._state(assignment.task_id, delivery, state)

    async def withdraw(self, task_id: str, keep: Iterable[Delivery] = ()) -> list[str]:
        """Unpublish a task's files, but those of ``keep``; tell the paths. Raises :class:`StoreError`."""
        kept = tuple(keep)
        paths, uids = {delivery.path for delivery in kept}, {delivery.uid for delivery in kept}
        gone = [path for path in self._publisher.paths(task_id) if path not in paths]
        for path in gone:
            await self._in_thread(partial(self._publisher.unpublish, path))
            log.info("unpublished a file", path=path)
        stated = self._stated.get(task_id, set())
        for uid in stated - uids:
            self._reports.delivery(task_id, uid, None)
        self._stated[task_id] = stated & uids
        if not self._stated[task_id]:
            del self._stated[task_id]
        return gone

    def close(self) -> None:
        """End the thread. Published files stay."""
        self._thread.shutdown()

    def _state(self, task_id: str, delivery: Delivery, state: DeliveryState | None) -> None:
        self._stated.setdefault(task_id, set()).add(delivery.uid)
        self._reports.delivery(task_id, delivery.uid, structs.replace(state, path=delivery.path) if state else None)

    async def _in_thread(self, operation: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, operation)
