"""Divides a scarce resource among tenants by their shares, and within a tenant equally among its clients. Pure.

The method is start-time fair queueing. Each flow has a *start*: how much it has received, divided by its share. The
waiting flow with the lowest start is served next. A flow that begins to wait gets a start as high as the start of the
item that was served last. So a flow gains nothing by time in which it did not wait.
"""

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

_FORGOTTEN_ABOVE = 256
"""The number of flows or tenants above which those that do not wait, and have no debt, are forgotten."""


class Claim(NamedTuple):
    """The tenant and the client for which an item waits."""

    tenant: str = ""
    share: float = 1.0
    """A tenant with twice the share gets twice as much, while both wait."""
    client: str = ""
    priority: int = 0
    """Within a tenant, items with a higher priority come first. Priorities of two tenants are not compared."""


@dataclass(slots=True)
class _Flow(Generic[T]):
    """The waiting items of one client with one priority."""

    rank: int
    start: float = 0.0
    queued: bool = False
    """True if the flow is in the heap of its tenant."""
    items: deque[tuple[T, float]] = field(default_factory=deque)


@dataclass(slots=True)
class _Tenant(Generic[T]):
    share: float = 1.0
    start: float = 0.0
    now: float = 0.0
    latest: float = 0.0
    """The greatest start of a flow. It becomes ``now`` when nothing waits, so the next demand begins without debts."""
    waiting: int = 0
    arrivals: int = 0
    flows: dict[tuple[int, str], _Flow[T]] = field(default_factory=dict)
    heap: list[tuple[int, float, int, _Flow[T]]] = field(default_factory=list)

    def push(self, flow: _Flow[T]) -> None:
        self.arrivals += 1
        flow.queued = True
        heapq.heappush(self.heap, (flow.rank, flow.start, self.arrivals, flow))

    def take(self) -> tuple[T, float]:
        """The next item and its cost."""
        while True:
            flow = heapq.heappop(self.heap)[3]
            flow.queued = False
            if flow.items:
                break
        item, cost = flow.items.popleft()
        self.waiting -= 1
        self.now = max(self.now, flow.start)
        flow.start += cost
        self.latest = max(self.latest, flow.start)
        if not self.waiting:
            self.now = self.latest
        if flow.items:
            self.push(flow)
        elif len(self.flows) > _FORGOTTEN_ABOVE:
            self.flows = {key: each for key, each in self.flows.items() if each.queued or each.start > self.now}
        return item, cost


class FairQueue(Generic[T]):
    """Items that wait for a resource. The ``cost`` of an item is the amount that it takes, in any unit.

    A flow that begins to wait keeps an advantage of at most ``slack``. So a flow that waits again a moment after its
    last item loses nothing. Only one thread at a time may use the queue.
    """

    def __init__(self, *, slack: float = 0.0) -> None:
        self._slack = slack
        self._now = self._latest = 0.0
        self._waiting = 0
        self._tenants: dict[str, _Tenant[T]] = {}

    def __len__(self) -> int:
        return self._waiting

    def put(self, item: T, claim: Claim, cost: float) -> None:
        tenant = self._tenants.get(claim.tenant)
        if tenant is None:
            self._forget()
            tenant = self._tenants[claim.tenant] = _Tenant()
        tenant.share = claim.share
        if not tenant.waiting:
            tenant.start = max(tenant.start, self._now - self._slack)
        key = -claim.priority, claim.client
        flow = tenant.flows.get(key)
        if flow is None:
            flow = tenant.flows[key] = _Flow(-claim.priority)
        if not flow.items:
            flow.start = max(flow.start, tenant.now - self._slack)
        flow.items.append((item, cost))
        if not flow.queued:
            tenant.push(flow)
        tenant.waiting += 1
        self._waiting += 1

    def pop(self) -> T:
        """Take the next item. Raises :class:`IndexError` if no item waits."""
        waiting = [tenant for tenant in self._tenants.values() if tenant.waiting]
        if not waiting:
            raise IndexError("no item waits")
        tenant = min(waiting, key=lambda each: each.start)
        item, cost = tenant.take()
        self._now = max(self._now, tenant.start)
        tenant.start += cost / tenant.share
        self._latest = max(self._latest, tenant.start)
        self._waiting -= 1
        if not self._waiting:
            self._now = self._latest
        return item

    def discard(self, item: T, claim: Claim) -> None:
        """Remove an item that waits. Does nothing if it does not wait."""
        tenant = self._tenants.get(claim.tenant)
        flow = None if tenant is None else tenant.flows.get((-claim.priority, claim.client))
        if tenant is None or flow is None:
            return
        kept = deque(each for each in flow.items if each[0] is not item)
        removed = len(flow.items) - len(kept)
        flow.items = kept
        tenant.waiting -= removed
        self._waiting -= removed

    def _forget(self) -> None:
        """If there are many tenants, forget those that do not wait and have no debt."""
        if len(self._tenants) > _FORGOTTEN_ABOVE:
            self._tenants = {
                name: each for name, each in self._tenants.items() if each.waiting or each.start > self._now
            }
