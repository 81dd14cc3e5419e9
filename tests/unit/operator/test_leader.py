"""Two operators and one Lease: only the leader plans, writes and states."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import pytest

from pantala_operator.app import App
from pantala_operator.control.elector import INTERVAL, Elector
from pantala_operator.errors import ClusterUnavailableError, LeaseLostError, NotLeadingError
from pantala_operator.events import LeadershipChanged, OperatorEvents
from pantala_operator.resources.api import Metadata
from pantala_operator.resources.lease import LeaseResource, micro_time
from pantala_operator.supernodes import discovery
from pantala_operator.supernodes.view import SupernodeOverview
from pantala_operator.term import Term
from pantala_protocol.statement import Changes
from tests.support.cluster import MemoryCluster
from tests.support.eventually import eventually
from tests.support.operator_stage import LoopClock, OperatorStage

pytestmark = pytest.mark.virtual_time

LEASE = Metadata("pantala-operator", "ns")


class Candidate:
    """One replica's elector, which a test can pause like a stopped process."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self.clock = LoopClock()
        self.term = Term(self.clock)
        self.supernodes = SupernodeOverview()
        self.changes: list[bool] = []
        events = OperatorEvents()
        events.subscribe(LeadershipChanged, lambda event: self.changes.append(event.leads))
        self.elector = Elector(cluster, self.term, self.supernodes, events, self.clock, LEASE, pod="p")
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._running = asyncio.create_task(self.elector.run())

    async def stop(self) -> None:
        """As SIGTERM does."""
        assert self._running is not None
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def error(self) -> BaseException | None:
        assert self._running is not None
        (error,) = await asyncio.gather(self._running, return_exceptions=True)
        return error


@pytest.fixture
async def cluster() -> MemoryCluster:
    return MemoryCluster()


@pytest.fixture
async def pair(cluster: MemoryCluster) -> AsyncIterator[tuple[Candidate, Candidate]]:
    """The first one leads."""
    made = Candidate(cluster), Candidate(cluster)
    made[0].start()
    await eventually(lambda: made[0].term.leads)
    made[1].start()
    yield made
    for each in made:
        await each.stop()


def lease(cluster: MemoryCluster) -> LeaseResource:
    return cluster.leases[LEASE.key]


async def test_m4_one_of_two_leads_and_renews(cluster: MemoryCluster, pair: tuple[Candidate, Candidate]) -> None:
    await asyncio.sleep(60)
    assert [True, False] == [each.term.leads for each in pair]
    assert [1, 0] == [each.term.epoch for each in pair]
    assert (pair[0].elector.identity, 1) == (lease(cluster).holder, lease(cluster).transitions)
    assert ["p", "p"] == [each.elector.leader for each in pair]


async def test_m4_a_stopped_leader_hands_over_at_once(
    cluster: MemoryCluster, pair: tuple[Candidate, Candidate]
) -> None:
    """As in a rolling update."""
    first, second = pair
    await first.stop()
    assert not first.term.leads
    await eventually(lambda: second.term.leads, within=INTERVAL + 0.5)
    assert 2 == second.term.epoch == lease(cluster).transitions


async def test_f13_another_one_takes_over_after_the_leader_was_killed(pair: tuple[Candidate, Candidate]) -> None:
    """The leader writes nothing any more, and releases nothing."""
    first, second = pair
    assert first._running is not None
    first.elector._holds = False  # a killed process gives nothing back
    await first.stop()
    began = asyncio.get_running_loop().time()
    await eventually(lambda: second.term.leads, within=15)
    took = asyncio.get_running_loop().time() - began
    assert 8 < took < 13, took


async def test_f13_a_paused_leader_ends_before_another_one_may_begin(
    cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch, pair: tuple[Candidate, Candidate]
) -> None:
    first, second = pair
    write, resumed = cluster.write_lease, asyncio.Event()

    async def paused(wanted: LeaseResource) -> LeaseResource:
        if wanted.holder == first.elector.identity:
            await resumed.wait()
        return await write(wanted)

    monkeypatch.setattr(cluster, "write_lease", paused)
    await eventually(lambda: not first.term.leads, within=11)
    assert not second.term.leads, "the terms overlap"
    with pytest.raises(NotLeadingError):
        first.term.require()
    await eventually(lambda: second.term.leads, within=5)
    resumed.set()
    assert isinstance(await first.error(), LeaseLostError)
    assert not first.term.may_state
    assert [True, False] == first.changes
    assert second.elector.identity == lease(cluster).holder


async def test_f10_the_leader_keeps_the_lease_over_an_outage(
    cluster: MemoryCluster, pair: tuple[Candidate, Candidate]
) -> None:
    """Neither the other replica nor a new epoch follows, so that the leader's memory stays."""
    first, second = pair
    cluster.outage = ClusterUnavailableError("down")
    await asyncio.sleep(300)
    assert not first.term.leads
    assert first.term.may_state, "a restarted supernode needs its statement"
    assert not second.term.may_state
    cluster.outage = None
    await eventually(lambda: first.term.leads, within=5)
    await asyncio.sleep(30)
    assert not second.term.leads
    assert 1 == lease(cluster).transitions


