"""One conversation with each supernode, one word of all of them, and reports for those whom they concern."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from functools import partial
from types import TracebackType
from typing import Self

import pytest

from pantala_peer.errors import ExchangeError
from pantala_peer.events import Assigned, ImagesOrdered, PeerEvents, WorkGiven
from pantala_peer.sync import supernodes
from pantala_peer.sync.connection import SyncConnection
from pantala_peer.sync.session import PeerIdentity
from pantala_peer.sync.supernodes import SupernodeSessions
from pantala_protocol.images import NodeOrders, PullPhase, PullState, RuntimeState
from pantala_protocol.membership import Member, Membership
from pantala_protocol.sync import (
    Assignment,
    Delivery,
    DeliveryState,
    DeliveryStatus,
    Held,
    PieceFailure,
    SyncAnswer,
    SyncRequest,
    Wanted,
    Work,
)
from tests.support.eventually import eventually
from tests.support.peer import node_state

TASK, OTHER = "a" * 64, "b" * 64
MOVED = "c" * 64
"""Belongs to the last of three, else to the second of two."""
NAMES = ("s-0", "s-1", "s-2")
PUBLISHED = DeliveryState(DeliveryStatus.PUBLISHED)
WORK = Work(TASK, "g", 0, 0, 1, "00", "h", 1, "t")


def membership(revision: int, *names: str) -> Membership:
    return Membership(revision, tuple(Member(name, f"http://{name}") for name in names))


class FakeSupernode:
    """Says its assignments when they changed, and else holds the exchange until a newer one comes."""

    def __init__(self, name: str) -> None:
        self.boot = f"{name}-boot"
        self.key = name.encode().hex()
        self.revision = 0
        self.assignments: tuple[Assignment, ...] | None = None
        self.membership: Membership | None = None
        self.work: tuple[Work, ...] = ()
        self.images: NodeOrders | None = None
        self.away = False
        self.requests: list[SyncRequest] = []
        self.under_way = 0
        self._latest = 0
        self._news = asyncio.Event()

    def say(self, *assignments: Assignment, membership: Membership | None = None) -> None:
        self.assignments, self.membership = assignments, membership or self.membership
        self.revision += 1
        self.wake()

    def give(self, *work: Work) -> None:
        self.work = work
        self.wake()

    def wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        self.requests.append(request)
        self._latest = max(self._latest, request.seq)
        self.wake()
        self.under_way += 1
        try:
            while not (self._says_something(request) or self._latest > request.seq or self.away):
                await self._news.wait()
        finally:
            self.under_way -= 1
        if self.away:
            raise ExchangeError("away")
        told = None if self._knows(request) else self.assignments
        work, self.work = self.work, ()
        return SyncAnswer(
            self.boot,
            request.seq,
            self.key,
            revision=self.revision,
            assignments=told,
            work=work,
            membership=self.membership if told is not None else None,
            images=self.images if self._ordered(request) else None,
        )

    def order(self, revision: int) -> None:
        self.images = NodeOrders(revision)
        self.wake()

    def _ordered(self, request: SyncRequest) -> bool:
        heard = request.images if request.supernode == self.boot else 0
        return self.images is not None and self.images.revision != heard

    def _knows(self, request: SyncRequest) -> bool:
        return (request.supernode, request.revision) == (self.boot, self.revision)

    def _says_something(self, request: SyncRequest) -> bool:
        return bool(self.work or request.leaving or self._ordered(request) or not self._knows(request))


class Line(SyncConnection):
    """A connection to a fake."""

    def __init__(self, url: str, fake: FakeSupernode, opened: set[str]) -> None:
        super().__init__(url, token_file=None, timeout=1.0)
        self._name, self._fake, self._opened = url, fake, opened

    async def sync(self, request: SyncRequest) -> SyncAnswer:
        assert self._name in self._opened
        return await self._fake.sync(request)

    async def __aenter__(self) -> Self:
        self._opened.add(self._name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.discard(self._name)


class Stage:
    """Supernodes s-0, s-1, s-2; the given address leads to s-0."""

    def __init__(self) -> None:
        self.fakes = {name: FakeSupernode(name) for name in NAMES}
        self.at = {f"http://{name}": fake for name, fake in self.fakes.items()} | {"http://any": self.fakes["s-0"]}
        self.opened: set[str] = set()
        self.held: dict[str, Held] = {}
        self.assigned: dict[str, Assignment] = {}
        self.complete: list[bool] = []
        self.seen: list[set[str]] = []
        self.given: list[tuple[Work, str]] = []
        events = PeerEvents()
        events.subscribe(Assigned, self.assign)
        events.subscribe(WorkGiven, lambda event: self.given.append((event.work, event.supernode)))
        events.subscribe(ImagesOrdered, lambda event: self.ordered.append(event.orders.revision))
        self.supernodes = SupernodeSessions(
            "http://any",
            PeerIdentity("node", "boot", "", "0", 4, 4),
            events,
            connect=lambda url: Line(url, self.at[url], self.opened),
            rng=random.Random(1),
        )
        self.ordered: list[int] = []
        self.running: asyncio.Task[None]

    async def stop(self) -> None:
        """End the conversations, as who composes does."""
        self.running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.running

    def assign(self, event: Assigned) -> None:
        self.assigned = event.tasks
        self.complete.append(event.complete)
        self.seen.append(set(event.tasks) if event.complete else {TASK})

    def all_say(self, members: Membership, **assignments: tuple[Assignment, ...]) -> None:
        for name, fake in self.fakes.items():
            fake.say(*assignments.get(name.replace("-", ""), ()), membership=members)

    async def until_complete(self) -> None:
        await eventually(lambda: bool(self.complete) and self.complete[-1])

    async def quiet(self) -> None:
        """Each exchange is held, and nothing is left to say."""
        await asyncio.sleep(0.7)

    def counts(self) -> list[int]:
        return [len(self.fakes[name].requests) for name in NAMES]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    made = Stage()
    made.running = asyncio.create_task(made.supernodes.run(node_state(made.held)))
    yield made
    await made.stop()
    assert set() == made.opened


async def test_one_that_names_no_members_is_the_only_one(stage: Stage) -> None:
    stage.fakes["s-0"].say(Assignment(TASK, "g"))
    await stage.until_complete()
    assert {TASK: Assignment(TASK, "g")} == stage.assigned
    assert {"http://any"} == stage.opened


async def test_whoever_answers_first_names_the_members_and_each_is_spoken_with(stage: Stage) -> None:
    stage.all_say(membership(1, *NAMES), s0=(Assignment(TASK, "g"),), s2=(Assignment(OTHER, "h"),))
    await stage.until_complete()
    await eventually(lambda: len(stage.opened) == 3)
    assert {f"http://{name}" for name in NAMES} == stage.opened
    assert {TASK: Assignment(TASK, "g"), OTHER: Assignment(OTHER, "h")} == stage.assigned
    assert {name.encode() for name in NAMES} == set(stage.supernodes.keys())
    await stage.quiet()
    before = stage.counts()
    await asyncio.sleep(0.6)
    assert before == stage.counts()
    assert [1, 1, 1] == [fake.under_way for fake in stage.fakes.values()]


async def test_nothing_counts_as_unwanted_while_a_member_is_silent(stage: Stage) -> None:
    stage.fakes["s-2"].away = True
    stage.all_say(membership(1, *NAMES))
    await eventually(lambda: stage.fakes["s-1"].under_way == 1)
    await asyncio.sleep(0.1)
    assert not any(stage.complete)
    stage.fakes["s-2"].away = False
    await stage.until_complete()


async def test_what_is_assigned_stays_so_from_the_first_answer_on(stage: Stage) -> None:
    """While the first conversation gives way to the members' own, and while supernodes come, go and restart."""
    stage.all_say(membership(1, *NAMES), s0=(Assignment(TASK, "g"),))
    await stage.until_complete()
    fake = stage.fakes["s-0"]
    fake.boot, fake.assignments = "another", None
    fake.wake()
    await asyncio.sleep(0.1)
    stage.fakes["s-0"].say(membership=membership(2, *NAMES))
    await asyncio.sleep(0.1)
    stage.fakes["s-2"].say(membership=membership(2, *NAMES))
    await asyncio.sleep(0.1)
    stage.fakes["s-1"].say(Assignment(TASK, "g"), membership=membership(2, *NAMES))
    await stage.until_complete()
    assert [{TASK}] * len(stage.seen) == stage.seen


