"""The whole operator, between an API server and a supernode in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from pantala_operator.app import App
from pantala_operator.errors import ClusterUnavailableError, SupernodeUnavailableError
from pantala_operator.ports import SystemClock
from pantala_operator.settings import Settings
from pantala_protocol.statement import CDNStatus, TaskReport
from tests.support.cluster import MemoryCluster
from tests.support.eventually import eventually
from tests.support.supernode import MemorySupernode

SETTINGS = Settings(
    supernode=("http://memory",),
    health_listen="127.0.0.1:0",
    relist_interval=3600,
    progress_interval=0.5,
    supernode_patience=0.2,
)
NODES = ("a", "b")


@dataclass
class World:
    """Both sides of the operator."""

    cluster: MemoryCluster = field(default_factory=MemoryCluster)
    supernode: MemorySupernode = field(default_factory=MemorySupernode)
    settings: Settings = SETTINGS

    def task(self, name: str = "t", *, watched: bool = True, **spec: Any) -> None:
        spec.setdefault("source", {"url": "http://origin.example/f"})
        body = {"metadata": {"name": name, "namespace": "ns"}, "spec": spec}
        former = self.cluster.objects["tasks"].get(f"ns/{name}")
        if former is not None:
            body["metadata"]["annotations"] = former["metadata"].get("annotations", {})
        self.cluster.put("tasks", body, watched=watched)

    def node(self, name: str, **spec: Any) -> None:
        self.cluster.put("nodes", {"metadata": {"name": name}, "spec": spec})

    def condition(self, kind: str, name: str = "t") -> tuple[str, str]:
        status = self.cluster.task(f"ns/{name}").status
        return next(((each.status, each.reason) for each in status.conditions if each.type == kind), ("", ""))

    async def deliver(self, name: str = "t", **changes: Any) -> None:
        await eventually(lambda: f"ns/{name}" in self.supernode.wanted)
        wanted = self.supernode.wanted[f"ns/{name}"]
        done = TaskReport(wanted.uid, wanted.task_id, wanted.attempt, CDNStatus.SUCCESS, 8, ready_peers=wanted.peers)
        await self.supernode.report(msgspec.structs.replace(done, **changes))

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[App]:
        clock = SystemClock()
        app = App(self.settings, self.cluster, lambda _: self.supernode, self.cluster.watch, clock)
        running = asyncio.create_task(app.run())
        await eventually(lambda: running.done() or not app.problems() or self.cluster.outage or self.cluster.missing)
        try:
            yield app
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


@pytest.fixture
async def world() -> World:
    made = World()
    for name in NODES:
        made.node(name)
    await made.supernode.connect(*NODES)
    return made


async def test_from_task_to_ready(world: World) -> None:
    async with world.operator():
        world.task()
        await eventually(lambda: world.condition("Ready") == ("False", "Progressing"))
        await world.deliver()
        await eventually(lambda: world.condition("Ready") == ("True", "Distributed"))
        await eventually(lambda: world.cluster.events == [("ns/t", "Normal", "Distributed")])
    assert NODES == world.supernode.wanted["ns/t"].peers


async def test_nothing_is_stated_before_all_is_known(world: World) -> None:
    """A statement of half of the Tasks would drop the other half's files."""
    world.task()
    for call in ("list tasks", "list nodes", "list peers"):
        world.cluster.forbidden = {call}
        running = asyncio.create_task(_run_for(world, 0.4))
        await running
        assert [] == world.supernode.statements
    world.cluster.forbidden = set()
    world.supernode.outage = SupernodeUnavailableError("away")
    async with world.operator():
        await asyncio.sleep(0.3)
        assert [] == world.supernode.statements
        world.supernode.outage = None
        await eventually(lambda: "ns/t" in world.supernode.wanted)
    assert all(statement.tasks for statement in world.supernode.statements)


async def _run_for(world: World, seconds: float) -> None:
    app = App(world.settings, world.cluster, lambda _: world.supernode, world.cluster.watch, SystemClock())
    try:
        async with asyncio.timeout(seconds):
            await app.run()
    except TimeoutError:
        assert any("no full list yet" in problem for problem in app.problems())


async def test_revisions_grow_over_restarts(world: World) -> None:
    world.task()
    for _ in range(2):
        async with world.operator():
            await world.deliver()
            world.task("more", priority=len(world.supernode.statements))
            await eventually(lambda: "ns/more" in world.supernode.wanted)
        revisions = [statement.revision for statement in world.supernode.statements]
        assert sorted(set(revisions)) == revisions


