"""Divides a scarce resource among tenants by their shares, and within a tenant equally among its clients. Pure.

The method is start-time fair queueing. Each flow has a *start*: how much it has received, divided by its share. The
waiting flow with the lowest start is served next. A flow that begins to wait gets a start as high as the start of the
item that was served last. So a flow gains nothing by time in which it did not wait.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

_FORGOTTEN_ABOVE = 256
"""With more flows than this, those that do not wait and are not ahead of the others are forgotten."""


class Claim(NamedTuple):
    """The tenant and the client for which an item waits."""

    tenant: str = ""
    share: float = 1.0
    """A tenant with twice the share gets twice as much, while both wait."""
    client: str = ""
    priority: int = 0
    """Within a tenant, items with a higher priority come first. Priorities of two tenants are not compared."""


class _Flow(Generic[T]):
    """One level of the queue: all tenants, one tenant, or one client. A client has items, the others have flows."""

    def __init__(self, rank: int = 0) -> None:
        self.rank = rank
        self.share = 1.0
        self.start = 0.0
        self.waiting = 0
        """The number of items that wait, in this flow and in its flows."""
        self.queued = False
        """True if the flow is in the heap of the flow to which it belongs."""
        self.items: deque[tuple[T, float]] = deque()
        self.flows: dict[object, _Flow[T]] = {}
        self._heap: list[tuple[int, float, int, _Flow[T]]] = []
        self._arrivals = 0
        self._now = 0.0
        """The start of the item that was served last."""
        self._latest = 0.0
        """The greatest start of a flow. When nothing waits, ``_now`` becomes this, so no flow is behind then."""

    def join(self, key: object, rank: int, slack: float) -> _Flow[T]:
        """The flow to which an item is added."""
        flow = self.flows.get(key)
        if flow is None:
            if len(self.flows) > _FORGOTTEN_ABOVE:
                self.flows = {key: each for key, each in self.flows.items() if each.queued or each.start > self._now}
            flow = self.flows[key] = _Flow(rank)
        if not flow.waiting:
            flow.start = max(flow.start, self._now - slack)
        if not flow.queued:
            self._push(flow)
        self.waiting += 1
        return flow

    def take(self) -> tuple[T, float]:
        """Remove the next item. Returns the item and its cost."""
        self.waiting -= 1
        if self.items:
            return self.items.popleft()
        while True:
            flow = heapq.heappop(self._heap)[-1]
            flow.queued = False
            if flow.waiting:
                break
        self._now = max(self._now, flow.start)
        item, cost = flow.take()
        flow.start += cost / flow.share
        self._latest = max(self._latest, flow.start)
        if not self.waiting:
            self._now = self._latest
        if flow.waiting:
            self._push(flow)
        return item, cost

    def _push(self, flow: _Flow[T]) -> None:
        self._arrivals += 1
        flow.queued = True
        heapq.heappush(self._heap, (flow.rank, flow.start, self._arrivals, flow))


class FairQueue(Generic[T]):
    """Items that wait for a resource. The ``cost`` of an item is the amount that it takes, in any unit.

    A flow that begins to wait keeps an advantage of at most ``slack``. So a flow that waits again a moment after its
    last item loses nothing. Only one thread at a time may use the queue.
    """

    def __init__(self, *, slack: float = 0.0) -> None:
        self._slack = slack
        self._tenants: _Flow[T] = _Flow()

    def __len__(self) -> int:
        return self._tenants.waiting

    def put(self, item: T, claim: Claim, cost: float) -> None:
        tenant = self._tenants.join(claim.tenant, 0, self._slack)
        tenant.share = claim.share
        flow = tenant.join((claim.priority, claim.client), -claim.priority, self._slack)
        flow.items.append((item, cost))
        flow.waiting += 1

    def pop(self) -> T:
        """Take the next item. Raises :class:`IndexError` if no item waits."""
        if not self._tenants.waiting:
            raise IndexError("no item waits")
        return self._tenants.take()[0]

    def discard(self, item: T, claim: Claim) -> None:
        """Remove an item that waits. Does nothing if it does not wait."""
        tenant = self._tenants.flows.get(claim.tenant)
        flow = None if tenant is None else tenant.flows.get((claim.priority, claim.client))
        if tenant is None or flow is None:
            return
        kept = deque(each for each in flow.items if each[0] is not item)
        removed = len(flow.items) - len(kept)
        flow.items = kept
        for each in (self._tenants, tenant, flow):
            each.waiting -= removed
