"""Restarts of the operator, the supernode and peers change no orders of images."""

import asyncio
from typing import Any
from unittest.mock import AsyncMock, Mock

import msgspec
import pytest

from pantala_operator.errors import ClusterUnavailableError, SupernodeUnavailableError
from pantala_operator.plan.prefetch import plan as plans
from pantala_peer.images.ledger import Ledger
from pantala_protocol import task_id
from pantala_protocol.images import Depth, ImageBlob, PullPhase, PullState
from pantala_protocol.registry import Resolved
from pantala_supernode.images.orders import StatedImages
from tests.support.eventually import eventually
from tests.support.prefetch_stage import IMAGE, LAYER, NODES, ONE, A, B, PrefetchStage, resolved

pytestmark = pytest.mark.virtual_time


def late(world: PrefetchStage) -> None:
    """A node whose peer has not reconnected."""
    world.cluster.put("peers", {"metadata": {"name": "late"}, "spec": {}})
    world.node("late")


async def test_suspending_ends_pulls_before_nodes_reconnect_to_a_restarted_supernode(world: PrefetchStage) -> None:
    """Another one's orders stay in every statement, and nodes keep their images."""
    world.prefetch()
    world.prefetch("other", completionPolicy="Continuous")
    image, other = await world.halfway(), await world.halfway("ns/other")
    await world.supernode.restart()
    world.note()
    await world.stated()
    world.prefetch(suspend=True)
    await eventually(lambda: {"a"} == world.nodes_of("ns/p"), within=3)
    await eventually(lambda: world.outcome() == ("False", "Suspended"), within=3)
    assert {"a": image.orders["a"]} == world.of("ns/p")[0].orders
    for images in world.later:
        assert [other.orders] == [each.orders for each in images if each.key == other.key]


async def test_suspending_while_the_operator_is_down_ends_pulls_before_a_node_reconnects(
    stopped: PrefetchStage,
) -> None:
    async with stopped.operator():
        stopped.prefetch()
        image = await stopped.halfway()
    late(stopped)
    stopped.prefetch(suspend=True)
    stopped.note()
    async with stopped.operator():
        await stopped.stated()
    assert {"a": image.orders["a"]} == stopped.of("ns/p")[0].orders
    assert all(len(images) == 1 for images in stopped.later)


async def test_a_suspended_image_survives_a_restart_of_everything(stopped: PrefetchStage) -> None:
    """The first statement waits until the nodes have reconnected, because only they know which images they have."""
    async with stopped.operator():
        stopped.prefetch(retention={"pin": True})
        image = await stopped.halfway()
        stopped.prefetch(suspend=True, retention={"pin": True})
        await eventually(lambda: {"a"} == stopped.nodes_of("ns/p"))
    await stopped.supernode.restart()
    stopped.note()
    async with stopped.operator():
        await asyncio.sleep(0.5)
        await stopped.report(image, "a")
        await stopped.supernode.say("b", {})
        await stopped.stated(0.3)
    for images in stopped.later:
        assert [{"a": image.orders["a"]}] == [each.orders for each in images]


async def test_suspending_one_does_not_cancel_another_before_its_nodes_report(stopped: PrefetchStage) -> None:
    async with stopped.operator():
        stopped.prefetch()
        stopped.prefetch("other", completionPolicy="Continuous")
        await stopped.halfway()
        other = await stopped.halfway("ns/other")
    await stopped.supernode.connect("b", connected=False)
    stopped.prefetch(suspend=True)
    stopped.note()
    async with stopped.operator():
        await asyncio.sleep(0.7)
        await stopped.supernode.connect("b")
        await eventually(lambda: {"a"} == stopped.nodes_of("ns/p"))
    for images in stopped.later:
        assert [other.orders] == [each.orders for each in images if each.key == other.key]


async def test_a_restart_changes_no_order(stopped: PrefetchStage) -> None:
    """Every statement has the orders of nodes that pull and of nodes that have the image."""
    async with stopped.operator():
        stopped.prefetch(completionPolicy="Continuous")
        image = await stopped.halfway()
    stopped.note()
    async with stopped.operator():
        await stopped.stated()
        await eventually(lambda: len(stopped.supernode.questions) == 2)
        await asyncio.sleep(0.5)
    for images in stopped.later:
        assert [(image.key, image.orders)] == [(each.key, each.orders) for each in images]


