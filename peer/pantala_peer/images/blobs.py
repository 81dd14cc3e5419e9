"""Images that go no deeper than the peer's cache: each blob is wanted until it is whole, and then kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pantala_peer.download.jobs import PieceWaiters
from pantala_peer.images import subject
from pantala_peer.images.errors import DiskError, NoSpaceError, OrderError
from pantala_peer.mirror.ports import Hint
from pantala_peer.mirror.resource import Repository
from pantala_peer.mirror.wants import Wants
from pantala_protocol import task_id
from pantala_protocol.images import ImageBlob, NodeOrder
from pantala_protocol.reasons import Reason
from pantala_protocol.sync import DeliveryState

_AT_ONCE = 4
"""Blobs of an image that are wanted at a time: containerd takes three."""

_AGAIN = 10.0
"""Seconds without a piece until a blob is asked for again."""


class CachedImages:
    """Has blobs come into the cache.

    ``holds`` tells by digest whether one is whole, ``held`` the bytes of a task, ``trouble`` why the disk does not keep
    a task's.
    """

    def __init__(
        self,
        wants: Wants,
        arrivals: PieceWaiters,
        *,
        holds: Callable[[str], bool],
        held: Callable[[str], int],
        trouble: Callable[[str], DeliveryState | None],
    ) -> None:
        self._wants = wants
        self._arrivals = arrivals
        self._holds = holds
        self._held = held
        self._trouble = trouble

    async def fetch(self, order: NodeOrder) -> None:
        """Have all its blobs here, however long it takes. Raises :class:`OrderError`."""
        repository = subject.read(order.image).repository
        slots = asyncio.Semaphore(_AT_ONCE)
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
        """Whether all are here."""
        return all(self._holds(blob.digest) for blob in order.blobs)

    def bytes(self, order: NodeOrder) -> int:
        """Of those blobs that are here."""
        return sum(self._held(task_id.of_blob(digest)) for digest in {blob.digest for blob in order.blobs})

    async def _fetch(self, repository: Repository, blob: ImageBlob, key: str, slots: asyncio.Semaphore) -> None:
        name = task_id.of_blob(blob.digest)
        async with slots:
            with self._wants.want(blob.digest, Hint(repository, blob.size, order=key), 0) as want:
                while not self._holds(blob.digest):
                    try:
                        async with asyncio.timeout(_AGAIN):
                            await self._arrivals.wait(name)
                    except TimeoutError:
                        self._check(name, blob)
                        want.stalled()

    def _check(self, name: str, blob: ImageBlob) -> None:
        """Nothing came for long: wait no longer if that is for the disk."""
        trouble = self._trouble(name)
        if trouble is None:
            return
        if trouble.reason == Reason.NODE_DISK_FULL:
            raise NoSpaceError(
                f"the peer's disk has no room for {blob.digest} ({blob.size} bytes): {trouble.message}; free space on "
                "the node, or order fewer images at depth Peer"
            )
        raise DiskError(f"the peer's disk does not keep {blob.digest}: {trouble.message}; check the node's disk")