async def test_a_supernode_that_restarted_is_told_again(world: World) -> None:
    """And a finished Task is not written to meanwhile."""
    async with world.operator():
        world.task()
        await world.deliver()
        await eventually(lambda: world.condition("Ready")[0] == "True")
        writes = list(world.cluster.writes)
        world.supernode.statements.clear()
        await world.supernode.restart()
        await eventually(lambda: "ns/t" in world.supernode.wanted)
        assert NODES == world.supernode.wanted["ns/t"].peers
        await world.deliver(ready_peers=())
        await asyncio.sleep(0.3)
        assert ("True", "Distributed") == world.condition("Ready")
        assert [each for each in writes if each == "ns/t"] == [each for each in world.cluster.writes if each == "ns/t"]


async def test_silence_of_the_supernode_is_said_and_its_end(world: World) -> None:
    async with world.operator():
        world.task()
        await eventually(lambda: world.condition("Ready")[1] == "Progressing")
        world.supernode.outage = SupernodeUnavailableError("nobody listens")
        await eventually(lambda: world.condition("Reconciling") == ("True", "SupernodeUnavailable"))
        world.supernode.outage = None
        await world.deliver()
        await eventually(lambda: world.condition("Ready")[0] == "True")


async def test_an_outage_of_the_api_server_changes_nothing_that_is_wanted(world: World) -> None:
    async with world.operator():
        world.task()
        await world.deliver(ready_peers=())
        await eventually(lambda: world.condition("Cached")[0] == "True")
        world.cluster.outage = ClusterUnavailableError("away")
        await world.deliver()
        await asyncio.sleep(0.3)
        assert {"ns/t"} == set(world.supernode.wanted)
        world.cluster.outage = None
        await eventually(lambda: world.condition("Ready")[0] == "True")


async def test_a_missing_permission_heals(world: World) -> None:
    world.cluster.forbidden = {"patch tasks/status"}
    async with world.operator():
        world.task()
        await world.deliver()
        await asyncio.sleep(0.2)
        assert ("", "") == world.condition("Ready")
        world.cluster.forbidden = set()
        await eventually(lambda: world.condition("Ready")[0] == "True")


async def test_an_event_that_cannot_be_written_holds_nothing_up(world: World) -> None:
    world.cluster.forbidden = {"create events"}
    async with world.operator():
        world.task()
        await world.deliver()
        await eventually(lambda: world.condition("Ready")[0] == "True")


async def test_progress_is_written_at_its_pace_and_transitions_at_once(world: World) -> None:
    world.settings = replace(SETTINGS, progress_interval=3600)
    async with world.operator():
        world.task()
        for pieces in range(20):
            await world.deliver(cdn_status=CDNStatus.RUNNING, pieces_cached=pieces, pieces_total=20, ready_peers=())
            await asyncio.sleep(0.02)
        assert world.cluster.writes.count("ns/t") <= 2
        await world.deliver()
        await eventually(lambda: world.condition("Ready")[0] == "True")
        assert world.cluster.writes.count("ns/t") <= 3


async def test_progress_comes_after_its_interval(world: World) -> None:
    async with world.operator():
        world.task()
        running: dict[str, Any] = {"cdn_status": CDNStatus.RUNNING, "pieces_total": 20, "ready_peers": ()}
        await world.deliver(pieces_cached=1, **running)
        await eventually(lambda: world.condition("Cached")[1] == "Fetching")
        await world.deliver(pieces_cached=7, **running)
        await eventually(lambda: "7 of 20" in str(world.cluster.task("ns/t").status))


async def test_a_conflicting_write_is_planned_anew(world: World) -> None:
    """Somebody changed the Task between our reading and our writing, and watching has not told yet."""
    async with world.operator():
        world.task()
        await eventually(lambda: world.condition("Ready")[0] == "False")
        world.task(priority=3, watched=False)
        await world.deliver()
        await eventually(lambda: world.supernode.wanted["ns/t"].priority == 3)
        await world.deliver()
        await eventually(lambda: world.condition("Ready")[0] == "True")


async def test_a_task_made_anew_under_its_old_name_does_not_get_the_old_status(world: World) -> None:
    async with world.operator():
        world.task()
        await world.deliver()
        await eventually(lambda: world.condition("Ready")[0] == "True")
        old = world.cluster.task("ns/t").metadata.uid
        world.cluster.remove("tasks", "ns/t", watched=False)
        world.task()
        await eventually(lambda: world.supernode.wanted["ns/t"].uid != old)
        await eventually(lambda: world.condition("Ready") == ("False", "Progressing"))


