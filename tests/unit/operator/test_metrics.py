"""The operator's metrics: what they count, and which values their labels may have."""

import ast
import asyncio
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from pantala_operator.app import App
from pantala_operator.errors import ClusterForbiddenError, ClusterUnavailableError
from pantala_operator.metrics import CONDITIONS, LATE, PROGRESS_REASONS
from pantala_operator.ports import R, ResourceStatus
from pantala_process.metrics import OTHER
from pantala_protocol.console.progress import NodeDownload, Progress, TaskProgressView
from pantala_protocol.reasons import Reason
from pantala_protocol.statement import CDNStatus, Failure
from tests.support.eventually import eventually
from tests.support.operator_stage import OperatorStage

pytestmark = pytest.mark.virtual_time

PLANS = Path(__file__).resolve().parents[3] / "operator" / "pantala_operator"


def lines(app: App) -> list[str]:
    return generate_latest(app.metrics.registry).decode().splitlines()


async def shows(app: App, *expected: str) -> None:
    await eventually(lambda: set(expected) <= set(lines(app)), every=0.25, what=lambda: "\n".join(lines(app)))


def sample(app: App, name: str) -> float:
    [found] = [line for line in lines(app) if line.startswith(f"{name} ")]
    return float(found.split()[1])


async def test_conditions_and_writes_are_counted() -> None:
    stage = OperatorStage()
    await stage.connect("a", "b")
    stage.task("good")
    stage.task("absent", target={"nodeSelector": {"no": "such"}})
    async with stage.operator() as app:
        await stage.finish("good")
        await shows(
            app,
            "pantala_operator_leads 1.0",
            'pantala_operator_objects{kind="Task"} 2.0',
            'pantala_operator_objects{kind="Node"} 2.0',
            'pantala_operator_supernodes{answers="true"} 1.0',
            'pantala_operator_conditions{kind="Task",reason="Distributed",status="True",type="Ready"} 1.0',
            'pantala_operator_conditions{kind="Task",reason="NoNodeMatches",status="True",type="Stalled"} 1.0',
            'pantala_operator_conditions{kind="Peer",reason="Connected",status="True",type="Ready"} 2.0',
            'pantala_operator_late_nodes{reason="NodeDiskFull"} 0.0',
            'pantala_operator_writes_total{result="failed"} 0.0',
            "pantala_operator_queued_writes 0.0",
            "pantala_operator_write_lag_seconds 0.0",
        )
        assert 30 > sample(app, "pantala_operator_report_age_seconds")
        assert 1 <= sample(app, "pantala_operator_statements_total") <= 9
        assert 4 <= sample(app, 'pantala_operator_writes_total{result="done"}')


async def test_failures_of_nodes_are_counted_by_reason() -> None:
    """A node that fails with two Tasks counts once, and a reason that is not known counts as another one."""
    stage = OperatorStage()
    await stage.connect("a", "b")
    full, odd = Failure("NodeDiskFull", "no room", peer="a"), Failure("Unheard", "?", peer="b")
    async with stage.operator() as app:
        for name in ("t1", "t2"):
            stage.task(name)
            await stage.deliver(
                name, cdn_status=CDNStatus.SUCCESS, ready_peers=(), failures=(full, odd), failed_peers=2
            )
        await shows(
            app,
            'pantala_operator_late_nodes{reason="NodeDiskFull"} 1.0',
            f'pantala_operator_late_nodes{{reason="{OTHER}"}} 1.0',
            'pantala_operator_conditions{kind="Task",reason="NodeDiskFull",status="True",type="Reconciling"} 2.0',
        )
        assert not [line for line in lines(app) if "Unheard" in line]


async def test_all_late_nodes_are_counted_for_each_task() -> None:
    """A provider refuses twelve nodes: more than a status names. One of them lacks another Task's file too."""
    nodes = [f"n{number:02}" for number in range(12)]
    stage = OperatorStage()
    await stage.connect(*nodes)
    async with stage.operator() as app:
        stage.task("t1")
        stage.task("t2")
        await stage.deliver("t1", ready_peers=())
        await stage.deliver("t2", ready_peers=tuple(nodes[1:]))
        refused = tuple(NodeDownload(name, reason="ProviderRefused", message="x", since=1.0) for name in nodes)
        task = TaskProgressView(stage.supernode.wanted["ns/t1"].task_id, nodes=refused)
        stage.supernode.shown = Progress("boot", 2.0, (task,))
        await shows(app, 'pantala_operator_late_nodes{reason="ProviderRefused"} 13.0')
        stage.supernode.shown = Progress("boot", 3.0)
        await shows(app, 'pantala_operator_late_nodes{reason="ProviderRefused"} 0.0')


async def test_an_outage_of_the_api_server_is_visible() -> None:
    stage = OperatorStage()
    await stage.connect("a")
    stage.task()
    async with stage.operator() as app:
        await stage.until("Reconciling", "True")
        stage.cluster.outage = ClusterUnavailableError("down")
        await stage.deliver()
        await eventually(lambda: sample(app, "pantala_operator_write_lag_seconds") > 3, every=0.25)
        await eventually(lambda: sample(app, "pantala_operator_queued_writes") >= 1, every=0.25)
        assert 1 <= sample(app, 'pantala_operator_writes_total{result="failed"}')
        stage.cluster.outage = None
        await stage.ready()
        await shows(app, "pantala_operator_queued_writes 0.0", "pantala_operator_write_lag_seconds 0.0")


async def test_writes_that_the_api_server_refuses_are_visible_and_fill_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator lacks a right. The error names each object, so no two texts are equal."""
    stage = OperatorStage()
    await stage.connect("a")
    written = stage.cluster.apply_status

    async def refused(resource: R, status: ResourceStatus) -> R:
        raise ClusterForbiddenError(f"{resource.metadata.key} is forbidden")

    monkeypatch.setattr(stage.cluster, "apply_status", refused)
    for number in range(50):
        stage.task(f"t{number}")
    async with stage.operator() as app:
        with capture_logs() as logged:
            await asyncio.sleep(70)
        assert 60 < sample(app, "pantala_operator_write_lag_seconds") <= 71
        assert 1 <= len([each for each in logged if each["event"].startswith("A write to the API server")]) <= 2
        monkeypatch.setattr(stage.cluster, "apply_status", written)
        await asyncio.sleep(30)
        assert 0 == sample(app, "pantala_operator_write_lag_seconds")


async def test_a_replica_that_does_not_lead_shows_no_conditions() -> None:
    stage = OperatorStage(lease="ns/operator", pod="b")
    await stage.connect("a")
    app = stage.app()
    assert 0 == sample(app, "pantala_operator_leads")
    assert not [line for line in lines(app) if line.startswith("pantala_operator_conditions{")]


def test_the_label_reason_has_all_reasons_that_plans_use() -> None:
    """Every literal reason in the plans is in the list. A new one must be added there, else it shows as another one."""
    found = set()
    for path in (*PLANS.glob("plan/**/*.py"), *PLANS.glob("resources/*.py")):
        for call in (each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Call)):
            name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
            position = {"Verdict": 1, "no": 0}.get(name)
            if position is not None and len(call.args) > position:
                reason = call.args[position]
                if isinstance(reason, ast.Constant):
                    found.add(reason.value)
    assert 15 < len(found)
    assert set() == found - set(CONDITIONS.labels["reason"])
    assert set() == set(PROGRESS_REASONS) & set(Reason)
    assert CONDITIONS.labels["reason"] == LATE.labels["reason"]