async def test_f10_another_one_takes_over_if_the_leader_died_in_an_outage(
    cluster: MemoryCluster, pair: tuple[Candidate, Candidate]
) -> None:
    first, second = pair
    cluster.outage = ClusterUnavailableError("down")
    await first.stop()
    await asyncio.sleep(60)
    cluster.outage = None
    await eventually(lambda: second.term.leads, within=15)


async def test_m4_the_epoch_exceeds_those_that_supernodes_know(
    cluster: MemoryCluster, pair: tuple[Candidate, Candidate]
) -> None:
    """The Lease may have been deleted, while supernodes remember its transitions."""
    first = pair[0]
    for each in pair:
        each.supernodes.set_replicas(discovery.of_urls(["http://memory"]))
        each.supernodes.on_update("", Changes("b", 1, epoch=40))
    await eventually(lambda: first.term.epoch == 41, within=5)
    del cluster.leases[LEASE.key]
    await asyncio.sleep(20)
    assert 1 == sum(each.term.leads for each in pair)
    assert lease(cluster).transitions >= 41


async def test_m4_a_missing_right_is_a_problem(cluster: MemoryCluster) -> None:
    cluster.forbidden = {"update leases"}
    one = Candidate(cluster)
    one.start()
    await eventually(lambda: "the Lease ns/pantala-operator cannot be used" in one.elector.problem)
    assert not one.term.leads
    cluster.forbidden = set()
    await eventually(lambda: one.term.leads and not one.elector.problem)
    await one.stop()


def test_times_of_a_lease_have_six_digits() -> None:
    assert "2026-01-01T00:00:00.000000Z" == micro_time(datetime(2026, 1, 1, tzinfo=UTC))


# Whole operators


@pytest.fixture
async def stage() -> OperatorStage:
    made = OperatorStage(lease=LEASE.key)
    await made.connect("a", "b")
    return made


async def test_m4_two_operators_write_once(stage: OperatorStage) -> None:
    """Both are ready. The other one continues where the first one ended."""
    async with AsyncExitStack() as stack:
        first: App = await stack.enter_async_context(stage.operator())
        async with stage.operator() as second:
            assert ([], []) == (first.problems(), second.problems())
            stage.task()
            await stage.finish()
            assert [True, False] == [first.term.leads, second.term.leads]
            assert {1} == {each.epoch for each in stage.supernode.statements}
            assert 1 == stage.cluster.events.count(("ns/t", "Normal", "Distributed"))
            await stack.aclose()
            stage.task("u")
            await stage.finish("u")
            assert 2 == stage.supernode.statements[-1].epoch
            assert ("True", "Distributed") == stage.condition(name="t")


async def test_m4_an_operator_without_the_lease_writes_nothing(stage: OperatorStage) -> None:
    stage.cluster.leases[LEASE.key] = LeaseResource(LEASE).held("other", 7, 10_000, stage.clock.now())
    async with stage.operator() as app:
        assert [] == app.problems()
        stage.task()
        await asyncio.sleep(60)
        assert ([], []) == (stage.cluster.writes, stage.supernode.statements)
        assert ("", "") == stage.condition()


async def test_m4_a_standby_rests(stage: OperatorStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for events, although much is marked for its first plan."""
    stage.cluster.leases[LEASE.key] = LeaseResource(LEASE).held("other", 7, 10_000, stage.clock.now())
    async with stage.operator() as app:
        stage.task()
        await asyncio.sleep(5)
        turns, rest = 0, app.loop._longest_sleep

        def counted() -> float:
            nonlocal turns
            turns += 1
            return rest()

        monkeypatch.setattr(app.loop, "_longest_sleep", counted)
        await asyncio.sleep(60)
        assert turns < 20


async def test_m4_an_operator_ends_when_another_one_has_its_lease(stage: OperatorStage) -> None:
    app = stage.app()
    running = asyncio.create_task(app.run())
    await eventually(lambda: app.term.leads)
    there = stage.cluster.leases[LEASE.key]
    await stage.cluster.write_lease(there.held("other", 2, 10, stage.clock.now()))
    with pytest.raises(LeaseLostError, match="another operator leads now: other"):
        await running


async def test_f10_a_supernode_that_restarts_in_an_outage_gets_its_statement(stage: OperatorStage) -> None:
    async with stage.operator():
        stage.task()
        await stage.finish()
        stage.cluster.outage = ClusterUnavailableError("down")
        await asyncio.sleep(60)
        stated = len(stage.supernode.statements)
        await stage.supernode.restart()
        await eventually(lambda: len(stage.supernode.statements) > stated, within=30)
        assert "ns/t" in stage.supernode.wanted
        stage.cluster.outage = None
        stage.task("u")
        await stage.finish("u")


def test_m4_a_written_lease_keeps_the_marks_of_helm() -> None:
    """A PUT replaces the whole object. Without the marks, Helm refuses the next installation."""
    metadata = Metadata("l", "ns", resource_version="5", labels={"managed-by": "Helm"}, annotations={"release": "p"})
    body = LeaseResource(metadata).held("me", 1, 10, datetime(2026, 1, 1, tzinfo=UTC)).body()
    expected = {"name": "l", "namespace": "ns", "resourceVersion": "5"}
    assert {**expected, "labels": {"managed-by": "Helm"}, "annotations": {"release": "p"}} == body["metadata"]
