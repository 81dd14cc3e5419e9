"""Finds evidence for claims on cached blobs, with requests to registries.

A few equal bytes prove nothing, because a registry may know or guess them. So a repository that has not sent a blob
must send the whole blob once. There is one exception: the same registry allows the client to read the blob in a
repository that has sent it. So a layer that many repositories of a registry share is read once.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from urllib.parse import urlsplit

import structlog
from cachetools import TTLCache

from pantala_process.flight import cancel_all
from pantala_protocol import digest as digests
from pantala_protocol.image import ImageRepository
from pantala_protocol.rules.rights import BlobClaim, EvidenceKind, Rights, Ruling, Subject, related
from pantala_protocol.task_id import TaskID
from pantala_supernode.errors import (
    SourceForbiddenError,
    SourceNotFoundError,
    SourceUnauthorizedError,
    SupernodeError,
)
from pantala_supernode.images.blob import Offer
from pantala_supernode.images.sources import blob_source
from pantala_supernode.origin.body import Layout
from pantala_supernode.origin.places import HostPlaces
from pantala_supernode.origin.source import Resume, SourceReader
from pantala_supernode.registry.endpoint import RegistryEndpoints
from pantala_supernode.registry.errors import ImageNotFoundError, RegistryForbiddenError, RegistryUnauthorizedError
from pantala_supernode.tasks.copy import Copy, FileSource

_log = structlog.get_logger(__name__)

_SECONDS = 10.0
"""The time limit for a registry's answer."""
_QUESTIONS, _READS = 64, 8
"""The most questions, and the most reads of whole blobs, at the same time. A silent host gets a part of them."""
_READS_OF_ONE = 2
"""The most reads of whole blobs from one registry at the same time."""
_SLOWEST = 1024 * 1024
"""The bytes per second that a registry needs to send a whole blob in time."""
_ORIGINS = 4
"""The most origins that are asked for a claim on another repository. The latest origins are asked."""
_PAUSE, _PAUSES = 5.0, 10_000
"""Seconds without another question after a question without an answer, and the most such pauses at the same time."""
_BLOCK = 1024 * 1024

REFUSALS = (
    ImageNotFoundError,
    RegistryForbiddenError,
    RegistryUnauthorizedError,
    SourceForbiddenError,
    SourceNotFoundError,
    SourceUnauthorizedError,
)

Vouch = Callable[[TaskID, str, str], Awaitable[None]]
"""Records that a repository sent a whole blob. The arguments are the task ID, the copy's generation, the repository."""


