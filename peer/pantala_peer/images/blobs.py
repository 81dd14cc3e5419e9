"""Images that go no deeper than the peer's cache: each blob is wanted until it is whole, and then kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pantala_peer.images import subject
from pantala_peer.mirror.arrivals import Arrivals
from pantala_peer.mirror.ports import Hint
from pantala_peer.mirror.resource import Repository
from pantala_peer.mirror.wants import Wants
from pantala_protocol import task_id
from pantala_protocol.images import ImageBlob, NodeOrder

_AT_ONCE = 4
"""Blobs of an image that are wanted at a time: containerd takes three."""

_AGAIN = 10.0
"""Seconds without a piece until a blob is asked for again."""


class CachedImages:
    """Has blobs come into the cache. ``holds`` tells by digest whether one is whole, ``held`` the bytes of a task."""

    def __init__(
        self,
        wants: Wants,
        arrivals: Arrivals,
        *,
        holds: Callable[[str], bool],
        held: Callable[[str], int],
        release: Callable[[], None],
    ) -> None:
        self._wants = wants
        self._arrivals = arrivals
        self._holds = holds
        self._held = held
        self._release = release

    async def fetch(self, order: NodeOrder) -> None:
        """Have all its blobs here, however long it takes. Raises :class:`OrderError`."""
        repository = subject.read(order.image).repository
        slots = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for blob in order.blobs:
                group.create_task(self._fetch(repository, blob, order.key, slots))

    def holds(self, order: NodeOrder) -> bool:
        """Whether all are here."""
        return all(self._holds(blob.digest) for blob in order.blobs)

    def bytes(self, order: NodeOrder) -> int:
        """Of those blobs that are here."""
        return sum(self._held(task_id.of_blob(digest)) for digest in {blob.digest for blob in order.blobs})

    def release(self) -> None:
        """Other blobs are ordered than before."""
        self._release()

    async def _fetch(self, repository: Repository, blob: ImageBlob, key: str, slots: asyncio.Semaphore) -> None:
        name = task_id.of_blob(blob.digest)
        async with slots:
            with self._wants.want(blob.digest, Hint(repository, blob.size, order=key), 0) as want:
                while not self._holds(blob.digest):
                    try:
                        async with asyncio.timeout(_AGAIN):
                            await self._arrivals.wait(name)
                    except TimeoutError:
                        want.stalled()
