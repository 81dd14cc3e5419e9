"""The whole operator with several supernodes, counted by a StatefulSet."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pantala_operator.errors import ClusterForbiddenError, SupernodeUnavailableError
from pantala_protocol import task_id
from pantala_protocol.statement import CDNStatus, Changes, owner_among
from tests.support.eventually import eventually
from tests.support.operator_stage import OperatorStage
from tests.support.supernode import MemorySupernode

pytestmark = pytest.mark.virtual_time

NODES = ("a", "b")
NAMES = ("s-0", "s-1", "s-2")
DOWN = SupernodeUnavailableError("connection refused")


def url_of(name: str) -> str:
    """The URL of a file that a supernode owns when there are three."""
    urls = (f"http://origin.example/{number}" for number in range(1000))
    return next(url for url in urls if owner_among(task_id.compute(url), NAMES) == name)


class ScaledStage(OperatorStage):
    """Three supernodes, of which the StatefulSet counts some."""

    def scale(self, replicas: int, pods: int = 0) -> None:
        spec = {"replicas": replicas, "serviceName": "svc"}
        body = {"metadata": {"name": "s", "namespace": "ns"}, "spec": spec, "status": {"replicas": pods}}
        self.cluster.put("statefulsets", body)

    def owned_task(self, name: str, owner: str) -> None:
        self.task(name, source={"url": url_of(owner)})

    def stated(self, name: str = "t") -> set[str]:
        """The supernodes whose last statement has the Task."""
        return {each for each, supernode in self.supernodes.items() if f"ns/{name}" in supernode.wanted}

    def members(self, name: str) -> dict[str, bool]:
        """The members by the last statement to a supernode, and whether they are leaving."""
        statements = self.supernodes[name].statements
        membership = statements[-1].membership if statements else None
        return {each.name: each.leaving for each in membership.members} if membership else {}


@pytest.fixture
async def stopped() -> ScaledStage:
    made = ScaledStage(*NAMES, progress_interval=0.2)
    await made.connect(*NODES)
    made.scale(1)
    return made


@pytest.fixture
async def stage(stopped: ScaledStage) -> AsyncIterator[ScaledStage]:
    """An operator runs."""
    async with stopped.operator():
        yield stopped


async def test_from_one_to_three_and_back_no_task_is_ever_unready(stage: ScaledStage) -> None:
    """It is stated to both supernodes during the move, and to its owner afterwards. Leaving supernodes are released."""
    stage.owned_task("t", "s-2")
    await stage.finish("t", "s-0")
    stage.cluster.events.clear()
    writes = len(stage.cluster.writes)

    stage.scale(3)
    await eventually(lambda: stage.stated("t") == {"s-0", "s-2"})
    await eventually(lambda: dict.fromkeys(NAMES, False) == stage.members("s-2") == stage.members("s-0"))
    await stage.deliver("t", "s-2", cdn_status=CDNStatus.RUNNING, ready_peers=())
    await stage.deliver("t", "s-2", ready_peers=("a",))
    await asyncio.sleep(0.3)
    assert {"s-0", "s-2"} == stage.stated("t")
    await stage.deliver("t", "s-2")
    await eventually(lambda: stage.stated("t") == {"s-2"})

    stage.scale(1, pods=3)
    await eventually(lambda: stage.stated("t") == {"s-0", "s-2"})
    assert {"s-0": False, "s-1": True, "s-2": True} == stage.members("s-2")
    await eventually(lambda: stage.members("s-0") == {"s-0": False, "s-2": True})
    await stage.deliver("t", "s-0")
    await eventually(lambda: stage.members("s-0") == {"s-0": False})
    assert {"s-0"} == stage.stated("t")
    assert stage.members("s-1")["s-1"], "it is stated that it leaves before it is released"
    assert [] == [event for event in stage.cluster.events if event[2] != "Distributed"]
    assert ("True", "Distributed") == stage.condition("Ready", "t")
    assert stage.cluster.writes[writes:].count("ns/t") <= 2


async def test_a_new_operator_continues_a_move(stopped: ScaledStage) -> None:
    """It learns the leaving supernodes from the StatefulSet, and their tasks from their reports."""
    stopped.scale(3)
    async with stopped.operator():
        stopped.owned_task("t", "s-2")
        await stopped.deliver("t", "s-2", cdn_status=CDNStatus.RUNNING, pieces_cached=4, ready_peers=())
    before = stopped.supernodes["s-2"].statements[-1].membership
    stopped.scale(1, pods=3)
    async with stopped.operator():
        await eventually(lambda: stopped.stated("t") == {"s-0", "s-2"})
        after = stopped.supernodes["s-2"].statements[-1].membership
        assert before is not None
        assert after is not None
        assert after.revision > before.revision


async def test_a_leaving_supernode_that_does_not_answer_is_released(stopped: ScaledStage) -> None:
    stopped.scale(2)
    async with stopped.operator():
        await eventually(lambda: stopped.members("s-1"))
        stopped.supernodes["s-1"].outage = DOWN
        stopped.scale(1)
        await eventually(lambda: stopped.members("s-0") == {"s-0": False})


class SlowReporter(MemorySupernode):
    """It accepts statements at once, and reports only when ``reports`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.reports = asyncio.Event()

    async def changes(self, boot: str, since: int, wait: float) -> Changes:
        await self.reports.wait()
        return await super().changes(boot, since, wait)


async def test_nothing_is_stated_to_a_supernode_that_has_not_reported(stopped: ScaledStage) -> None:
    """It may have unknown tasks. After its report it gets a statement, though it has no tasks."""
    slow = stopped.supernodes["s-1"] = SlowReporter()
    async with stopped.operator():
        await eventually(lambda: stopped.members("s-0"))
        stopped.scale(2)
        await eventually(lambda: stopped.members("s-0") == {"s-0": False, "s-1": False})
        await asyncio.sleep(0.3)
        assert [] == slow.statements
        slow.reports.set()
        await eventually(lambda: stopped.members("s-1") == {"s-0": False, "s-1": False}, within=3)


async def test_an_unreachable_supernode_delays_only_its_own_tasks(stopped: ScaledStage) -> None:
    stopped.scale(3)
    stopped.supernodes["s-2"].outage = DOWN
    async with stopped.operator():
        stopped.owned_task("blocked", "s-2")
        stopped.owned_task("other", "s-1")
        await stopped.finish("other", "s-1")
        await stopped.until("Ready", "False", "SupernodeUnavailable", name="blocked")
        assert [] == stopped.supernodes["s-2"].statements
        stopped.supernodes["s-2"].outage = None
        await stopped.finish("blocked", "s-2")


async def test_scaled_to_0_files_stay_and_tasks_have_a_reason(stage: ScaledStage) -> None:
    stage.owned_task("done", "s-1")
    await stage.finish("done", "s-0")
    count = len(stage.supernodes["s-0"].statements)
    stage.scale(0)
    await asyncio.sleep(3)  # until the StatefulSet is read again
    stage.owned_task("new", "s-2")
    await stage.until("Ready", "False", "SupernodeUnavailable", name="new")
    assert "scaled to 0" in str(stage.cluster.task("ns/new").status)
    assert ("True", "Distributed") == stage.condition("Ready", "done")
    assert count == len(stage.supernodes["s-0"].statements)
    stage.scale(1)
    await stage.finish("new", "s-0")
    assert {"s-0"} == stage.stated("done")


async def test_an_unreadable_statefulset_changes_nothing(stopped: ScaledStage) -> None:
    stopped.scale(2)
    async with stopped.operator() as app:
        await eventually(lambda: stopped.members("s-1"))
        stopped.cluster.forbidden = {"get statefulsets"}
        stopped.scale(1)
        await asyncio.sleep(3)
        assert {"s-0": False, "s-1": False} == stopped.members("s-0")
        assert [] == app.problems()


async def test_a_statefulset_that_was_never_read_is_a_problem(stopped: ScaledStage) -> None:
    stopped.cluster.outage = ClusterForbiddenError("no")
    stopped.owned_task("t", "s-0")
    async with stopped.operator() as app:
        await eventually(lambda: "the StatefulSet ns/s cannot be read: no" in app.problems())
        stopped.cluster.outage = None
        await eventually(lambda: app.problems() == [])


async def test_supernodes_of_a_list_of_urls_are_members(stopped: ScaledStage) -> None:
    urls = tuple(f"http://{name}.svc.ns:8002" for name in NAMES)
    stopped.change(supernode=urls, supernode_statefulset="")
    async with stopped.operator():
        await eventually(lambda: all(stopped.members(name) for name in NAMES))
        assert {f"{name}.svc.ns:8002" for name in NAMES} == stopped.members("s-0").keys()
        assert ["s-1.svc.ns:8002"] == list({each.member for each in stopped.supernodes["s-1"].statements})
