"""The whole operator with one supernode."""

import asyncio
from collections.abc import AsyncIterator
from unittest.mock import AsyncMock

import msgspec
import pytest

from pantala_operator.errors import (
    ClusterConflictError,
    ClusterError,
    ClusterForbiddenError,
    ClusterNotFoundError,
    ClusterUnavailableError,
    SupernodeUnavailableError,
)
from pantala_operator.events import StatusWritten
from pantala_operator.ports import R, ResourceStatus
from pantala_protocol.statement import CDNStatus
from tests.support.eventually import eventually
from tests.support.operator_stage import OperatorStage

pytestmark = pytest.mark.virtual_time

NODES = ("a", "b")


@pytest.fixture
async def stopped() -> OperatorStage:
    made = OperatorStage()
    await made.connect(*NODES)
    return made


@pytest.fixture
async def stage(stopped: OperatorStage) -> AsyncIterator[OperatorStage]:
    """An operator runs."""
    async with stopped.operator():
        yield stopped


async def test_from_task_to_ready(stage: OperatorStage) -> None:
    stage.task()
    await stage.until("Ready", "False", "Progressing")
    await stage.deliver()
    await stage.until("Ready", "True", "Distributed")
    await eventually(lambda: stage.cluster.events == [("ns/t", "Normal", "Distributed")])
    assert NODES == stage.supernode.wanted["ns/t"].peers


