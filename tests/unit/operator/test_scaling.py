"""The whole operator with several supernodes in memory, counted by a StatefulSet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from pantala_operator.app import App
from pantala_operator.errors import ClusterForbiddenError, SupernodeUnavailableError
from pantala_operator.ports import SystemClock
from pantala_operator.settings import Settings
from pantala_operator.supernodes import discovery
from pantala_protocol import task_id
from pantala_protocol.membership import owner
from pantala_protocol.statement import CDNStatus, Changes, TaskReport
from tests.support.cluster import MemoryCluster
from tests.support.eventually import eventually
from tests.support.supernode import MemorySupernode

SETTINGS = Settings(
    supernode_statefulset="ns/s",
    health_listen="127.0.0.1:0",
    relist_interval=3600,
    progress_interval=0.2,
    supernode_patience=0.2,
)
NODES = ("a", "b")
NAMES = ("s-0", "s-1", "s-2")
DOWN = SupernodeUnavailableError("nobody listens")


def url_of(name: str) -> str:
    """The URL of a file that belongs to a supernode when there are three."""
    urls = (f"http://origin.example/{number}" for number in range(1000))
    return next(url for url in urls if owner(task_id.compute(url), NAMES) == name)


@dataclass
class World:
    """Both sides of the operator."""

    cluster: MemoryCluster = field(default_factory=MemoryCluster)
    supernodes: dict[str, MemorySupernode] = field(default_factory=lambda: {name: MemorySupernode() for name in NAMES})
    settings: Settings = SETTINGS

    def scale(self, replicas: int, pods: int = 0) -> None:
        spec = {"replicas": replicas, "serviceName": "svc"}
        body = {"metadata": {"name": "s", "namespace": "ns"}, "spec": spec, "status": {"replicas": pods}}
        self.cluster.put("statefulsets", body)

    def task(self, name: str, owner: str) -> None:
        body = {"metadata": {"name": name, "namespace": "ns"}, "spec": {"source": {"url": url_of(owner)}}}
        self.cluster.put("tasks", body)

    def ready(self, name: str) -> tuple[str, str]:
        status = self.cluster.task(f"ns/{name}").status
        return next(((each.status, each.reason) for each in status.conditions if each.type == "Ready"), ("", ""))

    def stated(self, name: str) -> set[str]:
        """The supernodes whose last statement has the Task."""
        return {each for each, supernode in self.supernodes.items() if f"ns/{name}" in supernode.wanted}

    def members(self, name: str) -> dict[str, bool]:
        """Who leaves and who does not, as one supernode was told last."""
        told = self.supernodes[name].statements
        return {each.name: each.leaving for each in told[-1].membership.members} if told and told[-1].membership else {}

    async def deliver(self, name: str, supernode: str, **changes: Any) -> None:
        await eventually(lambda: supernode in self.stated(name))
        wanted = self.supernodes[supernode].wanted[f"ns/{name}"]
        done = TaskReport(wanted.uid, wanted.task_id, wanted.attempt, CDNStatus.SUCCESS, 8, ready_peers=wanted.peers)
        await self.supernodes[supernode].report(msgspec.structs.replace(done, **changes))

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[App]:
        def connect(url: str) -> MemorySupernode:
            assert url.endswith(".svc.ns:8002")
            return self.supernodes[url.removeprefix("http://").partition(".")[0]]

        app = App(self.settings, self.cluster, connect, self.cluster.watch, SystemClock())
        running = asyncio.create_task(app.run())
        try:
            yield app
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(discovery, "_INTERVAL", 0.05)
    made = World()
    for name in NODES:
        made.cluster.put("nodes", {"metadata": {"name": name}})
    for supernode in made.supernodes.values():
        await supernode.connect(*NODES)
    made.scale(1)
    return made


async def test_from_one_to_three_and_back_no_task_is_ever_unready(world: World) -> None:
    """Stated to both ends while it moves, and to its owner alone then; who left is no member any more."""
    async with world.operator():
        world.task("t", "s-2")
        await world.deliver("t", "s-0")
        await eventually(lambda: world.ready("t")[0] == "True")
        world.cluster.events.clear()
        writes = len(world.cluster.writes)

        world.scale(3)
        await eventually(lambda: world.stated("t") == {"s-0", "s-2"})
        await eventually(lambda: dict.fromkeys(NAMES, False) == world.members("s-2") == world.members("s-0"))
        await world.deliver("t", "s-2", cdn_status=CDNStatus.RUNNING, ready_peers=())
        await world.deliver("t", "s-2", ready_peers=("a",))
        await asyncio.sleep(0.3)
        assert {"s-0", "s-2"} == world.stated("t")
        await world.deliver("t", "s-2")
        await eventually(lambda: world.stated("t") == {"s-2"})

        world.scale(1, pods=3)
        await eventually(lambda: world.stated("t") == {"s-0", "s-2"})
        assert {"s-0": False, "s-1": True, "s-2": True} == world.members("s-2")
        await eventually(lambda: world.members("s-0") == {"s-0": False, "s-2": True})
        await world.deliver("t", "s-0")
        await eventually(lambda: world.members("s-0") == {"s-0": False})
        assert {"s-0"} == world.stated("t")
        assert [] == [event for event in world.cluster.events if event[2] != "Distributed"]
        assert ("True", "Distributed") == world.ready("t")
        assert world.cluster.writes[writes:].count("ns/t") <= 2


async def test_who_is_told_to_leave_hears_it_before_it_is_let_go(world: World) -> None:
    world.scale(3)
    async with world.operator():
        await eventually(lambda: all(world.members(name) for name in NAMES))
        world.scale(2)
        await eventually(lambda: world.members("s-2") == {"s-0": False, "s-1": False, "s-2": True})
        await eventually(lambda: world.members("s-0") == {"s-0": False, "s-1": False})


async def test_a_new_operator_goes_on_with_a_move(world: World) -> None:
    """It learns from the StatefulSet who leaves, and from those who leave what they have."""
    world.scale(3)
    async with world.operator():
        world.task("t", "s-2")
        await world.deliver("t", "s-2", cdn_status=CDNStatus.RUNNING, pieces_cached=4, ready_peers=())
    revision = world.supernodes["s-2"].statements[-1].membership
    world.scale(1, pods=3)
    async with world.operator():
        await eventually(lambda: world.stated("t") == {"s-0", "s-2"})
        membership = world.supernodes["s-2"].statements[-1].membership
        assert revision is not None
        assert membership is not None
        assert membership.revision > revision.revision


async def test_who_leaves_without_a_word_is_let_go(world: World) -> None:
    world.scale(2)
    async with world.operator():
        await eventually(lambda: world.members("s-1"))
        world.supernodes["s-1"].outage = DOWN
        world.scale(1)
        await eventually(lambda: world.members("s-0") == {"s-0": False})


class Shy(MemorySupernode):
    """Takes statements at once, and says nothing for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.speaks = asyncio.Event()

    async def changes(self, boot: str, since: int, wait: float) -> Changes:
        await self.speaks.wait()
        return await super().changes(boot, since, wait)


