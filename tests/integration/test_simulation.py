"""The simulation: its links are never over-committed, and a swarm in it behaves as a swarm."""

import random
from collections.abc import Iterator

import pytest

from bench.simulation.clock import SimulatedLoop
from bench.simulation.links import Link, Network
from bench.simulation.row import SimulatedRow
from bench.simulation.swarm import SimulatedSwarm, SwarmOutcome
from pantala_supernode.sync.timing import SyncTiming

MEBIBYTE = 1024 * 1024


class WatchedSwarm(SimulatedSwarm):
    """A swarm whose links are checked ten times a second."""

    def __init__(self, row: SimulatedRow) -> None:
        super().__init__(row)
        self.fullest = 0.0
        """The greatest share of its rate that any link carried."""
        self._watch()

    def _watch(self) -> None:
        hosts = [self.supernode.host, *self.hosts.values()]
        for link in (link for host in hosts for link in (host.up, host.down)):
            self.fullest = max(self.fullest, sum(flow.rate for flow in link.flows) / link.rate)
        self.loop.at(self.loop.time() + 0.1, self._watch)


@pytest.fixture
def loop() -> Iterator[SimulatedLoop]:
    loop = SimulatedLoop()
    yield loop
    loop.close()


def run(loop: SimulatedLoop, seconds: float) -> None:
    loop.run_until_complete(loop.until(seconds))


def fair_rates(links: list[Link]) -> dict[object, float]:
    """Max-min fair rates of all transfers, computed from the whole network."""
    rates: dict[object, float] = {}
    left = {link: link.rate for link in links}
    open_flows = {link: list(link.flows) for link in links}
    while any(open_flows.values()):
        tightest = min(
            (link for link in links if open_flows[link]), key=lambda link: left[link] / len(open_flows[link])
        )
        share = left[tightest] / len(open_flows[tightest])
        for flow in list(open_flows[tightest]):
            rates[flow] = share
            for link in (flow.up, flow.down):
                open_flows[link].remove(flow)
                left[link] -= share
    return rates


def test_two_transfers_share_a_link_and_the_last_has_it_alone(loop: SimulatedLoop) -> None:
    network, sender = Network(loop), Link(100.0)
    ends: dict[str, float] = {}
    for name, size in (("small", 100.0), ("large", 300.0)):
        network.start(sender, Link(1000.0), size, lambda name=name: ends.setdefault(name, loop.time()))  # type: ignore[misc]
    run(loop, 10.0)
    assert {"small": pytest.approx(2.0), "large": pytest.approx(4.0)} == ends


def test_a_transfer_leaves_what_its_other_end_cannot_take(loop: SimulatedLoop) -> None:
    network, sender = Network(loop), Link(100.0)
    slow = network.start(sender, Link(10.0), 1000.0, lambda: None)
    fast = network.start(sender, Link(1000.0), 1000.0, lambda: None)
    assert (10.0, 90.0) == (slow.rate, fast.rate)


def test_a_stopped_transfer_makes_room(loop: SimulatedLoop) -> None:
    network, sender = Network(loop), Link(100.0)
    first = network.start(sender, Link(1000.0), 1000.0, lambda: pytest.fail("it was stopped"))
    second = network.start(sender, Link(1000.0), 1000.0, lambda: None)
    network.stop(first)
    network.stop(first)
    assert (100.0, 100.0) == (second.rate, sender.used)
    run(loop, 20.0)


@pytest.mark.parametrize("seed", range(5))
def test_random_transfers_get_nearly_their_fair_share(loop: SimulatedLoop, seed: int) -> None:
    chance, network = random.Random(seed), Network(loop)
    links = [(Link(chance.choice([50.0, 100.0])), Link(chance.choice([50.0, 100.0]))) for _ in range(20)]
    both = [link for pair in links for link in pair]
    carried = fair = 0.0

    def begin() -> None:
        (up, _), (_, down) = chance.sample(links, 2)
        network.start(up, down, chance.uniform(10.0, 100.0), begin)

    for _ in range(80):
        begin()
    for moment in range(1, 60):
        run(loop, moment / 5)
        assert max(sum(flow.rate for flow in link.flows) / link.rate for link in both) <= 1 + 1e-6
        assert all(sum(flow.rate for flow in link.flows) == pytest.approx(link.used) for link in both)
        carried += sum(link.used for link in both)
        fair += 2 * sum(fair_rates(both).values())
    assert 0.95 < carried / fair <= 1.02


def outcome_of(seed: int = 1, **more: object) -> SwarmOutcome:
    return SimulatedSwarm(SimulatedRow(30, size=8 * MEBIBYTE, seed=seed, **more)).run()  # type: ignore[arg-type]


def test_thirty_peers_complete_and_no_link_carries_too_much() -> None:
    swarm = WatchedSwarm(SimulatedRow(30, size=16 * MEBIBYTE))
    outcome = swarm.run()
    assert 0.99 < swarm.fullest <= 1 + 1e-6
    assert 30 == len(swarm.times)
    assert 1.0 == outcome.origin
    assert 1.0 <= outcome.supernode_copies < 2.0
    assert 1.045 < outcome.slowest < 1.35
    assert outcome.slowest < 1.1 * outcome.median


def test_a_seed_has_one_result() -> None:
    assert outcome_of(2) == outcome_of(2) != outcome_of(3)


def test_a_zone_imports_the_file_about_once() -> None:
    """Two of the three zones are without the supernode, so at least two copies cross a border."""
    assert 2 <= outcome_of(zones=3).border_copies < 3.5
    assert 0 == outcome_of().border_copies


def test_nodes_that_lose_power_do_not_stop_the_others() -> None:
    outcome = outcome_of(churn=0.1, outage=1.0)
    assert outcome.returned > 2
    assert outcome.slowest < 5
    assert outcome.slowest_returned < 10
    assert 1.0 == outcome.origin


def test_long_pauses_between_exchanges_starve_no_peer() -> None:
    """Peers that report every 3 s are neither taken for absent, nor blamed for full slots, nor left without work."""
    slow = SimulatedRow(
        30,
        size=16 * MEBIBYTE,
        peer_megabits=2,
        supernode_megabits=4,
        origin_megabits=4,
        timing=SyncTiming(share=0.1, most_pace=4.0),
    )
    outcome = SimulatedSwarm(slow).run()
    assert outcome.slowest < 1.4
    assert outcome.exchanges_per_peer < 0.6
