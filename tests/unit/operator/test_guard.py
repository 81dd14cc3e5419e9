"""A bug in the plan of one object is reported there, and the operator plans all other objects."""

import asyncio
from typing import Any

import pytest

from pantala_operator.plan import peer, sources, task
from pantala_operator.plan.prefetch import plan as plans
from pantala_operator.resources import conditions
from tests.support.eventually import eventually
from tests.support.operator_stage import OperatorStage

pytestmark = pytest.mark.virtual_time

BUG = "a bug of the plan"


def breaks(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[str]:
    """Let the function ``plan`` of a module raise for the object with this name. Returns the calls for it so far."""
    original, calls = module.plan, list[str]()

    def plan(each: Any, *rest: Any, **more: Any) -> Any:
        if each is not None and each.metadata.name == name:
            calls.append(name)
            raise LookupError(BUG)
        return original(each, *rest, **more)

    monkeypatch.setattr(module, "plan", plan)
    return calls


async def test_a_task_that_cannot_be_planned_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = OperatorStage(relist_interval=5)
    await stage.connect("n1")
    with monkeypatch.context() as patch:
        breaks(patch, task, "bad")
        async with stage.operator():
            stage.task("bad")
            stage.task("good")
            await stage.finish("good")
            await stage.until("Stalled", "True", "InternalError", name="bad")
            assert ("False", "InternalError") == stage.condition("Ready", "bad")
            assert ("False", "InternalError") == stage.condition("Reconciling", "bad")
            assert ("ns/bad", "Warning", "InternalError") in stage.cluster.events
            found = conditions.find(stage.cluster.task("ns/bad").status.conditions, "Stalled")
            assert found is not None
            assert (
                "The operator cannot plan this object because of a bug (LookupError). Read the operator's log, and "
                "please report the problem." == found.message
            )
            writes = len(stage.cluster.writes)
            stage.task("later")
            await stage.finish("later")
            assert "ns/bad" not in stage.cluster.writes[writes:]
            assert 1 == capsys.readouterr().out.count(f"LookupError: {BUG}")
            patch.undo()
            await stage.finish("bad")
    assert ("False", "Ready") != stage.condition("Stalled", "bad")


async def test_an_image_prefetch_that_cannot_be_planned_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = OperatorStage()
    await stage.connect("n1")
    breaks(monkeypatch, plans, "bad")
    async with stage.operator():
        for name in ("bad", "good"):
            stage.cluster.put(
                "imageprefetches",
                {"metadata": {"name": name, "namespace": "ns"}, "spec": {"images": [{"image": "one:1"}]}},
            )

        def shown(name: str, kind: str) -> tuple[str, str] | None:
            found = conditions.find(stage.cluster.prefetch(f"ns/{name}").status.conditions, kind)
            return None if found is None else (found.status, found.reason)

        await eventually(lambda: shown("bad", "Stalled") == ("True", "InternalError"))
        await eventually(lambda: shown("good", "Reconciling") is not None)
        assert ("True", "InternalError") != shown("good", "Stalled")
        stage.task("file")
        await stage.finish("file")


async def test_an_image_prefetch_that_cannot_be_planned_holds_only_its_own_taint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = OperatorStage(startup_taints=("pantala.dev/",))
    breaks(monkeypatch, plans, "bad")
    names = ("bad", "good")
    keys = {"bad": "bad", "same": "bad", "good": "good"}
    for name in names:
        taint = {"key": f"pantala.dev/{name}", "effect": "NoSchedule"}
        metadata = {"name": f"node-{name}", "creationTimestamp": "2026-01-01T00:00:00Z"}
        stage.cluster.put("nodes", {"metadata": metadata, "spec": {"taints": [taint]}})
    async with stage.operator():
        for name, key in keys.items():
            startup = {"key": f"pantala.dev/{key}", "deadlineSeconds": 86400 if name == "bad" else 1}
            spec = {"images": [{"image": "one:1"}], "startupTaint": startup}
            stage.cluster.put("imageprefetches", {"metadata": {"name": name, "namespace": "ns"}, "spec": spec})

        def tainted() -> list[str]:
            return [name for name in names if stage.cluster.objects["nodes"][f"node-{name}"]["spec"]["taints"]]

        await eventually(lambda: "good" not in tainted())
        await asyncio.sleep(895 - stage.clock.monotonic())
        assert ["bad"] == tainted()
        await asyncio.sleep(10)
        assert [] == tainted()


async def test_the_deadline_of_an_image_prefetch_that_cannot_be_planned_frees_the_nodes_that_it_selects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = OperatorStage(startup_taints=("pantala.dev/",))
    breaks(monkeypatch, plans, "bad")
    taint = {"key": "pantala.dev/x", "effect": "NoSchedule"}
    for name in ("chosen", "other"):
        metadata = {"name": name, "labels": {"pool": name}, "creationTimestamp": "2026-01-01T00:00:00Z"}
        stage.cluster.put("nodes", {"metadata": metadata, "spec": {"taints": [taint]}})
    async with stage.operator():
        startup = {"key": "pantala.dev/x", "deadlineSeconds": 60}
        spec = {"images": [{"image": "one:1"}], "target": {"nodeSelector": {"pool": "chosen"}}, "startupTaint": startup}
        stage.cluster.put("imageprefetches", {"metadata": {"name": "bad", "namespace": "ns"}, "spec": spec})

        def tainted() -> list[str]:
            return [name for name, node in stage.cluster.objects["nodes"].items() if node["spec"]["taints"]]

        await asyncio.sleep(55 - stage.clock.monotonic())
        assert ["chosen", "other"] == tainted()
        await eventually(lambda: tainted() == ["other"], within=10)
        await asyncio.sleep(3600)
        assert ["other"] == tainted()


async def test_a_former_plan_gives_no_vote_and_no_wake_time(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = OperatorStage(startup_taints=("pantala.dev/x",))
    taints = [{"key": "pantala.dev/x", "effect": "NoSchedule"}]
    metadata = {"name": "n1", "creationTimestamp": "2026-01-01T00:00:00Z"}
    stage.cluster.put("nodes", {"metadata": metadata, "spec": {"taints": taints}})
    await stage.supernode.connect("n1")
    async with stage.operator():
        for name, seconds in {"bad": 60, "good": 1}.items():
            startup = {"key": "pantala.dev/x", "deadlineSeconds": seconds}
            spec = {"images": [{"image": "one:1"}], "startupTaint": startup, "activeDeadlineSeconds": 60}
            stage.cluster.put("imageprefetches", {"metadata": {"name": name, "namespace": "ns"}, "spec": spec})
        stage.task("bad", activeDeadlineSeconds=60)
        await asyncio.sleep(30)
        calls = breaks(monkeypatch, task, "bad"), breaks(monkeypatch, plans, "bad")
        await asyncio.sleep(25)
        assert taints == stage.cluster.objects["nodes"]["n1"]["spec"]["taints"]
        await eventually(lambda: not stage.cluster.objects["nodes"]["n1"]["spec"]["taints"], within=10)
        await asyncio.sleep(60)
    assert all(len(each) < 20 for each in calls), [len(each) for each in calls]


async def test_a_source_policy_that_cannot_be_planned_allows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = OperatorStage()
    breaks(monkeypatch, sources, "bad")
    async with stage.operator():
        for name in ("bad", "good"):
            stage.cluster.put("sourcepolicies", {"metadata": {"name": name}, "spec": {"cidrs": ["10.0.0.0/8"]}})

        def rules() -> list[str]:
            statements = stage.supernode.statements
            return [rule.name for rule in statements[-1].sources] if statements else []

        await eventually(lambda: rules() == ["good"])

        def accepted() -> list[tuple[str, str]]:
            status = stage.cluster.objects["sourcepolicies"]["bad"].get("status", {})
            return [(each["status"], each["reason"]) for each in status.get("conditions", ())]

        await eventually(lambda: accepted() == [("False", "InternalError")])


async def test_a_peer_that_cannot_be_planned_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = OperatorStage()
    await stage.connect("n1", "n2")
    breaks(monkeypatch, peer, "n1")
    async with stage.operator():

        def ready(name: str) -> list[tuple[str, str]]:
            status = stage.cluster.objects["peers"].get(name, {}).get("status", {})
            return [
                (each["status"], each["reason"]) for each in status.get("conditions", ()) if each["type"] == "Ready"
            ]

        await eventually(lambda: ready("n1") == [("False", "InternalError")])
        await eventually(lambda: ready("n2") == [("True", "Connected")])
