"""Tasks whose origins need the headers of a Secret, while that Secret is not known."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from unittest.mock import AsyncMock

import pytest

from pantala_operator.errors import ClusterUnavailableError
from pantala_operator.events import StatementTaken
from pantala_operator.ports import DataKind
from pantala_operator.resources.api import Secret
from pantala_operator.supernodes import statement_room
from tests.support.eventually import eventually
from tests.support.operator_stage import OperatorStage

pytestmark = pytest.mark.virtual_time

HEADERS = {"secretRef": {"name": "s"}}


@pytest.fixture
async def stopped() -> OperatorStage:
    made = OperatorStage()
    await made.connect("a", "b")
    made.secret(A=b"x")
    return made


@pytest.fixture
async def stage(stopped: OperatorStage) -> AsyncIterator[OperatorStage]:
    """An operator runs."""
    async with stopped.operator():
        yield stopped


async def test_f13_a_new_operator_suspends_no_task_whose_secret_it_has_not_read(
    stopped: OperatorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download from an origin without ranges would begin again after each restart of the operator."""
    read = stopped.cluster.read_data

    async def slowly(kind: DataKind, namespace: str, name: str) -> Secret:
        await asyncio.sleep(1)
        return await read(kind, namespace, name)

    async with stopped.operator():
        stopped.task(headersFrom=HEADERS)
        await eventually(lambda: stopped.cluster.task("ns/t").status.task_id)
    stopped.supernode.sent.clear()
    monkeypatch.setattr(stopped.cluster, "read_data", slowly)
    async with stopped.operator():
        await eventually(lambda: stopped.supernode.sent)
        await asyncio.sleep(3)
    sent = [task for each in stopped.supernode.sent for task in each.tasks]
    assert {("ns/t", False)} == {(task.name, task.suspended) for task in sent}


@pytest.mark.parametrize("removed", [False, True])
async def test_a_restart_changes_no_condition_of_a_task_without_its_secret(
    stopped: OperatorStage, *, removed: bool
) -> None:
    stopped.task(headersFrom=HEADERS)
    if removed:
        async with stopped.operator():
            await stopped.finish()
    stopped.cluster.remove("secrets", "ns/s")
    for _ in range(2):
        async with stopped.operator():
            await stopped.until("Stalled", "True", "SecretMissing")
            await asyncio.sleep(5)
    assert ("ns/t", "Warning", "SecretMissing") == stopped.cluster.events[-1]
    assert removed + 1 == len(stopped.cluster.events)


async def test_f10_a_secret_that_cannot_be_read_delays_other_tasks_for_some_seconds(stopped: OperatorStage) -> None:
    read = AsyncMock(side_effect=ClusterUnavailableError("no answer"))
    stopped.cluster.read_data = read  # type: ignore[method-assign]
    stopped.task("private", headersFrom=HEADERS)
    stopped.task("public")
    async with stopped.operator():
        await eventually(lambda: "ns/public" in stopped.supernode.wanted, within=40)
    assert read.await_count


async def test_a_task_whose_secret_is_gone_keeps_its_path(stage: OperatorStage) -> None:
    """Nodes keep its file, too, so another file cannot appear there."""
    stage.task("first", path="ns/f", headersFrom=HEADERS)
    await stage.finish("first")
    stage.task("second", path="ns/f", source={"url": "http://origin.example/other"})
    await stage.until("Ready", "False", "PathConflict", name="second")
    stage.cluster.remove("secrets", "ns/s")
    await asyncio.sleep(181)  # until the operator reads the Secret again
    await stage.until("Ready", "False", "SecretMissing", name="first")
    assert ("False", "PathConflict") == stage.condition(name="second")
    assert ["ns/f", ""] == [stage.supernode.wanted[f"ns/{name}"].path for name in ("first", "second")]


async def test_m1_a_task_without_room_in_the_statement_is_told(
    stopped: OperatorStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other namespace gets its file, and the older Tasks keep their credentials."""
    monkeypatch.setattr(statement_room, "fit", partial(statement_room.fit, most=20_000))
    for number in range(8):
        stopped.secret(f"s{number}", A=str(number).encode() * 6000)
        stopped.task(f"t{number}", headersFrom={"secretRef": {"name": f"s{number}"}})
    stopped.cluster.put("tasks", {
        "metadata": {"name": "t", "namespace": "other"}, "spec": {"source": {"url": "http://origin.example/f"}},
    })  # fmt: skip
    taken: list[StatementTaken] = []
    async with stopped.operator() as app:
        app.events.subscribe(StatementTaken, taken.append)
        await eventually(lambda: "other/t" in stopped.supernode.wanted)
        await stopped.until("Stalled", "True", "StatementFull", name="t7")
        assert stopped.supernode.sent[-1].tasks == taken[-1].tasks
        wanted = stopped.supernode.wanted
        whole = [name for name, task in wanted.items() if task.headers]
        assert 9 == len(wanted)
        assert {name: task for name, task in wanted.items() if task.suspended}.keys() == wanted.keys() - {
            *whole,
            "other/t",
        }
        assert whole
        before = len(stopped.supernode.sent)
        await asyncio.sleep(10)
        assert before == len(stopped.supernode.sent)  # the condition does not change what is wanted
        for number in range(4):
            stopped.cluster.remove("tasks", f"ns/t{number}")
        stopped.cluster.remove("tasks", "ns/t4")
        await stopped.until("Stalled", "False", name="t7")
