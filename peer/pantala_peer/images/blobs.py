"""Fetches images that are ordered only into the peer's cache (depth ``Peer``), blob by blob."""

import asyncio
from collections.abc import Callable

from pantala_peer.cache.pieces import PieceCache
from pantala_peer.download.jobs import PieceWaiters
from pantala_peer.images.errors import OrderError
from pantala_peer.images.ledger import OrderedImage
from pantala_peer.mirror.demand import BlobDemand, BlobOrigin
from pantala_protocol import task_id
from pantala_protocol.image import ImageRepository
from pantala_protocol.images import ImageBlob, NodeOrder
from pantala_protocol.reasons import Reason
from pantala_protocol.rules import quantity
from pantala_protocol.sync import DeliveryState

_PARALLEL = 4
"""The number of blobs of one image that are fetched at once. containerd fetches three at once."""

_AGAIN = 10.0
"""Seconds without a new piece until the demand for a blob is sent again."""

_OF_DISK: dict[str, str] = {Reason.NODE_DISK_FULL: "NoSpace", Reason.NODE_FILES_EXHAUSTED: "NodeFilesExhausted"}
"""The reasons of an order that fails because of the node's disk or open files. All other orders have ``Failed``."""


class CachedImages:
    """Fetches blobs into the cache. ``trouble`` returns why the disk rejects a task's pieces. ``None``: it does not."""

    def __init__(
        self,
        cache: PieceCache,
        demand: BlobDemand,
        waiters: PieceWaiters,
        *,
        trouble: Callable[[str], DeliveryState | None],
    ) -> None:
        self._cache = cache
        self._demand = demand
        self._waiters = waiters
        self._trouble = trouble

    async def fetch(self, order: NodeOrder) -> None:
        """Fetch all blobs, without a time limit. Raises :class:`OrderError`."""
        repository = OrderedImage.of(order).repository
        slots = asyncio.Semaphore(_PARALLEL)
        failed: list[Exception] = []
        try:
            async with asyncio.TaskGroup() as group:
                for blob in order.blobs:
                    group.create_task(self._fetch(repository, blob, order.key, slots))
        except* OrderError as errors:
            failed.extend(errors.exceptions)
        if failed:
            raise failed[0]

    def holds(self, order: NodeOrder) -> bool:
        return all(self._cache.is_whole(task_id.of_blob(blob.digest)) for blob in order.blobs)

    def bytes(self, order: NodeOrder) -> int:
        return sum(self._cache.bytes_of(task_id.of_blob(digest)) for digest in {blob.digest for blob in order.blobs})

    async def _fetch(self, repository: ImageRepository, blob: ImageBlob, key: str, slots: asyncio.Semaphore) -> None:
        name, origin = task_id.of_blob(blob.digest), BlobOrigin(repository, blob.size, order=key)
        async with slots:
            with self._demand.reader(blob.digest, origin, 0) as reader:
                while not self._cache.is_whole(name):
                    try:
                        async with asyncio.timeout(_AGAIN):
                            await self._waiters.wait(name)
                    except TimeoutError:
                        self._check(name, blob)
                        reader.stalled()

    def _check(self, name: str, blob: ImageBlob) -> None:
        """Raise :class:`OrderError` if nothing arrives because the node cannot store the pieces."""
        trouble = self._trouble(name)
        if trouble is not None:
            what = f"the peer cannot store {blob.digest} ({quantity.render(blob.size)}B)"
            raise OrderError(f"{what}: {trouble.message}", _OF_DISK.get(trouble.reason, ""))
