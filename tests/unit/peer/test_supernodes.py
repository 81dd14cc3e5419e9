"""One session with each supernode, one set of orders from all of them, and reports for those that they concern."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from pantala_peer.events import WorkGiven
from pantala_protocol.images import NodeOrders, PullPhase, PullState, RuntimeState
from pantala_protocol.statement import Member, Membership
from pantala_protocol.sync import Assignment, Delivery, HeldPieces, PieceFailure, PieceWork, WantedBlob
from tests.support.peer import membership, node_state
from tests.support.scripted_supernode import PUBLISHED
from tests.support.session_lab import FIRST, NAMES, QUIET, PatientSupernode, SessionLab

pytestmark = pytest.mark.virtual_time

TASK, OTHER = "a" * 64, "b" * 64
MOVED = "c" * 64
"""The last of three supernodes owns it, or the second of two."""
WORK = PieceWork(TASK, "g", 0, 0, 1, "h", 1, "t", digest="00")


@pytest.fixture
async def lab() -> AsyncIterator[SessionLab]:
    made = SessionLab()
    made.running = asyncio.create_task(made.supernodes.run(node_state(made.held)))
    yield made
    await made.stop()
    assert set() == made.opened


async def test_the_first_answer_contains_the_members_and_each_gets_a_session(lab: SessionLab) -> None:
    await lab.begin(s0=(Assignment(TASK, "g"),), s2=(Assignment(OTHER, "h"),))
    assert {TASK: Assignment(TASK, "g"), OTHER: Assignment(OTHER, "h")} == lab.assigned[-1].tasks
    assert {name.encode() for name in NAMES} == set(lab.supernodes.keys())
    before = lab.counts()
    await asyncio.sleep(20)
    assert before == lab.counts()
    assert [1, 1, 1] == [fake.under_way for fake in lab.fakes.values()]


async def test_a_task_stays_assigned_while_sessions_replace_the_first_and_supernodes_restart(lab: SessionLab) -> None:
    await lab.begin(s0=(Assignment(TASK, "g"),))
    fake = lab.fakes["s-0"]
    fake.boot, fake.assignments = "another", None
    await fake.notify()
    await asyncio.sleep(0.1)
    for name, assignments in (("s-0", ()), ("s-2", ()), ("s-1", (Assignment(TASK, "g"),))):
        await lab.fakes[name].give(*assignments, membership=membership(2, *NAMES))
        await asyncio.sleep(0.1)
    await lab.until_complete()
    assert all(TASK in event.tasks for event in lab.assigned if event.complete)


async def test_the_session_with_a_former_member_ends_and_its_assignments_with_it(lab: SessionLab) -> None:
    await lab.begin(s0=(Assignment(TASK, "g"),), s1=(Assignment(TASK, "g"), Assignment(OTHER, "g")))
    for name in ("s-0", "s-2"):
        await lab.fakes[name].give(*(lab.fakes[name].assignments or ()), membership=membership(2, "s-0", "s-2"))
    await lab.until_complete()
    await lab.fakes["s-1"].give(Assignment(OTHER, "g"))  # too late
    await lab.until(lambda: lab.opened == {"http://s-0", "http://s-2"})
    assert {TASK} == lab.assigned[-1].tasks.keys()
    assert not any(request.leaving for request in lab.fakes["s-1"].requests)


async def test_a_member_with_another_address_gets_a_session_there(lab: SessionLab) -> None:
    await lab.begin()
    moved = Membership(2, (Member("s-0", "http://new"), *membership(2, *NAMES[1:]).members))
    lab.at["http://new"] = lab.fakes["s-0"]
    await lab.all_assign(moved)
    await lab.until(lambda: lab.opened == {"http://new", "http://s-1", "http://s-2"})
    await lab.until_complete()


async def test_reports_go_only_to_the_supernodes_that_assign_the_task(lab: SessionLab) -> None:
    both = (Assignment(TASK, "g", deliveries=(Delivery("u", "a"),)),)
    await lab.begin(s0=both, s1=both)
    before = lab.counts()
    lab.supernodes.piece_done(TASK, "g", 3)
    lab.supernodes.piece_failed(PieceFailure(TASK, 7, "x", "stalled"), "s-1-1")
    lab.supernodes.delivery(TASK, "u", PUBLISHED)
    lab.supernodes.send()
    await asyncio.sleep(0.1)
    assert [1, 1, 0] == [after - count for after, count in zip(lab.counts(), before, strict=True)]
    zero, one = (lab.fakes[name].last for name in NAMES[:2])
    assert {TASK: HeldPieces("g", "3")} == zero.done == one.done
    assert {"u": PUBLISHED} == zero.deliveries == one.deliveries
    assert ((), (PieceFailure(TASK, 7, "x", "stalled"),)) == (zero.failures, one.failures)


async def test_a_supernode_that_begins_to_assign_a_task_receives_its_state(lab: SessionLab) -> None:
    one = (Assignment(TASK, "g", deliveries=(Delivery("u", "a"),)),)
    await lab.begin(s0=one)
    lab.held[TASK] = HeldPieces("g", "0-3")
    lab.supernodes.delivery(TASK, "u", PUBLISHED)
    await asyncio.sleep(QUIET)
    await lab.fakes["s-1"].give(*one)
    await lab.until(lambda: lab.fakes["s-1"].last.done)
    last = lab.fakes["s-1"].last
    assert ({TASK: HeldPieces("g", "0-3")}, {"u": PUBLISHED}) == (last.done, last.deliveries)


async def test_a_new_member_receives_everything(lab: SessionLab) -> None:
    await lab.begin("s-0", "s-1")
    lab.held[TASK] = HeldPieces("g", "0-3")
    lab.supernodes.delivery(TASK, "u", PUBLISHED)
    await lab.all_assign(membership(2, *NAMES))
    await lab.until(lambda: lab.fakes["s-2"].requests)
    first = lab.fakes["s-2"].requests[0]
    assert (lab.held, {"u": PUBLISHED}) == (first.inventory, first.deliveries)


async def test_the_last_work_of_the_first_session_is_not_lost(lab: SessionLab) -> None:
    """The supernode has booked it for this peer, and a report reaches it through the other session."""
    first, own = lab.fakes["s-0"], PatientSupernode("s-0")
    lab.fakes["s-0"] = lab.at["http://s-0"] = own
    await first.give(membership=membership(1, *NAMES))
    await lab.until(lambda: "http://s-0" in lab.opened and first.under_way == 1)
    await lab.all_assign(membership(1, *NAMES), s0=(Assignment(TASK, "g"),))
    await lab.until_complete()
    await first.give_work(WORK)
    await lab.until(lambda: lab.given)
    assert [WorkGiven(WORK, "s-0-1")] == lab.given
    lab.supernodes.piece_failed(PieceFailure(TASK, 0, "x", "stalled"), lab.given[0].supernode)
    lab.supernodes.send()
    await lab.until(lambda: lab.fakes["s-0"].last.failures)
    await lab.until(lambda: FIRST not in lab.opened)


async def test_if_no_member_answers_the_configured_address_is_asked_again(lab: SessionLab) -> None:
    await lab.begin("s-0", "s-1", s0=(Assignment(TASK, "g"),))
    for name in ("s-0", "s-1"):
        await lab.fakes[name].set_status(503)
    lab.at[FIRST] = lab.fakes["s-2"]
    await lab.fakes["s-2"].give(Assignment(TASK, "g"), membership=membership(2, "s-2"))
    await asyncio.sleep(25)
    assert FIRST not in lab.opened
    await asyncio.sleep(15)
    assert {"http://s-2"} == lab.opened
    await lab.until_complete()
    assert {TASK} == lab.assigned[-1].tasks.keys()


async def test_all_supernodes_receive_the_farewell(lab: SessionLab) -> None:
    await lab.begin()
    await lab.stop()
    await lab.supernodes.leave()
    assert [True] * 3 == [any(request.leaving for request in fake.requests) for fake in lab.fakes.values()]


async def test_a_wanted_blob_is_reported_to_the_owner_of_its_task_and_moves_with_it(lab: SessionLab) -> None:
    wanted = {MOVED: WantedBlob("r", "a", "sha256:0")}

    def only_reported_to(owner: str, names: tuple[str, ...]) -> bool:
        requests = [(name, lab.fakes[name].requests) for name in names]
        return all(sent and sent[-1].wants == (wanted if name == owner else {}) for name, sent in requests)

    def answers_for_it(url: str) -> bool:
        return lab.supernodes.answering(MOVED) == url

    await lab.until(lambda: lab.counts()[0] > 0)
    lab.supernodes.want(MOVED, wanted[MOVED])
    await lab.until(lambda: only_reported_to("s-0", ("s-0",)))
    for revision, names in ((1, NAMES[:2]), (2, NAMES), (3, NAMES[:2])):
        members = membership(revision, *names)
        owner = members.owner(MOVED)
        assert owner is not None
        await lab.all_assign(members)
        await lab.until(partial(only_reported_to, owner.name, names))
        await lab.until(partial(answers_for_it, owner.url))
    lab.supernodes.want(MOVED, None)
    await lab.until(lambda: only_reported_to("", NAMES[:2]))


async def test_a_supernode_that_does_not_answer_is_not_asked_for_its_tasks(lab: SessionLab) -> None:
    supernode = lab.fakes["s-0"]
    await supernode.give()
    await lab.until(lambda: lab.supernodes.answering(TASK) == FIRST)
    await supernode.set_status(503)
    await lab.until(lambda: lab.supernodes.answering(TASK) is None)
    await supernode.set_status(200)
    await supernode.give()
    await lab.until(lambda: lab.supernodes.answering(TASK) == FIRST)


# Images


async def test_the_newest_orders_about_images_stay_in_force_also_without_their_supernode(lab: SessionLab) -> None:
    await lab.begin()
    await lab.fakes["s-1"].order(NodeOrders(5))
    await lab.until(lambda: lab.ordered == [5])
    await lab.fakes["s-0"].order(NodeOrders(4))
    await lab.fakes["s-2"].order(NodeOrders(5))
    await lab.until(lambda: (lab.fakes["s-0"].last.images, lab.fakes["s-2"].last.images) == (4, 5))
    assert [5] == lab.ordered
    await lab.fakes["s-2"].order(NodeOrders(6))
    await lab.until(lambda: lab.ordered == [5, 6])
    await asyncio.sleep(QUIET)
    assert [4, 5, 6] == [lab.fakes[name].last.images for name in NAMES]
    await lab.all_assign(membership(2, "s-0", "s-1"))
    await lab.until(lambda: len(lab.opened) == 2)
    assert [5, 6] == lab.ordered


async def test_all_supernodes_receive_the_state_of_images_and_runtime_and_new_ones_too(lab: SessionLab) -> None:
    await lab.begin("s-0", "s-1")
    states, runtime = {"ns/web": PullState(PullPhase.READY, 10, "run")}, RuntimeState("containerd")
    lab.supernodes.report_pulls(states, urgent=True)
    lab.supernodes.report_runtime(runtime, urgent=True)

    def received(name: str) -> bool:
        requests = lab.fakes[name].requests
        pulls = [request.pulls for request in requests if request.pulls is not None]
        return pulls[-1:] == [states] and any(request.runtime == runtime for request in requests)

    await lab.until(lambda: received("s-0") and received("s-1"))
    await lab.all_assign(membership(2, *NAMES))
    await lab.until(lambda: received("s-2"))
