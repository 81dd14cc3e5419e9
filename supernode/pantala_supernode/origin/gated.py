"""Limits how many files are read at once, with fair shares for tenants.

An origin that is silent or very slow does not block files of other origins.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from pantala_protocol.redaction import RedactedURL
from pantala_supernode import errors
from pantala_supernode.origin.arrivals import Arrival
from pantala_supernode.origin.body import Body
from pantala_supernode.origin.limits import Gate, GatePlace, Use
from pantala_supernode.origin.source import Answer, Resume, SourceReader
from pantala_supernode.tasks.copy import FileSource
from pantala_supernode.tasks.shares import Shares


@dataclass(frozen=True, slots=True)
class Patience:
    """When an origin loses its place to a file that waits."""

    silent: float = 2.0
    """Seconds without an answer."""
    slow: float = 5.0
    """The length of a window in which the speed of a body is measured, in seconds."""
    minimum: int = 256 * 1024
    """Bytes of a body that must arrive in each window."""
    most_silent: int = 48
    """The most requests without a place that wait for an answer. With more, one request ends and is retried."""
    most_slow: int = 24
    """The most slow bodies without a place. Each may hold a block in memory."""


@dataclass(slots=True)
class _Lenders:
    """The requests that have lent their places, the oldest first."""

    most: int
    limits: dict[GatePlace, asyncio.Timeout] = field(default_factory=dict)

    def add(self, place: GatePlace, limit: asyncio.Timeout) -> None:
        """Lend a place. If too many places are lent, end the oldest such request of the tenant with the most."""
        if not place.held:
            return
        if len(self.limits) >= self.most:
            self.limits.pop(self._dispensable()).reschedule(0)
        self.limits[place] = limit
        place.give()

    def _dispensable(self) -> GatePlace:
        counts = Counter(place.claim.tenant for place in self.limits)
        return max(self.limits, key=lambda place: counts[place.claim.tenant] / place.claim.share)


class GatedReader:
    """Opens files with ``reader``. Each open file needs a place in ``gate``, and waits until it has one.

    A silent request lends its place to a file that waits. Once the answer has arrived, the request waits for a place
    again. A slow body lends its place too, and is then read without a place. If a tenant has more places than its
    share, its files lend their places as soon as another tenant waits.
    """

    def __init__(
        self,
        reader: SourceReader,
        gate: Gate,
        patience: Patience | None = None,
        shares: Shares | None = None,
    ) -> None:
        self._reader = reader
        self._gate = gate
        self._shares = shares or Shares()
        self._patience = patience or Patience()
        self._silent = _Lenders(self._patience.most_silent)
        self._slow = _Lenders(self._patience.most_slow)

    def followed(self, arrival: Arrival) -> SourceReader:
        """This reader for one copy. ``arrival`` is informed of the open requests."""
        return _FollowedReader(self, arrival)

    @asynccontextmanager
    async def open(
        self, source: FileSource, resume: Resume | None = None, arrival: Arrival | None = None
    ) -> AsyncIterator[Answer]:
        shown = RedactedURL(source.url)
        async with self._gate.place(self._shares.claim(source)) as place, AsyncExitStack() as stack:
            request = stack.enter_context((arrival or Arrival(shown)).asking())
            async with self._lending(place, self._silent, self._watch_silence(place), f"{shown} did not answer"):
                answer = await stack.enter_async_context(self._reader.open(source, resume))
            request.body = answer.body
            await place.take()
            async with self._lending(place, self._slow, self._watch_speed(place, answer.body), f"{shown} was slow"):
                yield answer

    @asynccontextmanager
    async def _lending(
        self, place: GatePlace, lenders: _Lenders, watch: Coroutine[None, None, None], what: str
    ) -> AsyncIterator[None]:
        """Let the gate lend the place to others. ``watch`` records the place's use. ``what`` describes the origin."""
        limit = asyncio.timeout(None)
        watching = asyncio.create_task(watch)
        try:
            async with limit:
                place.offer(lambda: lenders.add(place, limit))
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise errors.SourceTimeoutError.with_action(f"{what} while many other files waited for a place") from None
        finally:
            place.keep()
            watching.cancel()
            lenders.limits.pop(place, None)

    async def _watch_silence(self, place: GatePlace) -> None:
        place.use = Use.SILENT
        await asyncio.sleep(self._patience.silent)
        place.note(Use.WEAK)

    async def _watch_speed(self, place: GatePlace, body: Body) -> None:
        while True:
            before = body.received
            await asyncio.sleep(self._patience.slow)
            slow = body.received - before < self._patience.minimum
            place.note(Use.WEAK if slow else Use.BUSY)


@dataclass(frozen=True, slots=True)
class _FollowedReader:
    reader: GatedReader
    arrival: Arrival

    def open(self, source: FileSource, resume: Resume | None = None) -> AbstractAsyncContextManager[Answer]:
        return self.reader.open(source, resume, self.arrival)
