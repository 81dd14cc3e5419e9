"""Runs one row: peers register, the supernode is told to distribute a file, and nodes fail and come back."""

import asyncio
import statistics
from dataclasses import dataclass

from simulate.clock import SimulatedLoop
from simulate.host import Host
from simulate.links import Link, Network
from simulate.peer import SimulatedPeer
from simulate.scenario import Scenario
from simulate.supernode import SimulatedSupernode

_REGISTERED = 30.0
"""Seconds for all peers to register before the statement."""
_LONGEST = 10.0
"""A run fails after so many line times."""


@dataclass(frozen=True)
class Outcome:
    """What one run has shown. Times are multiples of the line time."""

    peers: int
    slowest: float
    median: float
    supernode_copies: float
    border_copies: float
    """Copies of the file that crossed a border between zones."""
    origin: float
    exchanges: int
    exchanges_per_second: float
    exchanges_per_peer: float
    """Exchanges a second and peer."""
    core: float
    """The share of one core that the exchange uses on the supernode."""
    core_worst: float
    """The same in the worst second."""
    control_megabits: float
    failures: int
    returned: int
    """Nodes that lost power and came back."""
    slowest_returned: float
    """The slowest of them from its return on."""


class Swarm:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.loop = SimulatedLoop()
        self.network = Network(self.loop)
        self.supernode = SimulatedSupernode(scenario, self.loop, self.network)
        self.peers: dict[str, SimulatedPeer] = {}
        self.hosts: dict[str, Host] = {}
        self.times: dict[str, float] = {}
        """The seconds from the statement to the whole file, by peer. Without the nodes that lost power."""
        self.returned: dict[str, float] = {}
        """The same from the return on, for the nodes that lost power."""
        self._chance = scenario.chance()
        self._lost: set[str] = set()
        self._began = 0.0
        self._done = self.loop.create_future()

    def run(self) -> Outcome:
        """Raises :class:`TimeoutError` if a peer does not get the file."""
        try:
            return self.loop.run_until_complete(self._run())
        finally:
            self.loop.close()

    async def _run(self) -> Outcome:
        scenario, loop, supernode = self.scenario, self.loop, self.supernode
        rate = scenario.peer_rate
        for number in range(scenario.peers):
            name = f"peer-{number}"
            self.hosts[name] = Host(
                loop, self.network, scenario.zone_of(number), Link(rate), Link(rate), scenario.uploads
            )
            loop.at(loop.time() + self._chance.uniform(0.0, _REGISTERED / 2), self._start, name, "first")
        await loop.until(_REGISTERED)
        self._began = loop.time()
        before = supernode.exchanges, supernode.busy_seconds, supernode.control_bytes
        supernode.distribute(list(self.hosts))
        if scenario.churn:
            self._plan_loss()
        async with asyncio.timeout(_LONGEST * scenario.line_seconds):
            await self._done
        for peer in self.peers.values():
            peer.stop()
        seconds, line = loop.time() - self._began, scenario.line_seconds
        exchanges = supernode.exchanges - before[0]
        times = sorted(each / line for each in self.times.values())
        return Outcome(
            peers=scenario.peers,
            slowest=times[-1],
            median=statistics.median(times),
            supernode_copies=supernode.host.pieces_sent / scenario.geometry.pieces,
            border_copies=sum(peer.imported for peer in self.peers.values()) / scenario.geometry.pieces,
            origin=supernode.origin_bytes / scenario.size,
            exchanges=exchanges,
            exchanges_per_second=exchanges / seconds,
            exchanges_per_peer=exchanges / seconds / scenario.peers,
            core=(supernode.busy_seconds - before[1]) / seconds,
            core_worst=0.0,
            control_megabits=(supernode.control_bytes - before[2]) * 8e-6 / seconds,
            failures=sum(peer.failures for peer in self.peers.values()),
            returned=len(self.returned),
            slowest_returned=max(self.returned.values(), default=0.0) / line,
        )

    def _start(self, name: str, boot: str) -> None:
        self.peers[name] = SimulatedPeer(
            name, boot, self.hosts, self.supernode, self.scenario, self.loop, on_whole=self._on_whole
        )

    def _on_whole(self, peer: SimulatedPeer) -> None:
        now = self.loop.time()
        if peer.name in self._lost:
            self.returned[peer.name] = now - peer.began_at
        else:
            self.times[peer.name] = now - self._began
        if len(self.times) + len(self.returned) == self.scenario.peers and not self._done.done():
            self._done.set_result(None)

    def _plan_loss(self) -> None:
        """Let a node lose power after a random time."""
        rate = self.scenario.churn * self.scenario.peers / self.scenario.line_seconds
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
        self.loop.at(self.loop.time() + self.scenario.outage, self._return, name)

    def _return(self, name: str) -> None:
        self.hosts[name].powered = True
        self._start(name, "second")