@pytest.mark.parametrize("spec", [{"images": [{"image": "gone:1"}]}, {"retention": {"byteBudget": "1"}}, {}])
async def test_a_restart_changes_no_condition_of_a_stalled_one(stopped: PrefetchStage, spec: dict[str, Any]) -> None:
    """A change of Stalled would cause Events, and would start the time to live again."""
    async with stopped.operator():
        stopped.prefetch(**spec)
        if not spec:
            image = await stopped.ordered(2)
            failed = PullState(PullPhase.FAILED, 0, reason="InvalidImage", message="no")
            for name, order in image.orders.items():
                state = msgspec.structs.replace(failed, run=order.run, number=order.number)
                await stopped.supernode.say(name, {image.key: state})
        await eventually(lambda: stopped.outcome("Stalled")[0] == "True")
        await asyncio.sleep(1)
        before = stopped.cluster.prefetch("ns/p").status.conditions
    stopped.cluster.events.clear()
    late(stopped)
    async with stopped.operator():
        await asyncio.sleep(30)
    assert [] == [each for each in stopped.cluster.events if each[0] == "ns/p"]
    assert before == stopped.cluster.prefetch("ns/p").status.conditions


async def test_the_wait_for_a_peer_ends(stopped: PrefetchStage) -> None:
    late(stopped)
    stopped.prefetch()
    async with stopped.operator():
        image = await stopped.ordered(2, 20)
        assert set(NODES) == set(image.orders)
        await stopped.report(image)
        await eventually(lambda: stopped.outcome() == ("True", "Prefetched"))
    (failure,) = stopped.cluster.prefetch("ns/p").status.failures
    assert ("late", "", "NodeUnavailable") == (failure.node, failure.image, failure.reason)


@pytest.mark.parametrize("suspend", [False, True])
async def test_a_restart_changes_no_order_at_depth_peer(stopped: PrefetchStage, suspend: bool) -> None:
    """The operator asks for the blobs first, even if the Task is suspended, because nodes keep them."""
    async with stopped.operator():
        stopped.task(source=ONE, target={"names": ["a"]})
        image = await stopped.ordered(1)
        expected = (Depth.PEER, {"linux/amd64": (ImageBlob(LAYER, 100),)}, {"a": "linux/amd64"})
        assert expected == (image.depth, image.blobs, image.platforms)
        await stopped.report(image)
        await stopped.until("Ready", "True", "Prefetched")
        if suspend:
            stopped.task(source=ONE, target={"names": ["a"]}, suspend=True)
            await stopped.until("Ready", "False", "Suspended")
        assert [image.orders] == [each.orders for each in stopped.supernode.images.values()]
    stopped.note()
    stopped.supernode.registry[IMAGE] = SupernodeUnavailableError("it is busy")
    async with stopped.operator():
        await asyncio.sleep(0.5)
        stopped.supernode.registry[IMAGE] = resolved()
        await stopped.stated(0.3)
    for images in stopped.later:
        assert [(image.orders, image.blobs)] == [(each.orders, each.blobs) for each in images]


@pytest.mark.parametrize("answer", [SupernodeUnavailableError("away"), Resolved(reason="RegistryUnavailable")])
@pytest.mark.parametrize("everything", [False, True], ids=["the operator restarts", "the supernode restarts too"])
async def test_f13_a_registry_that_is_away_during_a_restart_costs_no_blobs(
    stopped: PrefetchStage, answer: Resolved | SupernodeUnavailableError, everything: bool
) -> None:
    """The real lists of orders of a supernode and of a node read all statements."""
    supernode, node = StatedImages(), Ledger()

    def carry_out() -> None:
        for statement in stopped.supernode.statements[stopped.before :]:
            supernode.take(statement)
            orders = supernode.orders("a")
            assert orders is not None
            assert not node.apply(orders, 0).ended
        stopped.note()

    async with stopped.operator():
        stopped.task(source=ONE, target={"names": ["a"]})
        image = await stopped.ordered(1)
        await stopped.report(image)
        await stopped.until("Ready", "True", "Prefetched")
        carry_out()
    stopped.supernode.registry[IMAGE] = answer
    if everything:
        supernode = StatedImages()
    async with stopped.operator():
        await stopped.report(image)
        await asyncio.sleep(40)
        assert stopped.later, "a registry that is away holds up no statement"
        carry_out()
        assert {task_id.of_blob(LAYER)} == node.kept_tasks()
        assert everything or supernode.ordered("a", image.key, "docker.io/library/one")[0] == image
        stopped.supernode.registry[IMAGE] = resolved()
        await stopped.ordered(1, seconds=60)
        carry_out()
        stopped.cluster.remove("tasks", "ns/t")
        await eventually(lambda: not stopped.supernode.images)
        assert () == stopped.supernode.statements[-1].unchanged


