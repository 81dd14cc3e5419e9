"""Progress and scheduler: the books are right after anything, and every client finishes once faults stop."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pantala_protocol import ranges
from pantala_supernode.progress import ProgressManager
from pantala_supernode.scheduler import Policy, SchedulerManager
from pantala_supernode.swarm import SUPERNODE

TASK = "t"
PIECES = 24
ALL = (1 << PIECES) - 1
NAMES = [f"node{number}" for number in range(6)]

names = st.sampled_from(NAMES)
pieces = st.integers(min_value=0, max_value=PIECES - 1)


class Swarm(RuleBasedStateMachine):
    """Clients come, go, take, fail and lie; the supernode's pieces arrive meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.progress = ProgressManager()
        self.there: set[str] = set()
        self.now = 0.0
        self.policy = Policy()
        self.scheduler = SchedulerManager(
            self.progress, policy=self.policy, chance=random.Random(1), can_serve=lambda name: name in self.there
        )
        self.task = self.progress.init_task(TASK)
        self.task.arriving = True

    @rule(name=names, have=st.integers(min_value=0, max_value=ALL))
    def comes(self, name: str, have: int) -> None:
        self.progress.init_progress(TASK, name, have)
        self.there.add(name)

    @rule(name=names)
    def goes_away(self, name: str) -> None:
        self.there.discard(name)
        self.progress.release(name)

    @rule(name=names)
    def is_forgotten(self, name: str) -> None:
        self.there.discard(name)
        self.progress.forget_peer(name)
        self.scheduler.forget(name)

    @rule(count=st.integers(min_value=1, max_value=8))
    def is_cached(self, count: int) -> None:
        for piece in range(PIECES):
            if count and not self.task.cached >> piece & 1:
                self.task.cached |= 1 << piece
                count -= 1

    @rule(name=names)
    def asks(self, name: str) -> None:
        client = self.task.clients.get(name)
        if client is None:
            return
        before = client.have | client.given_mask
        room = self.scheduler.room(name)
        for info in self.scheduler.schedule(TASK, name, room=room, now=self.now):
            assert self.task.cached >> info.piece & 1
            assert not before >> info.piece & 1
            if info.provider != SUPERNODE:
                assert info.provider != name
                assert info.provider in self.there
                assert self.task.clients[info.provider].have >> info.piece & 1
        assert len(client.given) <= self.policy.window

    @rule(name=names, piece=pieces)
    def verifies(self, name: str, piece: int) -> None:
        if name in self.task.clients:
            self.progress.succeed(TASK, name, 1 << piece, lambda _piece: 1)

    @rule(name=names, piece=pieces, corrupt=st.booleans(), own=st.booleans())
    def fails(self, name: str, piece: int, corrupt: bool, own: bool) -> None:
        if name in self.task.clients:
            provider = self.progress.fail(TASK, name, piece, blame=not own, corrupt=corrupt)
            if provider is not None and not own:
                self.scheduler.failed(name, provider, now=self.now)

    @rule(name=names, lost=st.integers(min_value=0, max_value=ALL))
    def lost_pieces(self, name: str, lost: int) -> None:
        if name in self.task.clients:
            self.progress.lose(TASK, name, lost)

    @rule()
    def content_changes(self) -> None:
        self.progress.restart_task(TASK)

    @rule(seconds=st.floats(min_value=0, max_value=100))
    def time_goes_by(self, seconds: float) -> None:
        self.now += seconds
        self.scheduler.expire(self.now)

    @invariant()
    def bookings_are_those_given(self) -> None:
        given = Counter(provider for client in self.task.clients.values() for provider in client.given.values())
        booked = {name: service.booked for name, service in self.progress.service.items() if service.booked}
        assert {name: count for name, count in given.items() if name in self.progress.service} == booked
        assert booked.get(SUPERNODE, 0) <= self.policy.supernode_uploads
        assert all(count <= self.policy.peer_uploads for name, count in booked.items() if name != SUPERNODE)

    @invariant()
    def copies_are_counted(self) -> None:
        counted = Counter(
            piece
            for client in self.task.clients.values()
            for mask in (client.have, client.given_mask)
            for piece in ranges.members(mask)
        )
        assert [counted[piece] for piece in range(PIECES)] == [self.task.copies(piece) for piece in range(PIECES)]
        assert self.task.seeds == self.task.cached & ~sum(1 << piece for piece in counted)
        assert sorted(self.task.members) == sorted(self.task.clients)

    @invariant()
    def the_rarest_are_the_rarest(self) -> None:
        rarest = self.task.rarest_of(ALL)
        copies = [self.task.copies(piece) for piece in range(PIECES)]
        assert min(copies) == min(copies[piece] for piece in ranges.members(rarest))

    @precondition(lambda self: self.task.clients)
    @rule()
    def everybody_finishes_once_faults_stop(self) -> None:
        self.now += 1000
        self.scheduler.expire(self.now)
        self.task.cached, self.task.arriving = ALL, False
        self.there = set(self.task.clients)
        for name in self.there:
            self.progress.release(name)
        for _ in range(PIECES * len(self.there) + 1):
            for name in self.there:
                for info in self.scheduler.schedule(TASK, name, room=self.scheduler.room(name), now=self.now):
                    self.progress.succeed(TASK, name, 1 << info.piece, lambda _piece: 1)
            if all(client.have == ALL for client in self.task.clients.values()):
                return
        raise AssertionError("a client does not finish although nothing fails")


TestSwarm = Swarm.TestCase
TestSwarm.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_each_seed_leaves_the_supernode_about_once_in_a_swarm() -> None:
    """Sixteen clients at the same pace: the supernode gives little more than one copy of each piece."""
    progress, chance = ProgressManager(), random.Random(7)
    scheduler = SchedulerManager(progress, policy=Policy(), chance=chance, can_serve=lambda _name: True)
    task = progress.init_task(TASK)
    task.cached = (1 << 256) - 1
    clients = [f"c{number}" for number in range(16)]
    for name in clients:
        progress.init_progress(TASK, name)
    served = Counter[str]()
    for _ in range(2000):
        for name in clients:
            scheduler.schedule(TASK, name, room=scheduler.room(name), now=0.0)
        for name in clients:
            given = list(task.clients[name].given.items())
            for piece, provider in given[:1]:
                served[provider] += 1
                progress.succeed(TASK, name, 1 << piece, lambda _piece: 1)
    assert all(client.have == task.cached for client in task.clients.values())
    assert 16 * 256 == sum(served.values())
    assert served[SUPERNODE] < 1.5 * 256


def test_pieces_that_arrive_slowly_leave_the_supernode_once() -> None:
    """A slow origin: each new piece goes to one client, and the others take it from there."""
    progress, chance = ProgressManager(), random.Random(7)
    scheduler = SchedulerManager(progress, policy=Policy(), chance=chance, can_serve=lambda _name: True)
    task = progress.init_task(TASK)
    task.arriving = True
    clients = ["a", "b", "c"]
    for name in clients:
        progress.init_progress(TASK, name)
    served = Counter[str]()
    for arrived in range(64):
        task.cached |= 1 << arrived
        for _ in range(3):
            for name in clients:
                scheduler.schedule(TASK, name, room=scheduler.room(name), now=0.0)
            for name in clients:
                for piece, provider in list(task.clients[name].given.items()):
                    served["supernode" if provider == SUPERNODE else "peers"] += 1
                    progress.succeed(TASK, name, 1 << piece, lambda _piece: 1)
    assert {"supernode": 64, "peers": 128} == served
