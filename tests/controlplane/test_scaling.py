"""From one supernode to three and back, with a real API server and real processes; only the StatefulSet has no pods.

What its controller does is done here: processes begin when it is scaled up, and get SIGTERM when it is scaled down.
"""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_protocol import task_id
from pantala_protocol.statement import owner_among
from testbed.origin import Generated
from tests.support.product_stage import GRACE, MIB, NODES, ProductStage

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(180)]

NAMES = ("supernode-0", "supernode-1", "supernode-2")
SETS = "/apis/apps/v1/namespaces/default/statefulsets"
FINISHED, MOVING = Generated(2 * MIB, seed=1), Generated(24 * MIB, seed=2)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[ProductStage]:
    async with ProductStage(tmp_path) as stage:
        labels = {"app": "supernode"}
        pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "supernode", "image": "none"}]}}
        spec = {"replicas": 1, "serviceName": "svc", "selector": {"matchLabels": labels}, "template": pod}
        body = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "supernode"}, "spec": spec}
        await stage.ask("POST", SETS, body)
        stage.supernode()
        stage.operator(pods=NAMES)
        for name in NODES:
            stage.peer(name)
        await stage.joined()
        yield stage


async def scale(stage: ProductStage, replicas: int, restarted: bool) -> None:
    """``restarted``: a new operator sees the change first. A supernode waits only 5 s for the news that it leaves."""
    if restarted:
        stage.kill("operator")
    await stage.ask("PATCH", f"{SETS}/supernode", {"spec": {"replicas": replicas}})
    await stage.ask("PATCH", f"{SETS}/supernode/status", {"status": {"replicas": len(NAMES)}})
    if restarted:
        former = len(stage.log("operator"))
        stage.operator(pods=NAMES)
        await stage.until(lambda: "The operator runs" in stage.log("operator")[former:], "the new operator runs", 60)
    for number in (1, 2):
        name = NAMES[number]
        if replicas > number:
            stage.supernode(number=number)
        elif name in stage.processes:
            os.kill(stage.processes[name].pid, signal.SIGTERM)


async def apply(stage: ProductStage, name: str, body: Generated, whose: str) -> str:
    """Create a Task whose file belongs to ``whose`` when there are three."""
    paths = (f"/{name}-{number}" for number in itertools.count())
    path = next(path for path in paths if owner_among(task_id.compute(stage.origin.url(path)), NAMES) == whose)
    stage.origin.serve(path, body)
    await stage.apply(name, stage.origin.url(path))
    return path


def cached(stage: ProductStage, name: str) -> float:
    """The cached share of a Task, by its status."""
    pieces = stage.status(name).get("pieces", {})
    return float(pieces.get("cached", 0) / pieces["total"]) if pieces.get("total") else 0.0


@pytest.mark.parametrize("restarted", [False, True], ids=["one operator", "a new operator each time"])
async def test_a_running_task_continues_and_a_finished_task_stays_ready(stage: ProductStage, restarted: bool) -> None:
    """All nodes get the right bytes, the origin is read once, Ready stays, and leaving supernodes end by themselves."""
    finished = await apply(stage, "finished", FINISHED, NAMES[1])
    await stage.ready("finished")
    stage.lasting.add("default/finished")
    stage.messages["finished"].clear()
    stage.origin.rate = 2 * MIB
    moving = await apply(stage, "moving", MOVING, NAMES[2])

    await stage.until(lambda: cached(stage, "moving") > 0.2, "a part is cached")
    await scale(stage, 3, restarted)
    copy = stage.copy(2, stage.status("moving")["taskID"])
    await stage.until(copy.exists, "its owner of now has begun with it")
    await stage.until(lambda: cached(stage, "moving") > 0.4, "more is cached")
    await scale(stage, 1, restarted)
    stage.origin.rate = None
    await stage.ready("moving")
    for name in NAMES[1:]:
        await stage.until(lambda name=name: stage.processes[name].returncode is not None, f"{name} has left", 60)  # type: ignore[misc]
        assert 0 == stage.processes[name].returncode, stage.processes[name].tail()
    await asyncio.sleep(GRACE + 1)  # longer than what is no longer stated is kept

    stage.assert_held("default/moving", MOVING)
    stage.assert_held("default/finished", FINISHED)
    assert [] == stage.violations
    assert ("Ready", "False") not in {(kind, status) for kind, status, _ in stage.messages["finished"]}
    assert (FINISHED.size, MOVING.size) == (stage.origin.body_bytes(finished), stage.origin.body_bytes(moving))
    assert MOVING.size == stage.status("moving")["bytes"]["origin"]
    for name in (*NODES, "supernode", *NAMES[1:]):
        assert "Traceback" not in stage.log(name)