async def test_nothing_is_stated_to_one_that_was_not_heard_yet(world: World) -> None:
    """It may have what nobody else knows of. Once it was, it is told at once, though it has neither tasks nor peers."""
    shy = world.supernodes["s-1"] = Shy()
    async with world.operator():
        await eventually(lambda: world.members("s-0"))
        world.scale(2)
        await eventually(lambda: world.members("s-0") == {"s-0": False, "s-1": False})
        await asyncio.sleep(0.3)
        assert [] == shy.statements
        shy.speaks.set()
        await eventually(lambda: world.members("s-1") == {"s-0": False, "s-1": False}, within=3)


async def test_one_that_is_away_holds_only_its_own_tasks_up(world: World) -> None:
    world.scale(3)
    world.supernodes["s-2"].outage = DOWN
    async with world.operator():
        world.task("hers", "s-2")
        world.task("his", "s-1")
        await world.deliver("his", "s-1")
        await eventually(lambda: world.ready("his")[0] == "True")
        await eventually(lambda: world.ready("hers") == ("False", "SupernodeUnavailable"))
        assert [] == world.supernodes["s-2"].statements
        world.supernodes["s-2"].outage = None
        await world.deliver("hers", "s-2")
        await eventually(lambda: world.ready("hers")[0] == "True")


async def test_scaled_to_0_nothing_is_taken_back_and_tasks_say_why_they_wait(world: World) -> None:
    async with world.operator():
        world.task("done", "s-1")
        await world.deliver("done", "s-0")
        await eventually(lambda: world.ready("done")[0] == "True")
        count = len(world.supernodes["s-0"].statements)
        world.scale(0)
        world.task("new", "s-2")
        await eventually(lambda: world.ready("new") == ("False", "SupernodeUnavailable"))
        assert "scaled to 0" in str(world.cluster.task("ns/new").status)
        assert ("True", "Distributed") == world.ready("done")
        assert count == len(world.supernodes["s-0"].statements)
        world.scale(1)
        await world.deliver("new", "s-0")
        await eventually(lambda: world.ready("new")[0] == "True")
        assert {"s-0"} == world.stated("done")


async def test_while_the_statefulset_cannot_be_read_all_goes_on_as_it_is(world: World) -> None:
    world.scale(2)
    async with world.operator() as app:
        await eventually(lambda: world.members("s-1"))
        world.cluster.forbidden = {"get statefulsets"}
        world.scale(1)
        await asyncio.sleep(0.2)
        assert {"s-0": False, "s-1": False} == world.members("s-0")
        assert [] == app.problems()


async def test_a_statefulset_that_was_never_read_is_told(world: World) -> None:
    world.cluster.outage = ClusterForbiddenError("no")
    world.task("t", "s-0")
    async with world.operator() as app:
        await eventually(lambda: "the StatefulSet ns/s cannot be read: no" in app.problems())
        world.cluster.outage = None
        await eventually(lambda: app.problems() == [])


async def test_supernodes_of_a_list_are_members_too(world: World) -> None:
    urls = tuple(f"http://{name}.svc.ns:8002" for name in NAMES)
    world.settings = replace(SETTINGS, supernode=urls, supernode_statefulset="")
    async with world.operator():
        await eventually(lambda: all(world.members(name) for name in NAMES))
        assert {f"{name}.svc.ns:8002" for name in NAMES} == world.members("s-0").keys()
        assert ["s-1.svc.ns:8002"] == list({each.member for each in world.supernodes["s-1"].statements})