async def test_f10_workloads_that_cannot_be_listed_after_a_restart_cost_no_orders(stopped: PrefetchStage) -> None:
    web = {"metadata": {"name": "web", "namespace": "ns"}, "spec": {"template": {"spec": {"containers": [ONE]}}}}
    stopped.cluster.put("deployments", web)
    supernode = StatedImages()
    async with stopped.operator():
        stopped.prefetch(source={"workloadRef": {"kind": "Deployment", "name": "web"}})
        image = await stopped.halfway()
        for statement in stopped.supernode.statements:
            supernode.take(statement)
    stopped.note()
    stopped.cluster.list_workloads = AsyncMock(side_effect=ClusterUnavailableError("no answer"))  # type: ignore[method-assign]
    async with stopped.operator():
        await eventually(lambda: stopped.later, within=60)
        for statement in stopped.supernode.statements[stopped.before :]:
            supernode.take(statement)
        assert supernode.ordered("a", image.key, "docker.io/library/one")[0] == image


@pytest.mark.parametrize("depth", ["Peer", "Runtime"])
async def test_a_task_that_cannot_be_planned_after_a_restart_costs_no_image(
    stopped: PrefetchStage, depth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stopped.operator():
        stopped.task(source=ONE, depth=depth, target={"names": ["a"]})
        image = await stopped.ordered(1)
        await stopped.report(image)
        await stopped.until("Ready", "True", "Prefetched")
    stopped.note()
    monkeypatch.setattr(plans, "plan", Mock(side_effect=LookupError("a bug of the plan")))
    async with stopped.operator():
        await eventually(lambda: stopped.later, within=60)
    assert {(image.key,)} == {each.unchanged for each in stopped.supernode.statements[stopped.before :]}


@pytest.mark.parametrize("restart", [False, True])
async def test_a_node_that_joins_after_the_tag_has_moved_gets_the_digest_of_the_run(
    stopped: PrefetchStage, restart: bool
) -> None:
    async def joins() -> None:
        await stopped.connect("late")
        joined = await stopped.ordered(2)
        assert (image.key, image.blobs) == (joined.key, joined.blobs)

    async with stopped.operator():
        stopped.task(source=ONE, depth="Peer", target={"names": ["a", "late"]})
        image = await stopped.ordered(1)
        await stopped.report(image)
        await stopped.until("Ready", "True", "Prefetched")
        stopped.supernode.registry[IMAGE] = resolved(B)
        if not restart:
            await asyncio.sleep(1300)  # the supernode checks tags every 10 minutes
            await joins()
    if restart:
        async with stopped.operator():
            await joins()


async def test_a_node_of_another_platform_gets_no_order_without_blobs(world: PrefetchStage) -> None:
    world.task(source=ONE, depth="Peer")
    await world.report(await world.ordered(2))
    await world.until("Ready", "True", "Prefetched")
    world.supernode.registry[IMAGE] = resolved(A, "linux/amd64", "linux/arm64")
    world.note()
    world.node("arm", labels={"kubernetes.io/arch": "arm64"})
    await world.supernode.connect("arm")
    await world.ordered(3)
    stated = [image for images in world.later for image in images if "arm" in image.orders]
    assert [{"linux/amd64", "linux/arm64"}] * len(stated) == [image.blobs.keys() for image in stated]
