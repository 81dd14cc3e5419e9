"""Progress, places and scheduler: all counts stay right, and every peer finishes once faults stop."""

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pantala_protocol import ranges
from pantala_protocol.statement import CDNStatus
from pantala_protocol.task_id import TaskID
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.peer import SwarmPeer
from pantala_supernode.swarm.progress import ProgressManager
from pantala_supernode.swarm.scheduler import SchedulerManager
from pantala_supernode.swarm.task_progress import SUPERNODE, PeerProgress
from pantala_supernode.tasks.copy import Copy
from tests.support.examples import examples

TASK = TaskID("t")
PIECES = 24
ALL = (1 << PIECES) - 1
NAMES = [f"node{number}" for number in range(6)]

names = st.sampled_from(NAMES)
pieces = st.integers(min_value=0, max_value=PIECES - 1)
zones = st.sampled_from(["", "north", "south"])
limits = st.none() | st.sampled_from([0, 1, 3, 10**9])


def peer(name: str, zone: str = "", slots: int | None = None, downloads: int | None = None) -> SwarmPeer:
    return SwarmPeer(name, "10.0.0.1", 65002, b"k", zone, downloads=downloads, upload_slots=slots)


def copy_of(cached: int, *, whole: bool = False) -> Copy:
    return Copy(TASK, CDNStatus.SUCCESS if whole else CDNStatus.RUNNING, cached=cached)


def one_byte(_piece: int) -> int:
    return 1


