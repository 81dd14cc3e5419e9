"""Fetches images that are ordered only into the peer's cache (depth ``Peer``), blob by blob."""

import asyncio
from collections.abc import Callable

from pantala_peer.download.jobs import PieceWaiters
from pantala_peer.images.errors import NodeDiskError, NodeDiskFullError, NodeFilesError, OrderError
from pantala_peer.images.ledger import OrderedImage
from pantala_peer.mirror.demand import BlobDemand, BlobOrigin
from pantala_protocol import task_id
from pantala_protocol.image import ImageRepository
from pantala_protocol.images import ImageBlob, NodeOrder
from pantala_protocol.reasons import Reason
from pantala_protocol.sync import DeliveryState

_PARALLEL = 4
"""The number of blobs of one image that are fetched at once. containerd fetches three at once."""

_AGAIN = 10.0
"""Seconds without a new piece until the demand for a blob is sent again."""


class CachedImages:
    """Fetches blobs into the cache.

    ``holds`` returns True if the blob with a digest is complete. ``held`` returns the cached bytes of a task.
    ``trouble`` returns why the disk rejects a task's pieces. ``None``: it does not.
    """

    def __init__(
        self,
        demand: BlobDemand,
        waiters: PieceWaiters,
        *,
        holds: Callable[[str], bool],
        held: Callable[[str], int],
        trouble: Callable[[str], DeliveryState | None],
    ) -> None:
        self._demand = demand
        self._waiters = waiters
        self._holds = holds
        self._held = held
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
        return all(self._holds(blob.digest) for blob in order.blobs)

    def bytes(self, order: NodeOrder) -> int:
        return sum(self._held(task_id.of_blob(digest)) for digest in {blob.digest for blob in order.blobs})

    async def _fetch(self, repository: ImageRepository, blob: ImageBlob, key: str, slots: asyncio.Semaphore) -> None:
        name, origin = task_id.of_blob(blob.digest), BlobOrigin(repository, blob.size, order=key)
        async with slots:
            with self._demand.reader(blob.digest, origin, 0) as reader:
                while not self._holds(blob.digest):
                    try:
                        async with asyncio.timeout(_AGAIN):
                            await self._waiters.wait(name)
                    except TimeoutError:
                        self._check(name, blob)
                        reader.stalled()

    def _check(self, name: str, blob: ImageBlob) -> None:
        """Raise :class:`OrderError` if nothing arrives because the node's disk rejects the pieces."""
        trouble = self._trouble(name)
        if trouble is None:
            return
        if trouble.reason == Reason.NODE_DISK_FULL:
            raise NodeDiskFullError(
                f"the peer's disk has no room for {blob.digest} ({blob.size} bytes): {trouble.message}"
            )
        if trouble.reason == Reason.NODE_FILES_EXHAUSTED:
            raise NodeFilesError(f"the peer cannot open a file for {blob.digest}: {trouble.message}")
        raise NodeDiskError(f"the peer's disk failed to store {blob.digest}: {trouble.message}")
