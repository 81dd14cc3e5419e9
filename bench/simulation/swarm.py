"""Runs one row: peers register, the supernode distributes a file, and nodes fail and come back."""

import asyncio
import contextlib
import logging
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from bench.simulation.clock import SimulatedLoop
from bench.simulation.host import Host
from bench.simulation.links import Link, Network
from bench.simulation.peer import SimulatedPeer
from bench.simulation.row import SimulatedRow
from bench.simulation.supernode import SimulatedSupernode

_REGISTERED = 30.0
"""Seconds for all peers to register before the statement."""
_LONGEST, _LEAST_LONGEST = 8.0, 120.0
"""A run fails after this many line times, but not before this many seconds."""


@dataclass(frozen=True)
class SwarmOutcome:
    """The results of one run. Times are multiples of the line time."""

    slowest: float
    median: float
    supernode_copies: float
    """Copies of the file that the supernode sent."""
    border_copies: float
    """Copies of the file that crossed a border between zones."""
    origin: float
    exchanges: float
    """Exchanges a second."""
    exchanges_per_peer: float
    """Exchanges a second and peer."""
    core: float
    """The share of one core that the exchange uses on the supernode."""
    longest_wait: float
    """The longest time in seconds that a request or an answer waited for the supernode's core."""
    answer_megabits: float
    """The rate of the answers on the supernode's link, in the direction of the pieces."""
    failures: float
    returned: float
    """Nodes that lost power and came back."""
    slowest_returned: float
    """The time of the slowest of these nodes, counted from its return."""


class SimulatedSwarm:
    """One run of a row."""

    def __init__(self, row: SimulatedRow) -> None:
        self._row = row
        self.loop = SimulatedLoop()
        self.network = Network(self.loop)
        self.supernode = SimulatedSupernode(row, self.loop, self.network)
        self.peers: dict[str, SimulatedPeer] = {}
        self.hosts: dict[str, Host] = {}
        self.times: dict[str, float] = {}
        """The seconds from the statement to the whole file, for each peer whose node kept its power."""
        self.returned: dict[str, float] = {}
        """The seconds from its return to the whole file, for each node that lost power."""
        self._chance = row.chance()
        self._lost: set[str] = set()
        self._began = 0.0
        self._done = self.loop.create_future()

    def run(self) -> SwarmOutcome:
        """Raises :class:`TimeoutError` if a peer does not get the file."""
        # the runner cancels all tasks at its end
        with _quiet(), asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            return runner.run(self._run())

    async def _run(self) -> SwarmOutcome:
        await self._register()
        self._began = self.loop.time()
        before = self.supernode.spent
        self.supernode.distribute(list(self.hosts))
        if self._row.churn:
            self._plan_loss()
        await self._wait()
        spent = [now - then for now, then in zip(self.supernode.spent, before, strict=True)]
        return self._outcome(self.loop.time() - self._began, *spent)

    async def _register(self) -> None:
        row, loop, rate = self._row, self.loop, self._row.peer_rate
        for number in range(row.peers):
            name = f"peer-{number}"
            self.hosts[name] = Host(loop, self.network, row.zone_of(number), Link(rate), Link(rate), row.uploads)
            loop.at(loop.time() + self._chance.uniform(0.0, _REGISTERED / 2), self._start, name, "first")
        await loop.until(_REGISTERED)

    async def _wait(self) -> None:
        """Wait until each peer has the file."""
        longest = max(_LONGEST * self._row.line_seconds, _LEAST_LONGEST)
        try:
            async with asyncio.timeout(longest):
                await self._done
        except TimeoutError:
            late = self._row.peers - len(self.times) - len(self.returned)
            raise TimeoutError(f"{late} peers lack pieces after {longest:.0f} s.") from None

    def _outcome(self, seconds: float, exchanges: float, core: float, answer_bytes: float) -> SwarmOutcome:
        row, line, pieces = self._row, self._row.line_seconds, self._row.geometry.pieces
        times = sorted(each / line for each in self.times.values())
        return SwarmOutcome(
            slowest=times[-1],
            median=statistics.median(times),
            supernode_copies=self.supernode.host.pieces_sent / pieces,
            border_copies=sum(peer.imported for peer in self.peers.values()) / pieces,
            origin=self.supernode.origin_bytes / row.size,
            exchanges=exchanges / seconds,
            exchanges_per_peer=exchanges / seconds / row.peers,
            core=core / seconds,
            longest_wait=self.supernode.longest_wait,
            answer_megabits=answer_bytes * 8e-6 / seconds,
            failures=sum(peer.failures for peer in self.peers.values()),
            returned=len(self.returned),
            slowest_returned=max(self.returned.values(), default=0.0) / line,
        )

    def _start(self, name: str, boot: str) -> None:
        self.peers[name] = SimulatedPeer(
            name, boot, self.hosts, self.supernode, self._row, self.loop, on_whole=self._on_whole
        )

    def _on_whole(self, peer: SimulatedPeer) -> None:
        now = self.loop.time()
        if peer.name in self._lost:
            self.returned[peer.name] = now - peer.began_at
        else:
            self.times[peer.name] = now - self._began
        if len(self.times) + len(self.returned) == self._row.peers and not self._done.done():
            self._done.set_result(None)

    def _plan_loss(self) -> None:
        """Let a node lose power after a random time."""
        rate = self._row.churn * self._row.peers / self._row.line_seconds
        self.loop.at(self.loop.time() + self._chance.expovariate(rate), self._lose)

    def _lose(self) -> None:
        self._plan_loss()
        name = self._chance.choice(list(self.hosts))
        if name in self._lost:
            return
        self._lost.add(name)
        self.times.pop(name, None)
        self.peers[name].power_off()
        for peer in self.peers.values():
            peer.on_provider_lost()
        self.loop.at(self.loop.time() + self._row.outage, self._return, name)

    def _return(self, name: str) -> None:
        self.hosts[name].powered = True
        self._start(name, "second")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Write only errors to the log. Otherwise each simulated peer would write lines."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        yield
    finally:
        structlog.configure(**before)
