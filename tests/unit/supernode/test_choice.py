"""How a peer's room is shared among its tasks, and that small files need none."""

import dataclasses
from collections import Counter

import pytest

from pantala_protocol.geometry import SMALL_FILE
from pantala_protocol.statement import CDNStatus, WantedTask
from pantala_protocol.sync import PieceFailure, PieceWork, WantedBlob
from pantala_protocol.task_id import TaskID, compute
from pantala_supernode.swarm.limits import SchedulingPolicy
from pantala_supernode.swarm.task_progress import SUPERNODE
from pantala_supernode.tasks.copy import Copy
from pantala_supernode.tasks.shares import Shares
from tests.unit.supernode.conftest import Bench

POLICY = SchedulingPolicy()
MANY = 50


class Lab(Bench):
    """One peer ``a``, and files for it. Pieces have 128 KiB."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.wanted: dict[str, WantedTask] = {}
        self.session = self.peer("a")

    def files(self, *names: str, length: int, priority: int = 0, peers: tuple[str, ...] = ("a",)) -> list[TaskID]:
        """The supernode has files of ``length`` bytes, and the peers must hold them. Returns the task IDs."""
        ids = [compute(name) for name in names]
        for name, task_id in zip(names, ids, strict=True):
            self.wanted[name] = WantedTask(
                name, name if "/" in name else f"ns/{name}", task_id, name, path=name, peers=peers, priority=priority
            )
        self.state(*self.wanted.values())
        for task_id in ids:
            pieces = -(-length // (128 * 1024))
            copy = Copy(task_id, CDNStatus.SUCCESS, "g", 128 * 1024, length, (1 << pieces) - 1, digest="sha256:0")
            self.managers.tasks.update(task_id, copy)
            self.managers.progress.init_task(task_id).copy = copy
        for session in list(self.dispatcher.sessions.values()):
            self.assignments.assign(session)
        return ids

    def work(self, peer: str = "a") -> tuple[PieceWork, ...]:
        return self.dispatcher.work(self.dispatcher.sessions[peer])

    def succeeds(self, work: PieceWork, peer: str = "a") -> None:
        task = self.managers.tasks.known(work.task_id)
        self.dispatcher.succeeded(self.dispatcher.sessions[peer], task, 1 << work.piece)

    def forget_sent(self) -> None:
        """The peer has no assignments yet."""
        self.session.last_sent, self.session.positions = (), {}

    def waits_for(self, *names: TaskID) -> None:
        self.session.wants = {name: WantedBlob("r", "x", "sha256:0") for name in names}


@pytest.fixture
def lab() -> Lab:
    return Lab()


def counts(work: tuple[PieceWork, ...]) -> Counter[str]:
    return Counter(one.task_id for one in work)


# Turns


def test_equally_important_tasks_share_the_room(lab: Lab) -> None:
    first, second = lab.files("x", "y", length=MANY * 128 * 1024)
    assert {first: 2, second: 2} == counts(lab.work())


def test_a_task_with_the_last_turn_waits_for_all_others(lab: Lab) -> None:
    names = lab.files("x", "y", "z", length=MANY * 128 * 1024)
    given: Counter[str] = Counter()
    for _ in range(10):
        work = lab.work()
        given += counts(work)
        lab.succeeds(work[0])
        for one in work[1:]:
            lab.succeeds(one)
    assert 40 == given.total()
    assert max(given[name] for name in names) - min(given[name] for name in names) <= 1


def test_a_more_important_task_takes_all_of_the_room(lab: Lab) -> None:
    lab.files("x", length=MANY * 128 * 1024)
    (important,) = lab.files("y", length=MANY * 128 * 1024, priority=1)
    assert {important: POLICY.window} == counts(lab.work())


def test_a_task_with_few_pieces_leaves_its_room_to_the_other(lab: Lab) -> None:
    (long,) = lab.files("x", length=MANY * 128 * 1024)
    (short,) = lab.files("y", length=128 * 1024)
    assert {long: POLICY.window - 1, short: 1} == counts(lab.work())


# Changes of one task among many


def test_a_change_of_one_task_updates_its_assignment_and_no_other(lab: Lab) -> None:
    names = lab.files("x", "y", "z", length=MANY * 128 * 1024)
    before, revision = lab.session.last_sent or (), lab.session.revision
    changed = lab.managers.tasks.known(names[1])
    assert not lab.assignments.update(lab.session, changed)
    changed.copy = dataclasses.replace(changed.copy, digest="sha256:1")
    assert lab.assignments.update(lab.session, changed)
    after = lab.session.last_sent or ()
    assert revision + 1 == lab.session.revision
    assert [True] == [new.digest == "sha256:1" for old, new in zip(before, after, strict=True) if new != old]
    assert not lab.assignments.assign(lab.session)


def test_a_task_that_is_new_to_the_peer_waits_for_all_assignments(lab: Lab) -> None:
    """Otherwise each new task would compute the assignments of all its peers at once."""
    (first,) = lab.files("x", length=1024)
    lab.forget_sent()
    assert not lab.assignments.update(lab.session, lab.managers.tasks.known(first))
    assert lab.assignments.assign(lab.session)
    (sent,) = lab.session.last_sent or ()
    assert first == sent.task_id


# Readers


def test_a_blob_with_a_reader_does_not_wait_for_room_behind_a_large_file(lab: Lab) -> None:
    large, *layers = lab.files("x", "y", "z", "zz", length=MANY * 128 * 1024)
    lab.session.open_tasks = {large: 0}
    assert {large: POLICY.window} == counts(lab.work())
    for layer in layers:
        lab.session.open_tasks[layer] = 0
    lab.waits_for(*layers)
    given = lab.work()
    assert POLICY.urgent == len(given) == len(counts(given))
    assert () == lab.work()


def test_a_blob_with_a_reader_does_not_wait_for_a_place_at_the_supernode(lab: Lab) -> None:
    (layer,) = lab.files("x", length=MANY * 128 * 1024)
    lab.managers.progress.service[SUPERNODE].booked = POLICY.supernode_uploads
    assert () == lab.work()
    lab.waits_for(layer)
    assert {layer} == {one.task_id for one in lab.work()}


# Small files


def test_a_small_file_needs_no_room_and_no_place(lab: Lab) -> None:
    lab.files("x", length=MANY * 128 * 1024)
    assert POLICY.window == len(lab.work())
    lab.managers.progress.service[SUPERNODE].booked = POLICY.supernode_uploads
    (small,) = lab.files("y", length=1024)
    (work,) = lab.work()
    assert (small, SUPERNODE, 0) == (work.task_id, work.provider, work.piece)
    assert () == lab.work()
    lab.succeeds(work)
    assert 1024 == lab.managers.progress.supernode_bytes
    assert POLICY.supernode_uploads == lab.managers.progress.service[SUPERNODE].booked
    assert (0, POLICY.window) == (lab.managers.progress.carried("a"), lab.managers.progress.outstanding("a"))


def test_only_files_up_to_the_limit_are_small(lab: Lab) -> None:
    (small,) = lab.files("x", length=SMALL_FILE)
    (larger,) = lab.files("y", length=SMALL_FILE + 1)
    assert {small: 1, larger: 1} == counts(lab.work())
    assert (1, 1) == (lab.managers.progress.carried("a"), lab.managers.progress.outstanding("a"))


def test_each_peer_gets_a_small_file_from_the_supernode(lab: Lab) -> None:
    lab.peer("b")
    lab.files("x", length=1024, peers=("a", "b"))
    (work,) = lab.work("a")
    lab.succeeds(work, "a")
    assert [SUPERNODE] == [one.provider for one in lab.work("b")]


async def test_a_waiting_peer_gets_a_new_small_file_although_no_place_is_free(lab: Lab) -> None:
    (small,) = lab.files("x", length=1024)
    lab.managers.progress.service[SUPERNODE].booked = POLICY.supernode_uploads
    held = lab.dispatcher.waiting.enter(lab.session)
    lab.dispatcher.serve_waiting(small)
    assert [small] == [one.task_id for one in held.result()]


@pytest.mark.parametrize(("kind", "accused"), [("corrupt", True), ("stalled", False)])
def test_a_small_file_that_did_not_arrive_is_given_again(lab: Lab, kind: str, accused: bool) -> None:
    (small,) = lab.files("x", length=1024)
    lab.work()
    lab.dispatcher.failed(lab.session, PieceFailure(small, 0, SUPERNODE, kind))
    assert [(small, 0)] * accused == lab.accused
    assert [small] == [one.task_id for one in lab.work()]


def test_a_released_peer_gets_its_small_files_again(lab: Lab) -> None:
    lab.files("x", length=1024)
    assert 1 == len(lab.work())
    lab.dispatcher.release(lab.session)
    assert 0 == lab.managers.progress.carried("a")
    assert 1 == len(lab.work())


def test_a_place_that_lapses_does_not_free_one_for_a_small_file(lab: Lab) -> None:
    lab.files("x", length=1024)
    lab.files("y", length=128 * 1024)
    lab.work()
    booked = lab.managers.progress.service[SUPERNODE].booked
    lab.clock.now += 60
    lab.dispatcher.free_places()
    assert (1, 0) == (booked, lab.managers.progress.service[SUPERNODE].booked)


def test_two_thousand_small_files_reach_a_peer_in_small_portions(lab: Lab) -> None:
    """The peer has their bytes in memory until it has stored them, so few are under way at once."""
    lab.files(*map(str, range(2000)), length=SMALL_FILE)
    under_way: list[PieceWork] = []
    most = 0
    while True:
        work = lab.work()
        assert sum(one.size for one in work) <= POLICY.most_carried_bytes
        under_way += work
        most = max(most, len(under_way))
        if not under_way:
            break
        for one in under_way[:3]:  # the disk stores more slowly than work arrives
            lab.succeeds(one)
        del under_way[:3]
    assert POLICY.most_carried == most
    assert 2000 * SMALL_FILE == lab.managers.progress.supernode_bytes
    assert {} == lab.session.small_tasks == lab.session.open_tasks


def test_small_files_with_readers_come_first(lab: Lab) -> None:
    names = lab.files(*map(str, range(100)), length=SMALL_FILE)
    lab.waits_for(names[-1])
    assert names[-1] == lab.work()[0].task_id


def test_h7_a_tenant_with_high_priorities_and_many_tasks_leaves_others_their_turns(lab: Lab) -> None:
    hostile = lab.files(*(f"hostile/{number}" for number in range(16)), length=100 * 128 * 1024, priority=100)
    (honest,) = lab.files("honest/file", length=100 * 128 * 1024)
    given = Counter[str]()
    for _ in range(30):
        for piece in lab.work():
            given["honest" if piece.task_id == honest else "hostile"] += 1
            assert piece.task_id == honest or piece.task_id in hostile
            lab.succeeds(piece)
    assert 0.8 < given["honest"] / given["hostile"] < 1.25


def test_h7_tenants_of_one_peer_get_pieces_by_their_shares(lab: Lab) -> None:
    lab.dispatcher._shares = Shares({"large": 3.0})
    lab.files("small/one", "small/two", length=200 * 128 * 1024)
    (large,) = lab.files("large/file", length=400 * 128 * 1024)
    given = Counter[bool]()
    while given.total() < 200:
        for piece in lab.work():
            given[piece.task_id == large] += 1
            lab.succeeds(piece)
    assert 3.0 == pytest.approx(given[True] / given[False], rel=0.1)
