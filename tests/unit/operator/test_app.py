"""The whole operator with one supernode."""

import asyncio
from typing import Any

import pytest

from pantala_operator.errors import ClusterUnavailableError, SupernodeUnavailableError
from pantala_protocol.statement import CDNStatus
from tests.support.eventually import eventually
from tests.support.operator_stage import OperatorStage

pytestmark = pytest.mark.virtual_time

NODES = ("a", "b")


@pytest.fixture
async def stage() -> OperatorStage:
    made = OperatorStage()
    await made.connect(*NODES)
    return made


async def test_from_task_to_ready(stage: OperatorStage) -> None:
    async with stage.operator():
        stage.task()
        await stage.until("Ready", "False", "Progressing")
        await stage.deliver()
        await stage.until("Ready", "True", "Distributed")
        await eventually(lambda: stage.cluster.events == [("ns/t", "Normal", "Distributed")])
    assert NODES == stage.supernode.wanted["ns/t"].peers


@pytest.mark.parametrize("forbidden", ["list tasks", "list nodes", "list peers"])
async def test_nothing_is_stated_before_all_lists_are_read(stage: OperatorStage, forbidden: str) -> None:
    """A statement of half of the Tasks would drop the other half's files."""
    stage.task()
    stage.cluster.forbidden = {forbidden}
    async with stage.operator() as app:
        assert any("no full list yet" in problem for problem in app.problems())
        assert [] == stage.supernode.statements
        stage.cluster.forbidden = set()
        await eventually(lambda: "ns/t" in stage.supernode.wanted, within=60)
    assert all(statement.tasks for statement in stage.supernode.statements)


async def test_nothing_is_stated_before_the_supernode_has_reported(stage: OperatorStage) -> None:
    stage.task()
    stage.supernode.outage = SupernodeUnavailableError("away")
    async with stage.operator():
        assert [] == stage.supernode.statements
        stage.supernode.outage = None
        await eventually(lambda: "ns/t" in stage.supernode.wanted)
    assert all(statement.tasks for statement in stage.supernode.statements)


async def test_revisions_grow_over_restarts(stage: OperatorStage) -> None:
    stage.task()
    for _ in range(2):
        async with stage.operator():
            await stage.deliver()
            stage.task("more", priority=len(stage.supernode.statements))
            await eventually(lambda: "ns/more" in stage.supernode.wanted)
        revisions = [statement.revision for statement in stage.supernode.statements]
        assert sorted(set(revisions)) == revisions


async def test_a_restarted_supernode_gets_the_statement_again(stage: OperatorStage) -> None:
    """A finished Task keeps its status meanwhile."""
    async with stage.operator():
        stage.task()
        await stage.finish()
        writes = list(stage.cluster.writes)
        stage.supernode.statements.clear()
        await stage.supernode.restart()
        await eventually(lambda: "ns/t" in stage.supernode.wanted)
        assert NODES == stage.supernode.wanted["ns/t"].peers
        await stage.deliver(ready_peers=())
        await asyncio.sleep(0.3)
        assert ("True", "Distributed") == stage.condition()
        assert [each for each in writes if each == "ns/t"] == [each for each in stage.cluster.writes if each == "ns/t"]


async def test_an_unreachable_supernode_is_a_reason_until_it_answers(stage: OperatorStage) -> None:
    async with stage.operator():
        stage.task()
        await eventually(lambda: stage.condition("Ready")[1] == "Progressing")
        stage.supernode.outage = SupernodeUnavailableError("connection refused")
        await stage.until("Reconciling", "True", "SupernodeUnavailable")
        stage.supernode.outage = None
        await stage.finish()


async def test_an_outage_of_the_api_server_leaves_the_statement_as_it_is(stage: OperatorStage) -> None:
    async with stage.operator():
        stage.task()
        await stage.deliver(ready_peers=())
        await stage.until("Cached", "True")
        stage.cluster.outage = ClusterUnavailableError("away")
        await stage.deliver()
        await asyncio.sleep(0.3)
        assert {"ns/t"} == set(stage.supernode.wanted)
        stage.cluster.outage = None
        await stage.ready()


async def test_a_granted_permission_is_used(stage: OperatorStage) -> None:
    stage.cluster.forbidden = {"patch tasks/status"}
    async with stage.operator():
        stage.task()
        await stage.deliver()
        await asyncio.sleep(0.2)
        assert ("", "") == stage.condition()
        stage.cluster.forbidden = set()
        await stage.ready()


async def test_a_failed_event_delays_nothing(stage: OperatorStage) -> None:
    stage.cluster.forbidden = {"create events"}
    async with stage.operator():
        stage.task()
        await stage.finish()


async def test_progress_is_written_at_its_interval_and_transitions_at_once(stage: OperatorStage) -> None:
    stage.change(progress_interval=3600)
    async with stage.operator():
        stage.task()
        for pieces in range(20):
            await stage.deliver(cdn_status=CDNStatus.RUNNING, pieces_cached=pieces, pieces_total=20, ready_peers=())
            await asyncio.sleep(0.02)
        assert stage.cluster.writes.count("ns/t") <= 2
        await stage.finish()
        assert stage.cluster.writes.count("ns/t") <= 3


async def test_progress_is_written_after_its_interval(stage: OperatorStage) -> None:
    async with stage.operator():
        stage.task()
        running: dict[str, Any] = {"cdn_status": CDNStatus.RUNNING, "pieces_total": 20, "ready_peers": ()}
        await stage.deliver(pieces_cached=1, **running)
        await eventually(lambda: stage.condition("Cached")[1] == "Fetching")
        await stage.deliver(pieces_cached=7, **running)
        await eventually(lambda: "7 of 20" in str(stage.cluster.task("ns/t").status))