class Swarm(RuleBasedStateMachine):
    """Peers of several zones join, leave, take, fail and lie, while the supernode's pieces arrive."""

    local_peer: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.progress = ProgressManager(self.local_peer)
        self.peers: dict[str, SwarmPeer] = {}
        self.now = 0.0
        self.is_late = False
        """A peer fetched without a place, so the supernode may serve more pieces than it has places."""
        self.policy = SchedulingPolicy()
        self.scheduler = SchedulerManager(
            self.progress, policy=self.policy, chance=random.Random(1), lookup=self.peers.get
        )
        self.task = self.progress.init_task(TASK)

    @rule(name=names, have=st.integers(min_value=0, max_value=ALL), zone=zones, slots=limits, downloads=limits)
    def comes(self, name: str, have: int, zone: str, slots: int | None, downloads: int | None) -> None:
        self.progress.release(name)  # as when a peer's process is another one
        self.progress.forget_peer(name)
        self.scheduler.forget(name)
        self.peers[name] = peer(name, zone, slots, downloads)
        self.progress.init_progress(TASK, name, have, zone=zone)

    @rule(name=names, how=st.sampled_from(["connected", "leaving", "port"]))
    def stops_to_serve(self, name: str, how: str) -> None:
        if name in self.peers:
            setattr(self.peers[name], how, how == "leaving")
            if how == "connected":
                self.progress.release(name)

    @rule(name=names)
    def is_forgotten(self, name: str) -> None:
        self.peers.pop(name, None)
        self.progress.forget_peer(name)
        self.scheduler.forget(name)

    @rule(count=st.integers(min_value=1, max_value=8))
    def is_cached(self, count: int) -> None:
        for piece in range(PIECES):
            if count and not self.task.copy.cached >> piece & 1:
                self.task.copy = copy_of(self.task.copy.cached | 1 << piece)
                count -= 1

    @rule(name=names, provider=st.none() | names)
    def asks(self, name: str, provider: str | None) -> None:
        client = self.task.peers.get(name)
        if client is None:
            return
        before, room = client.have | client.given_mask, self.scheduler.room(name)
        for info in self.scheduler.schedule(TASK, name, room=room, now=self.now, provider=provider):
            assert self.task.copy.cached >> info.piece & 1
            assert not before >> info.piece & 1
            if info.provider != SUPERNODE:
                assert info.provider != name
                assert self.peers[info.provider].can_serve
                assert self.task.peers[info.provider].served >> info.piece & 1
                assert self.progress.service[info.provider].booked <= self._slots(info.provider)
        assert self.is_late or len(client.given) <= max(
            1, min(self.peers[name].downloads or 4, self.policy.most_window)
        )

    @rule(name=names, some=st.sets(pieces, min_size=1, max_size=4), serves=st.booleans())
    def verifies(self, name: str, some: set[int], serves: bool) -> None:
        if name in self.task.peers:
            mask = sum(1 << piece for piece in some)
            self.scheduler.places.reported(TASK, name, mask, now=self.now)
            providers = self.progress.succeed(TASK, name, mask, one_byte, now=0.0, serves=serves)
            self.scheduler.served(name, providers or (), now=self.now)

    @rule(name=names, piece=pieces, corrupt=st.booleans(), own=st.booleans())
    def fails(self, name: str, piece: int, corrupt: bool, own: bool) -> None:
        if name in self.task.peers:
            provider = self.progress.fail(TASK, name, piece, blame=not own)
            if provider is not None and not own:
                self.scheduler.failed(name, provider, corrupt=corrupt, now=self.now)

    @rule(name=names, lost=st.integers(min_value=0, max_value=ALL))
    def lost_pieces(self, name: str, lost: int) -> None:
        if name in self.task.peers:
            self.progress.remove_pieces(TASK, name, lost)

    @rule()
    def content_changes(self) -> None:
        self.progress.restart_task(TASK)

    @rule(name=names, piece=pieces)
    def begins_to_fetch_from_the_supernode(self, name: str, piece: int) -> None:
        late = (
            name in self.task.peers and not (self.task.peers[name].expected | self.task.peers[name].have) >> piece & 1
        )
        self.scheduler.places.begun(TASK, name, piece, now=self.now)
        self.is_late = self.is_late or late

    @rule(name=names, piece=pieces, whole=st.booleans())
    def ends_to_fetch_from_the_supernode(self, name: str, piece: int, whole: bool) -> None:
        self.scheduler.places.ended(TASK, name, piece, whole=whole, now=self.now)

    @rule(seconds=st.floats(min_value=0, max_value=20))
    def unused_places_lapse(self, seconds: float) -> None:
        self.now += seconds
        self.scheduler.places.expire(self.now)

    @rule(seconds=st.floats(min_value=0, max_value=100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.scheduler.expire(self.now)

    def _elsewhere(self) -> list[PeerProgress]:
        return [client for name, client in self.task.peers.items() if name != self.local_peer]

    def _slots(self, name: str) -> int:
        reported = self.peers[name].upload_slots
        return self.policy.peer_uploads if reported is None else min(reported, self.policy.most_peer_uploads)

    @invariant()
    def bookings_are_those_given(self) -> None:
        near = self.task.peers.get(self.local_peer or "", PeerProgress())
        assert {SUPERNODE} >= {*near.given.values()}
        given = Counter(
            provider
            for client in self._elsewhere()
            for piece, provider in client.given.items()
            if client.expected >> piece & 1
        )
        booked = {name: service.booked for name, service in self.progress.service.items() if service.booked}
        assert given == booked
        assert given.total() - given[SUPERNODE] == self.progress.peer_bookings
        assert [len(client.given) for client in self.task.peers.values()] == [
            self.progress.outstanding(name) for name in self.task.peers
        ]
        assert self.is_late or booked.get(SUPERNODE, 0) <= self.policy.supernode_uploads

    @invariant()
    def what_lapsed_is_still_given(self) -> None:
        for client in self.task.peers.values():
            assert not client.lapsed & ~client.given_mask
            assert sum(1 << piece for piece in client.given) == client.given_mask

    @invariant()
    def busy_peers_expect_pieces(self) -> None:
        busy = [client for client in self._elsewhere() if client.expected]
        assert (len(busy), sum(client.seeds for client in busy)) == (self.task._busy, self.task._busy_seeds)

    @invariant()
    def copies_are_counted(self) -> None:
        counted = Counter(
            piece
            for client in self._elsewhere()
            for mask in (client.have, client.expected)
            for piece in ranges.members(mask)
        )
        assert [counted[piece] for piece in range(PIECES)] == [self.task.copies(piece) for piece in range(PIECES)]
        assert self.task.seeds == self.task.copy.cached & ~sum(1 << piece for piece in counted)

    @invariant()
    def providers_serve_something(self) -> None:
        providers = {name for name, client in self.task.peers.items() if client.served} - {self.local_peer}
        assert providers == {*self.task.providers}
        for name, zone in self.task.zones.items():
            inside = {client for client, progress in self.task.peers.items() if progress.zone == name}
            assert inside & providers == {*zone.providers}
            assert {*zone.free} == inside & {*self.task.free}
        assert {*self.task.free} == {name for name in providers if not self.task.peers[name].full}

    @invariant()
    def a_full_provider_has_pieces_booked(self) -> None:
        for name, client in self.task.peers.items():
            service = self.progress.service.get(name)
            assert not client.full or (service is not None and service.booked and TASK in service.full_in)

    @invariant()
    def zones_know_what_is_in_them(self) -> None:
        present: defaultdict[str, int] = defaultdict(int)
        for client in self._elsewhere():
            present[client.zone] |= client.have | client.expected
        present.pop("", None)
        assert present == {name: zone.present for name, zone in self.task.zones.items()}

    @invariant()
    def the_rarest_are_the_rarest(self) -> None:
        rarest = self.task.rarest_of(ALL)
        copies = [self.task.copies(piece) for piece in range(PIECES)]
        assert min(copies) == min(copies[piece] for piece in ranges.members(rarest))

    @precondition(lambda self: self.task.peers)
    @rule()
    def every_peer_finishes_once_faults_stop(self) -> None:
        """Some providers cannot serve, and some zones have none that can. A little time passes with each round."""
        self.task.copy = copy_of(ALL, whole=True)
        for name in self.task.peers:
            self.progress.release(name)
        for _ in range(PIECES * len(self.task.peers) * 2 + 8):
            self.now += 5
            self.scheduler.expire(self.now)
            for name in list(self.task.peers):
                for info in self.scheduler.schedule(TASK, name, room=self.scheduler.room(name), now=self.now):
                    providers = self.progress.succeed(TASK, name, 1 << info.piece, one_byte, now=0.0)
                    self.scheduler.served(name, providers or (), now=self.now)
            if all(client.have == ALL for client in self.task.peers.values()):
                return
        raise AssertionError("a peer does not finish although nothing fails")


class SwarmWithLocalPeer(Swarm):
    local_peer = NAMES[0]


TestSwarm = Swarm.TestCase
TestSwarmWithLocalPeer = SwarmWithLocalPeer.TestCase
TestSwarm.settings = TestSwarmWithLocalPeer.settings = settings(max_examples=examples(60), stateful_step_count=40)


class Simulation:
    """Peers that take pieces at the same pace, and the pieces by provider."""

    def __init__(self, *peers: SwarmPeer, local_peer: str = "") -> None:
        self.peers = {each.name: each for each in peers}
        self.progress = ProgressManager(local_peer)
        policy, chance = SchedulingPolicy(), random.Random(7)
        self.scheduler = SchedulerManager(self.progress, policy=policy, chance=chance, lookup=self.peers.get)
        self.task = self.progress.init_task(TASK)
        self.served = Counter[str]()
        self.crossings = 0
        """The pieces that entered a zone."""
        for each in peers:
            self.progress.init_progress(TASK, each.name, zone=each.zone)

    def run(self, rounds: int, *, pace: int | None = 1) -> None:
        """In each round every peer asks, then takes ``pace`` of its pieces. ``None``: all of them."""
        for _ in range(rounds):
            for name, asking in self.peers.items():
                for info in self.scheduler.schedule(TASK, name, room=self.scheduler.room(name), now=0.0):
                    provider = self.peers.get(info.provider)
                    self.crossings += provider is None or provider.zone != asking.zone
            for name in self.peers:
                for piece, source in list(self.task.peers[name].given.items())[:pace]:
                    self.served[source] += 1
                    self.progress.succeed(TASK, name, 1 << piece, one_byte, now=0.0)

    def check_whole(self) -> None:
        assert all(client.have == self.task.copy.cached for client in self.task.peers.values())


def test_each_piece_leaves_the_supernode_about_once() -> None:
    """For sixteen peers the supernode gives little more than one copy of each piece."""
    swarm = Simulation(*(peer(f"c{number}") for number in range(16)))
    swarm.task.copy = copy_of((1 << 256) - 1, whole=True)
    swarm.run(2000)
    swarm.check_whole()
    assert 16 * 256 == swarm.served.total()
    assert swarm.served[SUPERNODE] < 1.5 * 256


@pytest.mark.parametrize(
    ("local_peer", "expected"),
    [("", {SUPERNODE: 64, "elsewhere": 128}), ("b", {SUPERNODE: 64, "b": 64, "elsewhere": 64})],
)
def test_slow_pieces_leave_the_supernode_and_its_machine_once(local_peer: str, expected: dict[str, int]) -> None:
    """A slow origin: each new piece is sent to one peer, and the others take it from there."""
    swarm = Simulation(*map(peer, "bac"), local_peer=local_peer)
    for arrived in range(64):
        swarm.task.copy = copy_of(swarm.task.copy.cached | 1 << arrived)
        swarm.run(4, pace=None)
    served = Counter[str]()
    for provider, pieces in swarm.served.items():
        served[provider if provider in (SUPERNODE, local_peer) else "elsewhere"] += pieces
    assert expected == served


def test_each_piece_crosses_a_zones_border_about_once() -> None:
    """Four zones of eight peers: without zones each piece would cross about 28 times. The least is four."""
    swarm = Simulation(*(peer(f"{zone}{number}", zone) for zone in "nsew" for number in range(8)))
    swarm.task.copy = copy_of((1 << 128) - 1, whole=True)
    swarm.run(2000)
    swarm.check_whole()
    assert 4 * 128 <= swarm.crossings < 1.1 * 4 * 128