class EvidenceFinder:
    """Asks registries about claims. For each claim, only one question is open. ``clock`` returns monotonic seconds."""

    def __init__(
        self,
        reader: SourceReader,
        endpoints: RegistryEndpoints,
        rights: Rights,
        vouch: Vouch,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._reader = reader
        self._endpoints = endpoints
        self._rights = rights
        self._vouch = vouch
        self._clock = clock
        self._questions: HostPlaces[str] = HostPlaces(_QUESTIONS, _QUESTIONS)
        self._reads: HostPlaces[str] = HostPlaces(_READS, _READS_OF_ONE)
        self._paused: TTLCache[tuple[Subject, str], bool] = TTLCache(_PAUSES, _PAUSE, timer=clock)
        self._running: dict[tuple[Subject, str], asyncio.Task[None]] = {}

    def find(self, copy: Copy, offer: Offer, ruling: Ruling, tell: Callable[[str], None]) -> None:
        """Find evidence for an offer's claim in the background. Then call ``tell`` with the copy's task ID."""
        key = (offer.claim.client, copy.generation)
        if key not in self._running and key not in self._paused:
            self._running[key] = asyncio.create_task(self._find(copy, offer, ruling, tell))

    async def close(self) -> None:
        await cancel_all(self._running.values())

    async def _find(self, copy: Copy, offer: Offer, ruling: Ruling, tell: Callable[[str], None]) -> None:
        key = (offer.claim.client, copy.generation)
        try:
            if ruling is Ruling.ASK:
                await self._ask(copy, offer)
            elif not await self._is_shared(copy, offer):
                await self._prove(copy, offer)
        except (SupernodeError, TimeoutError, ValueError) as error:
            self._paused[key] = True
            _log.info("cannot find evidence for a blob", task=copy.task_id, origin=offer.source, error=str(error))
        finally:
            self._running.pop(key, None)
        tell(copy.task_id)

    async def _ask(self, copy: Copy, offer: Offer) -> None:
        """Ask the repository of the claim, and grant or refuse. Raises :class:`SupernodeError` without an answer."""
        client, digest = offer.claim.client, offer.claim.digest
        try:
            await self._read_byte(copy, offer.source)
        except REFUSALS:
            self._rights.refuse(client, digest, self._clock())
        else:
            self._rights.grant(client, digest, EvidenceKind.ALLOWED, self._clock(), generation=copy.generation)

    async def _is_shared(self, copy: Copy, offer: Offer) -> bool:
        """True if the claim's registry gives the blob from another repository to the public, or to the client."""
        digest, client = offer.claim.digest, offer.claim.client
        for origin in related(offer.claim, copy.origins)[:_ORIGINS]:
            registry, _, name = origin.partition("/")
            url, public = self._endpoints.blob(ImageRepository(registry, name), digest), self._rights.subject(origin)
            with contextlib.suppress(SupernodeError, TimeoutError, ValueError):
                if not self._rights.is_refused(public, digest, self._clock()):
                    await self._ask(copy, Offer(blob_source(url, "", digest), BlobClaim(origin, digest, public)))
                if self._rights.find(public, digest, self._clock()) is not None:
                    return True
                await self._read_byte(copy, replace(offer.source, url=url))
                now, allowed = self._clock(), EvidenceKind.ALLOWED
                self._rights.grant(client, digest, allowed, now, generation=copy.generation, origin=origin)
                return True
        return False

    async def _read_byte(self, copy: Copy, source: FileSource) -> None:
        """Request the last byte of a blob. Returns if the registry sends this byte: then it allows the client.

        Raises :class:`SupernodeError`. Raises :class:`ValueError` for an answer of another length, such as a login
        page.
        """
        length = copy.length
        if length is None:
            raise ValueError("the blob's length is not known yet")
        resume = Resume(length - 1, length, "", copy.generation) if length else None
        async with (
            self._questions.place(urlsplit(source.url).netloc),
            asyncio.timeout(_SECONDS),
            self._reader.open(source, resume) as answer,
        ):
            if answer.length != length or answer.offset not in (0, length - 1):
                raise ValueError("the registry's answer has another length than the blob")

    async def _prove(self, copy: Copy, offer: Offer) -> None:
        """Read the whole blob without storing it. Raises :class:`SupernodeError`."""
        claim, length = offer.claim, copy.length or 0
        try:
            async with self._reads.place(offer.registry), asyncio.timeout(_SECONDS + length / _SLOWEST):
                same = await self._is_same(offer, length)
        except REFUSALS:
            self._rights.refuse(claim.client, claim.digest, self._clock())
            return
        if not same:
            _log.warning("a registry sent other bytes than the cached blob", task=copy.task_id, origin=offer.source)
            self._rights.refuse(claim.client, claim.digest, self._clock())
            return
        await self._vouch(copy.task_id, copy.generation, claim.repository)
        now = self._clock()
        self._rights.grant(claim.client, claim.digest, EvidenceKind.SENT, now, generation=copy.generation)

    async def _is_same(self, offer: Offer, length: int) -> bool:
        expected = digests.parse(offer.claim.digest)
        running, left = digests.new(expected.algorithm), length
        async with AsyncExitStack() as stack:
            answer = await stack.enter_async_context(self._reader.open(offer.source))
            if answer.offset or answer.length not in (None, length):
                return False
            blocks = await stack.enter_async_context(aclosing(answer.body.blocks(Layout(_BLOCK))))
            async for block in blocks:
                left -= len(block)
                if left < 0:
                    return False
                await asyncio.to_thread(running.update, block)
        return not left and running.hexdigest() == expected.hex