async def test_a_status_is_published_if_the_answer_to_its_write_comes_before_the_watch(
    stopped: OperatorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stopped.operator() as app:
        seen: list[str] = []
        app.events.subscribe(StatusWritten, lambda event: seen.append(event.resource.status.conditions[0].reason))
        stopped.task()
        monkeypatch.setattr(stopped.cluster, "_notify", lambda *_: None)
        await stopped.until("Ready", "False", "Progressing")
        await stopped.deliver()
        await stopped.until("Ready", "True", "Distributed")
        await eventually(lambda: seen[-1:] == ["Distributed"])
        assert "Progressing" in seen


@pytest.mark.parametrize("forbidden", ["list tasks", "list nodes", "list peers"])
async def test_nothing_is_stated_before_all_lists_are_read(stopped: OperatorStage, forbidden: str) -> None:
    """A statement of half of the Tasks would drop the other half's files."""
    stopped.task()
    stopped.cluster.forbidden = {forbidden}
    async with stopped.operator() as app:
        assert any("the operator has not listed all objects yet" in problem for problem in app.problems())
        assert [] == stopped.supernode.statements
        stopped.cluster.forbidden = set()
        await eventually(lambda: "ns/t" in stopped.supernode.wanted, within=60)
    assert all(statement.tasks for statement in stopped.supernode.statements)


async def test_revisions_grow_over_restarts(stopped: OperatorStage) -> None:
    stopped.task()
    for _ in range(2):
        async with stopped.operator():
            await stopped.deliver()
            stopped.task("more", priority=len(stopped.supernode.statements))
            await eventually(lambda: "ns/more" in stopped.supernode.wanted)
        revisions = [statement.revision for statement in stopped.supernode.statements]
        assert sorted(set(revisions)) == revisions


async def test_a_restarted_supernode_gets_the_statement_again(stage: OperatorStage) -> None:
    """A finished Task keeps its status meanwhile."""
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


async def test_an_outage_of_the_api_server_leaves_the_statement_as_it_is(stage: OperatorStage) -> None:
    stage.task()
    await stage.deliver(ready_peers=())
    await stage.until("Cached", "True")
    stage.cluster.outage = ClusterUnavailableError("away")
    await stage.deliver()
    await asyncio.sleep(0.3)
    assert {"ns/t"} == set(stage.supernode.wanted)
    stage.cluster.outage = None
    await stage.ready()


async def test_a_granted_permission_is_used(stopped: OperatorStage) -> None:
    stopped.cluster.forbidden = {"patch tasks/status"}
    async with stopped.operator():
        stopped.task()
        await stopped.deliver()
        await asyncio.sleep(0.2)
        assert ("", "") == stopped.condition()
        stopped.cluster.forbidden = set()
        await stopped.ready()


async def test_a_failed_event_delays_nothing(stopped: OperatorStage) -> None:
    stopped.cluster.forbidden = {"create events"}
    async with stopped.operator():
        stopped.task()
        await stopped.finish()


async def test_progress_is_written_at_its_interval_and_transitions_at_once(stopped: OperatorStage) -> None:
    stopped.change(progress_interval=60)
    async with stopped.operator():
        stopped.task()
        for pieces in range(20):
            await stopped.deliver(cdn_status=CDNStatus.RUNNING, pieces_cached=pieces, pieces_total=20, ready_peers=())
            await asyncio.sleep(0.02)
        assert stopped.cluster.writes.count("ns/t") <= 2
        await eventually(lambda: "19 of 20" in str(stopped.cluster.task("ns/t").status), within=90)
        await stopped.finish()
        assert stopped.cluster.writes.count("ns/t") <= 4


async def test_a_conflicting_write_is_planned_again(stage: OperatorStage) -> None:
    """A user changes the Task between our read and our write, and the watch misses it."""
    stage.task()
    await stage.until("Ready", "False")
    stage.task(priority=3, watched=False)
    await stage.deliver()
    await eventually(lambda: stage.supernode.wanted["ns/t"].priority == 3)
    await stage.finish()


async def test_a_field_that_older_crds_drop_causes_no_writes_without_end(
    stage: OperatorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, calls = stage.cluster.apply_status, list[str]()

    async def dropping(resource: R, status: ResourceStatus) -> R:
        calls.append(resource.kind)
        return await apply(resource, msgspec.structs.replace(status, summary="") if resource.kind == "Task" else status)

    monkeypatch.setattr(stage.cluster, "apply_status", dropping)
    stage.task()
    await stage.finish()
    await asyncio.sleep(60)
    assert 1 <= calls.count("Task") <= 4


async def test_f12_a_third_party_that_writes_all_the_time_costs_few_writes(stopped: OperatorStage) -> None:
    """Each of its writes makes a planned write fail with 409, until one comes between two of them."""
    stopped.task()
    async with stopped.operator():

        async def storm() -> None:
            for number in range(500):
                body = stopped.cluster.objects["tasks"]["ns/t"]
                changed = {**body, "metadata": {**body["metadata"], "labels": {"n": str(number)}}}
                stopped.cluster.put("tasks", changed, watched=number % 3 > 0)
                await asyncio.sleep(0.02)

        await stopped.until("Ready", "False", "Progressing")
        stopped.cluster.writes.clear()
        storming = asyncio.create_task(storm())
        await stopped.finish()
        await storming
        assert 1 <= stopped.cluster.writes.count("ns/t") <= 3
        assert ("True", "Distributed") == stopped.condition()


async def test_a_task_that_another_program_holds_keeps_its_file_until_it_is_gone(stopped: OperatorStage) -> None:
    """A finalizer of that program delays the end of each deletion."""
    stopped.change(relist_interval=5)
    async with stopped.operator():
        stopped.task(ttlSecondsAfterFinished=1)
        held = stopped.cluster.objects["tasks"]["ns/t"]
        stopped.cluster.put("tasks", {**held, "metadata": {**held["metadata"], "finalizers": ["example.com/x"]}})
        await stopped.finish()
        count = len(stopped.supernode.statements)
        await asyncio.sleep(30)
        assert [] == stopped.supernode.statements[count:]
        assert stopped.cluster.task("ns/t").metadata.deletion_timestamp is not None
        stopped.cluster.remove("tasks", "ns/t")
        await eventually(lambda: {} == stopped.supernode.wanted)


async def test_a_task_without_a_time_to_live_has_its_last_status_before_its_end(stage: OperatorStage) -> None:
    stage.task(ttlSecondsAfterFinished=0)
    await stage.deliver()
    await eventually(lambda: "ns/t" not in stage.cluster.objects["tasks"])
    assert [("ns/t", "Normal", "Distributed")] == stage.cluster.events


@pytest.mark.parametrize("error", [ClusterForbiddenError, ClusterConflictError, ClusterNotFoundError])
@pytest.mark.parametrize(
    "call", ["patch tasks/status", "patch peers/status", "patch sourcepolicies/status", "delete tasks", "patch peers"]
)
async def test_a_write_that_is_refused_each_time_is_repeated_after_pauses(
    stopped: OperatorStage, monkeypatch: pytest.MonkeyPatch, call: str, error: type[ClusterError]
) -> None:
    """A webhook may refuse with any code, and a read after it shows the same object."""
    calls = list[str]()

    def check(made: str) -> None:
        calls.append(made)
        if made == call:
            raise error("no")

    async with stopped.operator():
        monkeypatch.setattr(stopped.cluster, "_check", check)
        stopped.cluster.put("sourcepolicies", {"metadata": {"name": "p"}, "spec": {"cidrs": ["10.0.0.0/8"]}})
        stopped.task(ttlSecondsAfterFinished=0)
        await stopped.deliver()
        await asyncio.sleep(60)
    assert 2 < calls.count(call) < 40


async def test_a_recreated_task_does_not_get_the_old_status(stage: OperatorStage) -> None:
    stage.task()
    await stage.finish()
    old = stage.cluster.task("ns/t").metadata.uid
    stage.cluster.remove("tasks", "ns/t", watched=False)
    stage.task()
    await eventually(lambda: stage.supernode.wanted["ns/t"].uid != old)
    await stage.until("Ready", "False", "Progressing")


async def test_a_full_list_finds_what_the_watch_missed(stopped: OperatorStage) -> None:
    stopped.change(relist_interval=0.2)
    async with stopped.operator():
        stopped.task("stays", watched=False)
        stopped.task("deleted", watched=False)
        await eventually(lambda: {"ns/stays", "ns/deleted"} == set(stopped.supernode.wanted))
        stopped.cluster.remove("tasks", "ns/deleted", watched=False)
        await eventually(lambda: {"ns/stays"} == set(stopped.supernode.wanted))


async def test_a_new_node_gets_the_file(stage: OperatorStage) -> None:
    stage.task()
    await stage.finish()
    await stage.connect("c")
    await eventually(lambda: stage.supernode.wanted["ns/t"].peers == ("a", "b", "c"))
    await stage.until("Ready", "False", "Progressing")
    await stage.finish()


async def test_headers_come_from_the_secret(stage: OperatorStage) -> None:
    stage.secret(A=b"x")
    stage.task(headersFrom={"secretRef": {"name": "s"}})
    await eventually(lambda: "ns/t" in stage.supernode.wanted)
    assert {"A": "x"} == stage.supernode.wanted["ns/t"].headers
    assert "eA==" not in str(stage.cluster.objects["tasks"])


@pytest.mark.parametrize("new", [True, False])
async def test_h10_a_supernode_of_the_former_minor_version_gets_names(stopped: OperatorStage, *, new: bool) -> None:
    """It would take numbers for Tasks without nodes, and peers would remove their files."""
    stopped.supernode.numbers = new
    async with stopped.operator():
        stopped.task()
        await eventually(lambda: stopped.supernode.wanted)
        sent = stopped.supernode.sent[-1]
        assert (((), 0) if new else (NODES, None)) == (sent.tasks[0].peers, sent.tasks[0].node_set)
        assert NODES == stopped.supernode.wanted["ns/t"].peers


async def test_h10_a_supernode_that_took_a_statement_for_another_version_gets_it_again(stopped: OperatorStage) -> None:
    """It is rolled back, and gets a statement before the operator sees that it is an older one."""
    stopped.task()
    async with stopped.operator():
        await eventually(lambda: stopped.supernode.wanted)
        real = stopped.supernode.changes
        stopped.supernode.changes = AsyncMock(side_effect=SupernodeUnavailableError("it starts"))  # type: ignore[method-assign]
        await stopped.supernode.connect("a")
        await asyncio.sleep(30)
        await stopped.supernode.restart()
        stopped.supernode.numbers = False
        stopped.task("second")
        await eventually(lambda: "ns/second" in stopped.supernode.wanted)
        assert () == stopped.supernode.sent[-1].tasks[0].peers
        stopped.supernode.changes = real  # type: ignore[method-assign]
        await stopped.supernode.connect(*NODES)
        await eventually(lambda: NODES == stopped.supernode.sent[-1].tasks[0].peers)


async def test_each_peer_on_a_node_has_a_resource(stage: OperatorStage) -> None:
    await eventually(lambda: set(NODES) == set(stage.cluster.objects["peers"]))
    stage.cluster.remove("peers", "a")
    await eventually(lambda: set(NODES) == set(stage.cluster.objects["peers"]))
    stage.cluster.remove("nodes", "b")
    await eventually(lambda: {"a"} == set(stage.cluster.objects["peers"]))


async def test_a_missing_crd_is_a_problem(stopped: OperatorStage) -> None:
    stopped.cluster.missing = ["tasks.pantala.dev"]
    async with stopped.operator() as app:
        await eventually(
            lambda: "the API server does not serve the CRD tasks.pantala.dev. Apply crds/" in app.problems()
        )
        stopped.cluster.missing = []
        await eventually(lambda: app.problems() == [])


async def test_tasks_work_without_the_prefetch_crd(stopped: OperatorStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list is refused although all kinds were served before."""
    stopped.cluster.missing = ["imageprefetches.pantala.dev"]
    monkeypatch.setattr(stopped.cluster, "missing_kinds", AsyncMock(return_value=[]))
    async with stopped.operator():
        stopped.task()
        await eventually(lambda: "ns/t" in stopped.supernode.wanted)


async def test_a_statement_is_sent_only_for_a_difference(stage: OperatorStage) -> None:
    for number in range(50):
        stage.task(f"t{number}")
    await eventually(lambda: stage.supernode.statements and len(stage.supernode.wanted) == 50)
    assert len(stage.supernode.statements) <= 5
    count = len(stage.supernode.statements)
    await stage.finish("t7")
    await asyncio.sleep(0.3)
    assert count == len(stage.supernode.statements)
