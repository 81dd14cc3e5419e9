"""A task's life against a model: stated, leased, withdrawn and expired, with a copy that grows, changes and fails."""

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pantala_protocol.statement import CDNStatus, Statement, WantedTask
from pantala_protocol.task_id import TaskID, compute
from pantala_supernode.errors import NotFoundError
from pantala_supernode.tasks.copy import Copy, FileSource
from pantala_supernode.tasks.manager import TaskChanges, TaskManager
from pantala_supernode.tasks.task import Lease
from tests.support.examples import examples

GRACE = 5.0
URLS = [f"http://origin.example/{number}" for number in range(3)]
IDS = [compute(url) for url in URLS]
UIDS = [f"u{number}" for number in range(4)]
PEERS = ["n1", "n2", "n3"]

files = st.integers(min_value=0, max_value=len(URLS) - 1)


@st.composite
def wishes(draw: st.DrawFn) -> tuple[WantedTask, ...]:
    """A full set of what is wanted."""
    return tuple(
        WantedTask(
            uid,
            f"ns/{uid}",
            IDS[number := draw(files)],
            URLS[number],
            path="f",
            peers=tuple(draw(st.lists(st.sampled_from(PEERS), unique=True))),
            suspended=draw(st.booleans()),
        )
        for uid in draw(st.lists(st.sampled_from(UIDS), unique=True))
    )


@dataclass
class Expected:
    wanted: dict[str, WantedTask] = field(default_factory=dict)
    leaving: dict[str, float] = field(default_factory=dict)
    leases: dict[TaskID, float] = field(default_factory=dict)
    copies: dict[TaskID, Copy] = field(default_factory=dict)

    @property
    def tasks(self) -> set[TaskID]:
        return {TaskID(wanted.task_id) for wanted in self.wanted.values()} | self.leases.keys()


class TaskLife(RuleBasedStateMachine):
    """The manager reports exactly what changed. It loses no wish and keeps none too long."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks = TaskManager(grace=GRACE)
        self.expected = Expected()
        self.now = 0.0

    @rule(wanted=wishes())
    def is_stated(self, wanted: tuple[WantedTask, ...]) -> None:
        before = self.expected.tasks
        changes = self.tasks.state(Statement(self.tasks.revision + 1, wanted), now=self.now)
        stated = {wish.uid: wish for wish in wanted}
        changed = {wish.task_id for wish in wanted if self.expected.wanted.get(wish.uid) != wish}
        for uid in self.expected.wanted.keys() - stated.keys():
            self.expected.leaving.setdefault(uid, self.now + GRACE)
        for uid in stated:
            self.expected.leaving.pop(uid, None)
        self.expected.wanted |= stated
        self.check(before, changes)
        assert changed <= changes.tasks

    @rule(seconds=st.integers(min_value=0, max_value=10))
    def time_goes_by(self, seconds: int) -> None:
        before = self.expected.tasks
        self.now += seconds
        changes = self.tasks.expire(now=self.now)
        over = {uid for uid, end in self.expected.leaving.items() if end <= self.now}
        for uid in over:
            del self.expected.leaving[uid], self.expected.wanted[uid]
        ended = {name for name, until in self.expected.leases.items() if until <= self.now}
        for name in ended:
            del self.expected.leases[name]
        self.check(before, changes)
        assert over == changes.dropped
        assert changes.retired <= ended

    @rule(number=files, seconds=st.integers(min_value=1, max_value=20))
    def is_leased(self, number: int, seconds: int) -> None:
        before, name = self.expected.tasks, IDS[number]
        changes = self.tasks.lease(name, Lease(FileSource(URLS[number]), self.now + seconds))
        new = name not in self.expected.leases
        self.expected.leases[name] = max(self.now + seconds, self.expected.leases.get(name, 0.0))
        self.check(before, changes)
        assert new == (name in changes.tasks)
        self.tasks.add_fetcher(name, "client")

    @rule(number=files, seconds=st.integers(min_value=1, max_value=20))
    def is_renewed(self, number: int, seconds: int) -> None:
        name = IDS[number]
        self.tasks.renew(name, until=self.now + seconds)
        if name in self.expected.leases:
            self.expected.leases[name] = max(self.now + seconds, self.expected.leases[name])

    @rule(number=files, keep=st.booleans())
    def lease_is_ended(self, number: int, keep: bool) -> None:
        before, name = self.expected.tasks, IDS[number]
        changes = self.tasks.end_lease(name, keep=keep)
        self.expected.leases.pop(name, None)
        self.check(before, changes)
        assert not (changes.deleted if keep else changes.retired)

    @rule(number=files, status=st.sampled_from(CDNStatus), pieces=st.integers(min_value=0, max_value=4))
    def copy_changes(self, number: int, status: CDNStatus, pieces: int) -> None:
        name = IDS[number]
        copy = Copy(name, status, "g", 10, pieces * 10, (1 << pieces) - 1)
        self.tasks.update(name, copy)
        if name in self.expected.tasks:
            self.expected.copies[name] = copy

    def check(self, before: set[TaskID], changes: TaskChanges) -> None:
        """The reported changes agree with the tasks."""
        after = self.expected.tasks
        assert before - after == changes.deleted | changes.retired
        assert not changes.deleted & changes.retired
        assert after - before <= changes.tasks <= after
        for name in before - after:
            self.expected.copies.pop(name, None)

    @invariant()
    def there_is_what_is_wanted(self) -> None:
        assert self.expected.tasks == {task.id for task in self.tasks}
        for uid in UIDS:
            wanted, task = self.expected.wanted.get(uid), self.tasks.of(uid)
            assert (wanted.task_id if wanted else None) == (task.id if task else None)

    @invariant()
    def copies_are_the_last_reported(self) -> None:
        for task in self.tasks:
            assert self.expected.copies.get(task.id, Copy(task.id)) == task.copy
            assert (task.copy.status is CDNStatus.SUCCESS) == task.complete

    @invariant()
    def each_task_has_an_order_and_assignments(self) -> None:
        for task in self.tasks:
            wanted = [wish for wish in self.expected.wanted.values() if wish.task_id == task.id]
            leased = task.id in self.expected.leases
            assert task.id == compute(task.order().source.url)
            assert task.suspended == (not leased and all(wish.suspended for wish in wanted))
            assert leased or not task.fetchers
            for peer in (*PEERS, "client"):
                assert (task in self.tasks.assigned_to(peer)) == (peer in task.recipients)
                assert any(peer in wish.peers for wish in wanted) == (peer in task.peers)
                mine = {wish.uid for wish in wanted if peer in wish.peers}
                assert mine == {delivery.uid for delivery in task.assignment(peer).deliveries}

    @invariant()
    def what_is_not_wanted_is_not_found(self) -> None:
        for name in set(IDS) - self.expected.tasks:
            try:
                self.tasks.known(name)
            except NotFoundError:
                continue
            raise AssertionError(f"{name} is known")


TestTaskLife = TaskLife.TestCase
TestTaskLife.settings = settings(max_examples=examples(200), stateful_step_count=40)