async def test_a_member_that_left_is_left_and_what_only_it_assigned_is_not_assigned(stage: Stage) -> None:
    stage.all_say(
        membership(1, *NAMES), s0=(Assignment(TASK, "g"),), s1=(Assignment(TASK, "g"), Assignment(OTHER, "g"))
    )
    await stage.until_complete()
    for name in ("s-0", "s-2"):
        stage.fakes[name].say(*(stage.fakes[name].assignments or ()), membership=membership(2, "s-0", "s-2"))
    await stage.until_complete()
    stage.fakes["s-1"].say(Assignment(OTHER, "g"))  # too late
    await eventually(lambda: stage.opened == {"http://s-0", "http://s-2"})
    assert {TASK} == stage.assigned.keys()
    assert not any(request.leaving for request in stage.fakes["s-1"].requests)


async def test_a_member_with_another_address_is_spoken_with_there(stage: Stage) -> None:
    stage.all_say(membership(1, *NAMES))
    await stage.until_complete()
    moved = Membership(2, (Member("s-0", "http://new"), *membership(2, *NAMES[1:]).members))
    stage.at["http://new"] = stage.fakes["s-0"]
    stage.all_say(moved)
    await eventually(lambda: stage.opened == {"http://new", "http://s-1", "http://s-2"})
    await stage.until_complete()


