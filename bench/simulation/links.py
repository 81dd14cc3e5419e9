"""Links that transfers share, as TCP does: no link carries more than its rate, and each transfer gets its fair share.

A transfer uses the link up of its sender and the link down of its receiver. Its fair share of a link is the level of
max-min fairness. Some transfers are slower because of their other link. They leave their unused part to the others.

To compute all rates of the swarm again after each event would be exact, but too slow. This model computes only the
rates at the two links of the transfer that begins or ends. It also lowers transfers on other links that would carry too
much. So no link carries more than its rate. A link that gets free rate from another link uses it at its own next event.
"""

from collections.abc import Callable
from operator import attrgetter, itemgetter

from bench.simulation.clock import SimulatedLoop

_WORTHWHILE = 1.02
"""The least factor by which a rate is raised. Smaller changes take time and add little accuracy."""
_ROUNDING = 1e-3
"""The bytes that may be left at the end of a transfer."""


class Link:
    """One direction of a host's connection to the network. ``rate`` is in bytes a second."""

    __slots__ = ("flows", "rate", "used")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.used = 0.0
        """The sum of the rates of the transfers."""
        self.flows: list[Flow] = []

    def level(self, but: "Flow | None" = None) -> float:
        """The share of one more transfer, or of ``but``, if the other transfers do not get faster."""
        rates = [flow.rate for flow in self.flows if flow is not but]
        room, count = self.rate, len(rates) + 1
        level = room / count
        while rates:
            faster = [rate for rate in rates if rate > level]
            if len(faster) == len(rates):
                break
            room -= sum(rates) - sum(faster)
            rates, level = faster, room / (len(faster) + 1)
        return level


class Flow:
    """One transfer."""

    __slots__ = ("done", "down", "due", "left", "rate", "since", "up")

    def __init__(self, up: Link, down: Link, size: float, done: Callable[[], object], now: float) -> None:
        self.up = up
        self.down = down
        self.left = size
        """The bytes that were left at the moment ``since``."""
        self.done = done
        self.rate = 0.0
        self.since = now
        self.due = float("inf")
        """When the model checks the transfer next. The transfer does not end earlier."""


class Network:
    """Carries out transfers in virtual time."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop

    def start(self, up: Link, down: Link, size: float, done: Callable[[], object]) -> Flow:
        """Begin a transfer, and call ``done`` after its last byte."""
        flow = Flow(up, down, size, done, self._loop.time())
        rate = min(up.level(), down.level())
        up.flows.append(flow)
        down.flows.append(flow)
        self._set(flow, rate)
        self._limit(up)
        self._limit(down)
        return flow

    def stop(self, flow: Flow) -> None:
        """End a transfer before its last byte. ``done`` is not called. Idempotent."""
        if flow in flow.up.flows:
            self._remove(flow)

    def change(self, link: Link, rate: float) -> None:
        link.rate = rate
        self._limit(link)
        self._raise(link)

    def _remove(self, flow: Flow) -> None:
        up, down = flow.up, flow.down
        up.flows.remove(flow)
        down.flows.remove(flow)
        up.used -= flow.rate
        down.used -= flow.rate
        flow.due = flow.rate = 0.0
        if not up.flows:
            up.used = 0.0
        if not down.flows:
            down.used = 0.0
        self._raise(up)
        self._raise(down)

    def _raise(self, link: Link) -> None:
        """Share the free rate of a link among its transfers, as far as their other links allow."""
        room = link.rate - link.used
        if not link.flows or room < link.rate * 0.005:
            return
        wanted = []
        for flow in link.flows:
            other = flow.down if flow.up is link else flow.up
            wanted.append((max(other.level(flow), flow.rate), flow, other))
        wanted.sort(key=itemgetter(0))
        room, count = link.rate, len(wanted)
        for most, flow, other in wanted:
            rate = min(most, room / count)
            if rate > flow.rate * _WORTHWHILE:
                self._set(flow, rate)
                self._limit(other)
            room -= max(rate, flow.rate)
            count -= 1
        self._limit(link)

    def _limit(self, link: Link) -> None:
        """Lower the fastest transfers of a link to one level, if together they are too fast."""
        if link.used <= link.rate * (1 + 1e-9):
            return
        flows = sorted(link.flows, key=attrgetter("rate"))
        room, count = link.rate, len(flows)
        for flow in flows:
            level = room / count
            if flow.rate > level:
                self._set(flow, level)
            room -= flow.rate
            count -= 1

    def _set(self, flow: Flow, rate: float) -> None:
        now = self._loop.time()
        flow.left -= flow.rate * (now - flow.since)
        flow.since = now
        change = rate - flow.rate
        flow.up.used += change
        flow.down.used += change
        flow.rate = rate
        due = now + flow.left / rate
        if due < flow.due:  # the model finds a later end when it checks the transfer
            flow.due = due
            self._loop.at(due, self._look, flow, due)

    def _look(self, flow: Flow, due: float) -> None:
        if flow.due != due:
            return  # the transfer became faster, or has ended
        left = flow.left - flow.rate * (due - flow.since)
        if left > _ROUNDING:
            flow.due = due = due + left / flow.rate
            self._loop.at(due, self._look, flow, due)
            return
        self._remove(flow)
        flow.done()