async def test_a_conflicting_write_is_planned_again(stage: OperatorStage) -> None:
    """A user changes the Task between our read and our write, and the watch misses it."""
    async with stage.operator():
        stage.task()
        await stage.until("Ready", "False")
        stage.task(priority=3, watched=False)
        await stage.deliver()
        await eventually(lambda: stage.supernode.wanted["ns/t"].priority == 3)
        await stage.finish()


async def test_a_recreated_task_does_not_get_the_old_status(stage: OperatorStage) -> None:
    async with stage.operator():
        stage.task()
        await stage.finish()
        old = stage.cluster.task("ns/t").metadata.uid
        stage.cluster.remove("tasks", "ns/t", watched=False)
        stage.task()
        await eventually(lambda: stage.supernode.wanted["ns/t"].uid != old)
        await stage.until("Ready", "False", "Progressing")


async def test_a_full_list_finds_what_the_watch_missed(stage: OperatorStage) -> None:
    stage.change(relist_interval=0.2)
    async with stage.operator():
        stage.task("stays", watched=False)
        stage.task("deleted", watched=False)
        await eventually(lambda: {"ns/stays", "ns/deleted"} == set(stage.supernode.wanted))
        stage.cluster.remove("tasks", "ns/deleted", watched=False)
        await eventually(lambda: {"ns/stays"} == set(stage.supernode.wanted))


async def test_the_older_of_two_tasks_gets_the_path(stage: OperatorStage) -> None:
    """When it is deleted, the other Task gets the path."""
    async with stage.operator():
        stage.task("one", path="p", source={"url": "http://origin.example/1"})
        await eventually(lambda: "ns/one" in stage.supernode.wanted)
        stage.task("two", path="p", source={"url": "http://origin.example/2"})
        await stage.until("Stalled", "True", "PathConflict", name="two")
        await eventually(lambda: "ns/two" in stage.supernode.wanted)
        assert ("", ()) == (stage.supernode.wanted["ns/two"].path, stage.supernode.wanted["ns/two"].peers)
        stage.cluster.remove("tasks", "ns/one")
        await eventually(lambda: stage.supernode.wanted["ns/two"].path == "p")
        await stage.until("Stalled", "False", name="two")


async def test_a_new_node_gets_the_file(stage: OperatorStage) -> None:
    async with stage.operator():
        stage.task()
        await stage.finish()
        await stage.connect("c")
        await eventually(lambda: stage.supernode.wanted["ns/t"].peers == ("a", "b", "c"))
        await stage.until("Ready", "False", "Progressing")
        await stage.finish()


async def test_a_cordoned_node_keeps_its_file(stage: OperatorStage) -> None:
    async with stage.operator():
        stage.task("old")
        await stage.finish("old")
        stage.node("a", unschedulable=True)
        stage.task("new")
        await eventually(lambda: "ns/new" in stage.supernode.wanted)
        assert ("b",) == stage.supernode.wanted["ns/new"].peers
        assert NODES == stage.supernode.wanted["ns/old"].peers


async def test_a_finished_task_is_deleted_after_its_time_to_live(stage: OperatorStage) -> None:
    async with stage.operator():
        stage.task(ttlSecondsAfterFinished=1)
        await stage.deliver()
        await eventually(lambda: "ns/t" not in stage.cluster.objects["tasks"])
        await eventually(lambda: not stage.supernode.wanted)


async def test_headers_come_from_the_secret(stage: OperatorStage) -> None:
    async with stage.operator():
        stage.cluster.put("secrets", {"metadata": {"name": "s", "namespace": "ns"}, "data": {"A": "eA=="}})
        stage.task(headersFrom={"secretRef": {"name": "s"}})
        await eventually(lambda: "ns/t" in stage.supernode.wanted)
        assert {"A": "x"} == stage.supernode.wanted["ns/t"].headers
        assert "eA==" not in str(stage.cluster.objects["tasks"])


async def test_each_peer_on_a_node_has_a_resource(stage: OperatorStage) -> None:
    async with stage.operator():
        await eventually(lambda: set(NODES) == set(stage.cluster.objects["peers"]))
        stage.cluster.remove("peers", "a")
        await eventually(lambda: set(NODES) == set(stage.cluster.objects["peers"]))
        stage.cluster.remove("nodes", "b")
        await eventually(lambda: {"a"} == set(stage.cluster.objects["peers"]))


async def test_a_missing_crd_is_a_problem(stage: OperatorStage) -> None:
    stage.cluster.missing = ["tasks.pantala.dev"]
    async with stage.operator() as app:
        problem = "CRD tasks.pantala.dev is not served; install crds/"
        await eventually(lambda: problem in app.problems())
        stage.cluster.missing = []
        await eventually(lambda: app.problems() == [])


async def test_a_statement_is_sent_only_for_a_difference(stage: OperatorStage) -> None:
    async with stage.operator():
        for number in range(50):
            stage.task(f"t{number}")
        await eventually(lambda: stage.supernode.statements and len(stage.supernode.wanted) == 50)
        assert len(stage.supernode.statements) <= 5
        count = len(stage.supernode.statements)
        await stage.finish("t7")
        await asyncio.sleep(0.3)
        assert count == len(stage.supernode.statements)