async def test_reports_go_to_those_who_assign_the_task_and_wake_nobody_else(stage: Stage) -> None:
    both = (Assignment(TASK, "g", deliveries=(Delivery("u", "a"),)),)
    stage.all_say(membership(1, *NAMES), s0=both, s1=both)
    await stage.until_complete()
    await stage.quiet()
    before = stage.counts()
    stage.supernodes.piece_done(TASK, "g", 3)
    stage.supernodes.piece_failed(PieceFailure(TASK, 7, "x", "stalled"), "s-1-boot")
    stage.supernodes.delivery(TASK, "u", PUBLISHED)
    stage.supernodes.send()
    await asyncio.sleep(0.1)
    assert [1, 1, 0] == [after - count for after, count in zip(stage.counts(), before, strict=True)]
    zero, one = (stage.fakes[name].requests[-1] for name in NAMES[:2])
    assert {TASK: Held("g", "3")} == zero.done == one.done
    assert {"u": PUBLISHED} == zero.deliveries == one.deliveries
    assert ((), (PieceFailure(TASK, 7, "x", "stalled"),)) == (zero.failures, one.failures)


async def test_one_that_begins_to_assign_a_task_is_told_what_is_held_and_published(stage: Stage) -> None:
    one = (Assignment(TASK, "g", deliveries=(Delivery("u", "a"),)),)
    stage.all_say(membership(1, *NAMES), s0=one)
    await stage.until_complete()
    stage.held[TASK] = Held("g", "0-3")
    stage.supernodes.delivery(TASK, "u", PUBLISHED)
    await stage.quiet()
    stage.fakes["s-1"].say(*one)
    await eventually(lambda: bool(stage.fakes["s-1"].requests[-1].done))
    last = stage.fakes["s-1"].requests[-1]
    assert ({TASK: Held("g", "0-3")}, {"u": PUBLISHED}) == (last.done, last.deliveries)


async def test_a_member_that_is_new_is_told_all(stage: Stage) -> None:
    stage.all_say(membership(1, "s-0", "s-1"))
    await stage.until_complete()
    stage.held[TASK] = Held("g", "0-3")
    stage.supernodes.delivery(TASK, "u", PUBLISHED)
    stage.all_say(membership(2, *NAMES))
    await eventually(lambda: bool(stage.fakes["s-2"].requests))
    first = stage.fakes["s-2"].requests[0]
    assert (stage.held, {"u": PUBLISHED}) == (first.inventory, first.deliveries)


async def test_work_is_handed_on_with_the_boot_id_of_who_gave_it(stage: Stage) -> None:
    stage.all_say(membership(1, *NAMES))
    await stage.until_complete()
    stage.fakes["s-2"].give(WORK)
    await eventually(lambda: bool(stage.given))
    assert [(WORK, "s-2-boot")] == stage.given


async def test_what_the_first_conversation_still_gives_is_not_lost(stage: Stage) -> None:
    """It is booked for us at a supernode that we go on to speak with in another conversation."""
    first, own = stage.fakes["s-0"], FakeSupernode("s-0")
    stage.fakes["s-0"] = stage.at["http://s-0"] = own
    first.say(membership=membership(1, *NAMES))
    await eventually(lambda: "http://s-0" in stage.opened and first.under_way == 1)
    stage.all_say(membership(1, *NAMES), s0=(Assignment(TASK, "g"),))
    await stage.until_complete()
    first.give(WORK)
    await eventually(lambda: bool(stage.given))
    stage.supernodes.piece_failed(PieceFailure(TASK, 0, "x", "stalled"), stage.given[0][1])
    stage.supernodes.send()
    await eventually(lambda: bool(stage.fakes["s-0"].requests[-1].failures))
    await eventually(lambda: "http://any" not in stage.opened)


async def test_if_no_member_answers_the_first_address_is_asked_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supernodes, "_ASK_AGAIN_AFTER", 0.3)
    stage.all_say(membership(1, "s-0", "s-1"), s0=(Assignment(TASK, "g"),))
    await stage.until_complete()
    await eventually(lambda: len(stage.opened) == 2)
    for name in ("s-0", "s-1"):
        stage.fakes[name].away = True
        stage.fakes[name].wake()
    stage.at["http://any"] = stage.fakes["s-2"]
    stage.fakes["s-2"].say(Assignment(TASK, "g"), membership=membership(2, "s-2"))
    await eventually(lambda: stage.opened == {"http://s-2"})
    await stage.until_complete()
    assert {TASK} == stage.assigned.keys()


