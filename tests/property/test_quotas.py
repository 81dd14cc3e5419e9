"""Whatever tenants do, none keeps or reads more than its quotas, and none is held back by the quotas of another."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pantala_protocol.rules.quotas import Quota, Quotas, quotas
from pantala_protocol.statement import Statement, WantedTask
from pantala_protocol.task_id import TaskID, compute
from pantala_supernode.errors import QuotaExceededError
from pantala_supernode.tasks.accounts import UNLIMITED, Accounts
from pantala_supernode.tasks.manager import TaskChanges, TaskManager
from pantala_supernode.tasks.tenancy import AHEAD, ReadBudget, Tenancy

IDS = [compute(f"http://o/{number}") for number in range(4)]
LIMITS = {"a": Quota(bytes=100_000_000, daily=150_000_000), "b": Quota(bytes=30_000_000), "c": Quota(daily=40_000_000)}
TENANTS = st.sampled_from(["a", "b", "c", "free"])
SIZES = st.integers(0, 120_000_000)


class Tenants(RuleBasedStateMachine):
    """Tasks come and go, and files of known and unknown length are read."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks = TaskManager(grace=0)
        self.tenancy = Tenancy(self.tasks, Quotas(Quota(), LIMITS), self.settled)
        self.stated: dict[str, WantedTask] = {}
        self.budgets: dict[TaskID, tuple[ReadBudget, int]] = {}
        self.read: Counter[str] = Counter()
        """The bytes that were read on behalf of each namespace in this day."""
        self.day = 1
        self.tenancy.tick(self.day)

    def settled(self, changes: TaskChanges) -> None:
        self.tenancy.settle(changes)

    def state(self) -> None:
        self.tenancy.settle(self.tasks.state(Statement(1, tuple(self.stated.values())), now=0))
        self.tenancy.settle(self.tasks.expire(now=1))

    @rule(tenant=TENANTS, task=st.sampled_from(IDS))
    def want(self, tenant: str, task: TaskID) -> None:
        uid = f"{tenant}-{task}"
        self.stated[uid] = WantedTask(uid, f"{tenant}/t", task, "http://o/x")
        self.state()

    @precondition(lambda self: self.stated)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        del self.stated[data.draw(st.sampled_from(sorted(self.stated)))]
        self.state()

    def arrive(self, task: TaskID, budget: ReadBudget, count: int) -> None:
        wanting = self.wanting(task)
        budget.count(count)
        self.read.update(dict.fromkeys(wanting, count))

    def wanting(self, name: str) -> set[str]:
        task = self.tasks.get(name)
        return {wanted.namespace for wanted in task.wanted.values()} if task else set()

    @rule(task=st.sampled_from(IDS), length=SIZES)
    def read_known(self, task: TaskID, length: int) -> None:
        if not self.wanting(task):
            return
        budget = self.tenancy.budget(task)
        try:
            budget.claim(length)
            budget.expect(length)
            self.arrive(task, budget, length)
        except QuotaExceededError:
            assert not self.wanting(task)
            length = 0
        budget.close(length)

    @rule(task=st.sampled_from(IDS), length=SIZES, step=st.integers(500_000, 4_000_000))
    def read_unknown(self, task: TaskID, length: int, step: int) -> None:
        """A body that is ``length`` bytes long, or has no end, of which ``step`` bytes arrive at a time."""
        if not self.wanting(task):
            return
        budget, arrived = self.tenancy.budget(task), 0
        try:
            while arrived < length:
                allowed = budget.extend(0, arrived)
                assert allowed == UNLIMITED or arrived < allowed <= arrived + AHEAD
                count = min(step, length - arrived, allowed - arrived)
                self.arrive(task, budget, count)
                arrived += count
        except QuotaExceededError:
            assert not self.wanting(task)
            arrived = 0
        budget.close(arrived)

    @rule()
    def wait_a_day(self) -> None:
        self.day += 1
        self.read.clear()
        self.tenancy.tick(self.day)

    @rule()
    def tick(self) -> None:
        self.tenancy.tick(self.day)

    @invariant()
    def m1_no_account_is_above_its_quota(self) -> None:
        for name, quota in LIMITS.items():
            account = self.tenancy.accounts.of(name)
            assert account.kept <= (quota.bytes or UNLIMITED)
            assert account.read <= (quota.daily or UNLIMITED)
            assert self.read[name] <= (quota.daily or UNLIMITED)

    @invariant()
    def m1_each_namespace_is_charged_for_what_it_wants(self) -> None:
        for task in self.tasks:
            for name in LIMITS:
                holds = task.id in self.tenancy.accounts.of(name)._copies
                assert holds == (name in self.wanting(task.id)), (name, task.refusals)

    @invariant()
    def m1_nobody_without_a_quota_is_refused(self) -> None:
        assert all("free" not in task.refusals for task in self.tasks)

    @invariant()
    def m1_refused_resources_get_nothing(self) -> None:
        for task in self.tasks:
            assert task.wanted.keys().isdisjoint(task.refused)
            assert {each.namespace for each in task.refused.values()} == task.refusals.keys()


TestTenants = Tenants.TestCase


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 200)), max_size=30), st.integers(0, 300))
def test_m1_an_account_never_exceeds_its_quota(charges: list[tuple[str, int]], limit: int) -> None:
    tenancy = Tenancy(TaskManager(grace=0), Quotas(Quota(bytes=limit)), lambda _: None)
    account = tenancy.accounts.of("a")
    model: dict[str, int] = {}
    for copy, size in charges:
        fits = size <= model.get(copy, 0) or sum(model.values()) - model.get(copy, 0) + size <= limit
        assert fits == account.charge(copy, size)
        if fits:
            model[copy] = size
        assert sum(model.values()) == account.kept <= limit


@pytest.mark.parametrize(
    ("text", "namespace", "expected"),
    [
        ("", "a", Quota()),
        ("*=bytes:10Gi;tasks:5", "a", Quota(bytes=10 << 30, tasks=5)),
        ("*=bytes:10Gi,a=daily:1Mi", "a", Quota(bytes=10 << 30, daily=1 << 20)),
        ("*=bytes:10Gi,a=bytes:none", "a", Quota()),
        ("a=bytes:1", "b", Quota()),
    ],
)
def test_m1_quotas_are_read(text: str, namespace: str, expected: Quota) -> None:
    assert expected == quotas(text).of(namespace)


@pytest.mark.parametrize("text", ["bytes:1", "a=size:1", "a=bytes:x", "a=tasks:-1", "a=bytes:1,a=bytes:2", "=bytes:1"])
def test_m1_wrong_quotas_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="quota"):
        quotas(text)


def test_m1_a_day_in_the_future_ends_with_the_clock_that_made_it() -> None:
    accounts = Accounts(lambda _: Quota(daily=10))
    accounts.begin_day(30_000)
    accounts.of("a").read = 10
    accounts.begin_day(20_600)
    assert 10 == accounts.of("a").left
    accounts.of("a").read = 4
    accounts.begin_day(20_599)
    assert 6 == accounts.of("a").left, "a clock that goes back over midnight gives nothing back"