async def test_what_watching_missed_is_found(world: World) -> None:
    world.settings = replace(SETTINGS, relist_interval=0.2)
    async with world.operator():
        world.task("stays", watched=False)
        world.task("goes", watched=False)
        await eventually(lambda: {"ns/stays", "ns/goes"} == set(world.supernode.wanted))
        world.cluster.remove("tasks", "ns/goes", watched=False)
        await eventually(lambda: {"ns/stays"} == set(world.supernode.wanted))


async def test_two_tasks_do_not_fight_for_one_path(world: World) -> None:
    """The older one has it; when that goes, the other gets it."""
    async with world.operator():
        world.task("one", path="p", source={"url": "http://origin.example/1"})
        await eventually(lambda: "ns/one" in world.supernode.wanted)
        world.task("two", path="p", source={"url": "http://origin.example/2"})
        await eventually(lambda: world.condition("Stalled", "two") == ("True", "PathConflict"))
        await eventually(lambda: "ns/two" in world.supernode.wanted)
        assert ("", ()) == (world.supernode.wanted["ns/two"].path, world.supernode.wanted["ns/two"].peers)
        world.cluster.remove("tasks", "ns/one")
        await eventually(lambda: world.supernode.wanted["ns/two"].path == "p")
        await eventually(lambda: world.condition("Stalled", "two")[0] == "False")


async def test_a_new_node_gets_the_file(world: World) -> None:
    async with world.operator():
        world.task()
        await world.deliver()
        await eventually(lambda: world.condition("Ready")[0] == "True")
        world.node("c")
        await world.supernode.connect("c")
        await eventually(lambda: world.supernode.wanted["ns/t"].peers == ("a", "b", "c"))
        await eventually(lambda: world.condition("Ready") == ("False", "Progressing"))
        await world.deliver()
        await eventually(lambda: world.condition("Ready")[0] == "True")


async def test_a_cordoned_node_keeps_its_file(world: World) -> None:
    async with world.operator():
        world.task("old")
        await world.deliver("old")
        await eventually(lambda: world.condition("Ready", "old")[0] == "True")
        world.node("a", unschedulable=True)
        world.task("new")
        await eventually(lambda: "ns/new" in world.supernode.wanted)
        assert ("b",) == world.supernode.wanted["ns/new"].peers
        assert NODES == world.supernode.wanted["ns/old"].peers


async def test_a_finished_task_is_deleted_in_its_time(world: World) -> None:
    async with world.operator():
        world.task(ttlSecondsAfterFinished=1)
        await world.deliver()
        await eventually(lambda: "ns/t" not in world.cluster.objects["tasks"])
        await eventually(lambda: not world.supernode.wanted)


async def test_headers_come_and_change_with_their_secret(world: World) -> None:
    async with world.operator():
        world.cluster.put("secrets", {"metadata": {"name": "s", "namespace": "ns"}, "data": {"A": "eA=="}})
        world.task(headersFrom={"secretRef": {"name": "s"}})
        await eventually(lambda: "ns/t" in world.supernode.wanted)
        assert {"A": "x"} == world.supernode.wanted["ns/t"].headers
        assert "eA==" not in str(world.cluster.objects["tasks"])


async def test_peers_have_their_resources(world: World) -> None:
    async with world.operator():
        await eventually(lambda: set(NODES) == set(world.cluster.objects["peers"]))
        world.cluster.remove("peers", "a")
        await eventually(lambda: set(NODES) == set(world.cluster.objects["peers"]))
        world.cluster.remove("nodes", "b")
        await eventually(lambda: {"a"} == set(world.cluster.objects["peers"]))


async def test_a_missing_crd_is_told(world: World) -> None:
    world.cluster.missing = ["tasks.pantala.dev"]
    async with world.operator() as app:
        said = "CRD tasks.pantala.dev is not served; install crds/"
        await eventually(lambda: said in app.problems())
        world.cluster.missing = []
        await eventually(lambda: app.problems() == [])


async def test_a_statement_is_made_for_each_difference_and_for_no_other(world: World) -> None:
    async with world.operator():
        for number in range(50):
            world.task(f"t{number}")
        await eventually(lambda: world.supernode.statements and len(world.supernode.wanted) == 50)
        assert len(world.supernode.statements) <= 5
        count = len(world.supernode.statements)
        await world.deliver("t7")
        await eventually(lambda: world.condition("Ready", "t7")[0] == "True")
        await asyncio.sleep(0.3)
        assert count == len(world.supernode.statements)
