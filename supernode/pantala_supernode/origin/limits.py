"""Limits that all fetches share: concurrent requests to origins, and bytes per second."""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto

from pantala_process.fair import Claim

_WINDOW = 0.1
"""Seconds. A burst may have as many bytes as the rate allows in this time."""


class Use(Enum):
    """How the holder of a place uses it."""

    BUSY = auto()
    """The holder reads a body."""
    SILENT = auto()
    """The holder waits for an answer. A file of the same tenant with a higher priority may have the place."""
    WEAK = auto()
    """The holder has waited for long, or its body is slow. Any file may have the place."""


class GatePlace:
    """A place in a gate. A holder that has lent its place keeps its rank when it waits for a place again."""

    def __init__(self, gate: Gate, claim: Claim, arrival: int) -> None:
        self.claim = claim
        self.rank = -claim.priority, arrival
        self.held = False
        self.use = Use.BUSY
        self.lend: Callable[[], None] | None = None
        """Lends the place to another file. ``None``: the holder needs the place now."""
        self._gate = gate

    async def take(self) -> None:
        if not self.held:
            await self._gate.enter(self)

    def give(self) -> None:
        if self.held:
            self._gate.leave(self)

    def offer(self, lend: Callable[[], None]) -> None:
        """Allow the gate to take the place away with ``lend``, as soon as a file with a better claim waits."""
        self.lend = lend
        self._gate.balance()

    def note(self, use: Use) -> None:
        self.use = use
        self._gate.balance()

    def keep(self) -> None:
        """End the offer."""
        self.lend, self.use = None, Use.BUSY


class Gate:
    """Divides ``places`` places among tenants by their shares.

    A free place goes to the waiting tenant with the fewest places for its share. Within a tenant, it goes to the
    highest priority, then in order of arrival. A tenant above its share lends places to a tenant below it. Within a
    tenant, a file that waits for an answer lends its place to a file with a higher priority. See also :class:`Use`.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._arrivals = 0
        self._grants = 0
        self._holders: dict[GatePlace, None] = {}
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, list[tuple[tuple[int, int], GatePlace, asyncio.Future[None]]]] = {}
        self._last: dict[str, int] = {}
        """The number of the last grant of each tenant, counted over all tenants."""
        self._balancing = False

    @property
    def queue(self) -> int:
        return sum(not turn.done() for waiting in self._waiting.values() for _, _, turn in waiting)

    @property
    def spare(self) -> bool:
        """True if a place is free. Then no caller waits for a place."""
        return len(self._holders) < self._places

    def busy(self) -> bool:
        """True if any place is taken."""
        return bool(self._holders)

    @asynccontextmanager
    async def place(self, claim: Claim) -> AsyncIterator[GatePlace]:
        self._arrivals += 1
        place = GatePlace(self, claim, self._arrivals)
        await place.take()
        try:
            yield place
        finally:
            place.give()

    async def enter(self, place: GatePlace) -> None:
        if self.spare:
            self._grant(place)
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting.setdefault(place.claim.tenant, []), (place.rank, place, turn))
        self.balance()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the place was granted at the same moment: pass it on
                self.leave(place)
            raise

    def leave(self, place: GatePlace) -> None:
        place.held = False
        del self._holders[place]
        self._held[place.claim.tenant] -= 1
        found = self._next()
        if found is not None:
            _, following, turn = heapq.heappop(self._waiting[found.claim.tenant])
            self._grant(following)
            turn.set_result(None)

    def balance(self) -> None:
        """Let holders lend their places while files with better claims wait."""
        if self._balancing or self.spare:
            return
        self._balancing = True
        try:
            while (waiting := self._next()) is not None and (holder := self._lender(waiting.claim)) is not None:
                if holder.lend is not None:
                    holder.lend()
        finally:
            self._balancing = False

    def _grant(self, place: GatePlace) -> None:
        self._grants += 1
        tenant = place.claim.tenant
        place.held = True
        self._holders[place] = None
        self._held[tenant] += 1
        self._last[tenant] = self._grants

    def _next(self) -> GatePlace | None:
        """The waiting place that is granted next."""
        heads: list[GatePlace] = []
        for tenant, waiting in list(self._waiting.items()):
            while waiting and waiting[0][2].done():
                heapq.heappop(waiting)
            if waiting:
                heads.append(waiting[0][1])
            else:
                del self._waiting[tenant]
        if not heads:
            self._last.clear()
        return min(heads, key=lambda head: (self._load(head.claim), self._last.get(head.claim.tenant, 0)), default=None)

    def _lender(self, claim: Claim) -> GatePlace | None:
        """The holder that must lend its place to a file with ``claim``. ``None``: no holder must lend its place."""
        lenders = [each for each in self._holders if each.lend is not None and self._yields(each, claim)]
        return max(
            lenders,
            key=lambda each: (self._load(each.claim), each.use is not Use.BUSY, -each.claim.priority, each.rank[1]),
            default=None,
        )

    def _yields(self, holder: GatePlace, claim: Claim) -> bool:
        if holder.use is Use.WEAK:
            return True
        if holder.claim.tenant == claim.tenant:
            return holder.use is Use.SILENT and claim.priority > holder.claim.priority
        return self._load(claim, 1) < self._load(holder.claim)

    def _load(self, claim: Claim, more: int = 0) -> float:
        return (self._held[claim.tenant] + more) / claim.share


class Rate:
    """Limits the bytes per second of all callers together, in any thread.

    After a pause, the bytes of at most ``_WINDOW`` seconds may pass at once.
    """

    def __init__(self, bytes_per_second: float) -> None:
        self._bytes_per_second = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def reserve(self, amount: float) -> float:
        """Reserve the next ``amount`` bytes. Returns the seconds until they may pass."""
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - _WINDOW) + amount / self._bytes_per_second
            return max(0.0, self._free_at - now)