async def test_leaving_is_said_to_all(stage: Stage) -> None:
    stage.all_say(membership(1, *NAMES))
    await stage.until_complete()
    await eventually(lambda: len(stage.opened) == 3)
    await stage.stop()
    await stage.supernodes.leave()
    assert [True] * 3 == [any(request.leaving for request in fake.requests) for fake in stage.fakes.values()]


async def test_it_answers_for_as_long_as_one_member_does(stage: Stage) -> None:
    stage.all_say(membership(1, *NAMES))
    await stage.until_complete()
    for name in NAMES[1:]:
        stage.fakes[name].away = True
        stage.fakes[name].wake()
    await asyncio.sleep(0.1)
    before = stage.supernodes.answered_at
    stage.fakes["s-0"].say()
    await eventually(lambda: stage.supernodes.answered_at > before)
    assert ["away", "away"] == stage.supernodes.errors


async def test_a_want_goes_to_whose_task_it_is_and_moves_with_it(stage: Stage) -> None:
    wanted = {MOVED: Wanted("r", "a", "sha256:0")}

    def only_said_to(owner: str, names: tuple[str, ...]) -> bool:
        requests = [(name, stage.fakes[name].requests) for name in names]
        return all(said and said[-1].wants == (wanted if name == owner else {}) for name, said in requests)

    def answers_for_it(url: str) -> bool:
        return stage.supernodes.answering(MOVED) == url

    await eventually(lambda: stage.counts()[0] > 0)
    stage.supernodes.want(MOVED, wanted[MOVED])
    await eventually(lambda: only_said_to("s-0", ("s-0",)))
    for revision, names in ((1, NAMES[:2]), (2, NAMES), (3, NAMES[:2])):
        members = membership(revision, *names)
        owner = members.owner(MOVED)
        assert owner is not None
        stage.all_say(members)
        await eventually(partial(only_said_to, owner.name, names))
        await eventually(partial(answers_for_it, owner.url))
    stage.supernodes.want(MOVED, None)
    await eventually(lambda: only_said_to("", NAMES[:2]))


async def test_a_supernode_that_does_not_answer_is_not_asked_for_its_tasks(stage: Stage) -> None:
    supernode = stage.fakes["s-0"]
    supernode.say()
    await eventually(lambda: stage.supernodes.answering(TASK) == "http://any")
    supernode.away = True
    supernode.wake()
    await eventually(lambda: stage.supernodes.answering(TASK) is None)
    supernode.away = False
    supernode.say()
    await eventually(lambda: stage.supernodes.answering(TASK) == "http://any")


# Images

STATES = {"ns/web": PullState(PullPhase.READY, 10, "run")}


async def test_of_several_words_about_images_the_newest_holds(stage: Stage) -> None:
    stage.all_say(membership(1, *NAMES))
    await eventually(lambda: len(stage.opened) == 3)
    stage.fakes["s-1"].order(5)
    await eventually(lambda: stage.ordered == [5])
    stage.fakes["s-0"].order(4)
    stage.fakes["s-2"].order(5)
    await eventually(lambda: stage.fakes["s-2"].requests[-1].images == 5)
    await eventually(lambda: stage.fakes["s-0"].requests[-1].images == 4)
    assert [5] == stage.ordered
    stage.fakes["s-2"].order(6)
    await eventually(lambda: stage.ordered == [5, 6])
    await stage.quiet()
    assert [4, 5, 6] == [stage.fakes[name].requests[-1].images for name in NAMES]


async def test_a_supernode_that_goes_takes_no_order_along(stage: Stage) -> None:
    stage.all_say(membership(1, *NAMES))
    await eventually(lambda: len(stage.opened) == 3)
    stage.fakes["s-2"].order(6)
    await eventually(lambda: stage.ordered == [6])
    stage.all_say(membership(2, "s-0", "s-1"))
    await eventually(lambda: len(stage.opened) == 2)
    assert [6] == stage.ordered


async def test_all_supernodes_hear_how_images_are_at_once_and_new_ones_too(stage: Stage) -> None:
    stage.all_say(membership(1, "s-0", "s-1"))
    await eventually(lambda: len(stage.opened) == 2)
    await stage.quiet()
    stage.supernodes.report_pulls(STATES, urgent=True)
    stage.supernodes.report_runtime(RuntimeState("containerd"), urgent=True)

    def heard(name: str) -> bool:
        pulls = [said.pulls for said in stage.fakes[name].requests if said.pulls is not None]
        return pulls[-1:] == [STATES]

    await eventually(lambda: heard("s-0") and heard("s-1"))
    stage.all_say(membership(2, *NAMES))
    await eventually(lambda: heard("s-2"))
    assert any(said.runtime == RuntimeState("containerd") for said in stage.fakes["s-2"].requests)
