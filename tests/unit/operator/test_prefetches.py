"""ImagePrefetches, from the API server to the nodes and back, with all of the operator between them."""

import asyncio
import base64
import json
from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import pytest

from pantala_operator.errors import SupernodeUnavailableError
from pantala_operator.ports import R
from pantala_operator.supernodes import statement_room
from pantala_protocol.images import Depth, RuntimeState
from pantala_protocol.registry import Resolve, Resolved
from tests.support.eventually import eventually
from tests.support.prefetch_stage import IMAGE, LAYER, NODES, ONE, A, B, PrefetchStage, resolved, runtime

pytestmark = pytest.mark.virtual_time


async def test_from_image_prefetch_to_ready(world: PrefetchStage) -> None:
    """The operator asks the registry, creates a Task and gives orders, and the nodes report the image."""
    world.prefetch()
    image = await world.ordered(2)
    expected = (f"{IMAGE}@{A}", Depth.RUNTIME, set(NODES))
    assert expected == (image.image, image.depth, set(image.orders))
    await eventually(lambda: world.children)
    assert [image.key] == world.children
    await eventually(lambda: world.outcome("Resolved") == ("True", "Resolved"))
    assert ("False", "Progressing") == world.outcome()
    await world.report(image)
    await eventually(lambda: world.outcome() == ("True", "Prefetched"))
    await eventually(lambda: world.condition("Ready", image.key.partition("/")[2]) == ("True", "Prefetched"))
    assert [image] == list(world.supernode.images.values())
    status = world.cluster.prefetch("ns/p").status
    assert ("2/2", A, image.key) == (status.summary, status.images[0].digest, f"ns/{status.images[0].task}")
    task = world.cluster.task(image.key).status
    assert ("2/2", A, 100) == (task.summary, task.digest, task.content_length)
    assert ("ns/p", "Normal", "Prefetched") in world.cluster.events
    assert 1 == len(world.supernode.questions)
    assert () == world.supernode.statements[-1].tasks


async def test_a_missing_secret_is_reported_and_used_once_it_exists(stopped: PrefetchStage) -> None:
    stopped.supernode.registry[IMAGE] = Resolved(reason="Unauthorized", message="It wants credentials")
    async with stopped.operator():
        stopped.prefetch(pullSecrets=["mine"])
        await eventually(lambda: stopped.outcome("Resolved") == ("False", "Unauthorized"))
        assert "The Secret mine is missing in this namespace. Create it." in stopped.message("Resolved")
        assert "spec.pullSecrets" in stopped.message("Stalled")
        assert not any(each.credentials for each in stopped.supernode.questions)
        auths: dict[str, Any] = {"registry.example": {"auth": base64.b64encode(b"ann:secret").decode()}}
        stopped.secret("mine", _dockercfg=json.dumps(auths).encode())
        stopped.supernode.registry[IMAGE] = resolved()
        image = await stopped.ordered(2)
    (asked,), (stated,) = stopped.supernode.questions[-1].credentials, image.credentials
    assert {"auths": auths} == json.loads(asked) == json.loads(stated)
    assert "secret" not in repr(stopped.cluster.prefetch("ns/p").status)


@pytest.mark.parametrize("edited", [False, True], ids=["the Secret is created", "the spec names it"])
async def test_a_secret_that_comes_during_a_question_is_used_for_the_next_one(
    stopped: PrefetchStage, *, edited: bool
) -> None:
    """The answer to the former question would mean a pause of five minutes."""

    async def slow(question: Resolve) -> Resolved:
        if question.credentials:
            return resolved()
        await asyncio.sleep(20)
        return Resolved(reason="Unauthorized", message="It wants credentials")

    stopped.supernode.resolve = slow  # type: ignore[method-assign]
    secret = b'{"registry.example": {}}'
    async with stopped.operator():
        if edited:
            stopped.secret("mine", _dockercfg=secret)
            stopped.prefetch("other", images=[{"image": "two:2"}], pullSecrets=["mine"])
        stopped.prefetch(pullSecrets=[] if edited else ["mine"])
        await asyncio.sleep(5)
        if edited:
            stopped.prefetch(pullSecrets=["mine"])
        else:
            stopped.secret("mine", _dockercfg=secret)
        await eventually(lambda: {"a", "b"} == stopped.nodes_of("ns/p"), within=60)


async def test_t9_a_registry_without_an_answer_delays_no_other_namespace(stopped: PrefetchStage) -> None:
    async def asked(question: Resolve) -> Resolved:
        if question.image != IMAGE:
            await asyncio.sleep(60)
            return Resolved(reason="RegistryUnavailable", message="no answer")
        return resolved()

    stopped.supernode.resolve = asked  # type: ignore[method-assign]
    async with stopped.operator():
        stopped.prefetch("slow", "other", images=[{"image": f"dead.example/{number}:1"} for number in range(64)])
        await asyncio.sleep(5)
        stopped.prefetch()
        await stopped.ordered(2, seconds=10)


async def test_a_new_run_finds_a_moved_tag(world: PrefetchStage) -> None:
    """Nodes get the new digest. The former digest's Task is deleted once they have it."""
    world.prefetch()
    former = await world.ordered(2)
    await world.report(former)
    await eventually(lambda: world.outcome()[0] == "True")
    world.supernode.registry[IMAGE] = resolved(B)
    await asyncio.sleep(1.1)  # times are whole seconds
    world.request("again")
    await eventually(lambda: any(B in image.image and image.orders for image in world.supernode.images.values()))
    assert former.key in world.supernode.images
    new = next(image for image in world.supernode.images.values() if B in image.image)
    await world.report(new)
    await eventually(lambda: [new.key] == world.children and [new.key] == list(world.supernode.images))
    await eventually(lambda: world.outcome()[0] == "True")


async def test_a_field_that_a_user_adds_to_a_child_causes_no_writes_without_end(
    world: PrefetchStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server keeps the fields of other managers, whatever the operator applies."""
    apply, calls = world.cluster.apply, list[str]()

    async def merged(kind: type[R], body: Mapping[str, Any]) -> R:
        calls.append(body["kind"])
        return await apply(kind, {**body, "spec": {**body.get("spec", {}), "priority": 5}})

    world.prefetch()
    await world.ordered(2)  # no node is ready yet
    (child,) = world.children
    monkeypatch.setattr(world.cluster, "apply", merged)
    body = deepcopy(world.cluster.objects["tasks"][child])
    body["spec"]["priority"] = 5
    world.cluster.put("tasks", body)
    await asyncio.sleep(20)
    assert 1 <= calls.count("Task") <= 2
    body["spec"]["suspend"] = True
    world.cluster.put("tasks", body)
    await eventually(lambda: not world.cluster.task(child).spec.suspend, what="a field of the operator is corrected")


async def test_h5_a_forged_child_has_a_condition_and_no_node_gets_its_image(world: PrefetchStage) -> None:
    """The attack: a Task with the owner reference of an ImagePrefetch, its tag and another digest."""
    world.prefetch()
    image = await world.ordered(2)
    await world.report(image)
    await eventually(lambda: world.outcome()[0] == "True")
    (child,) = world.children
    owner = world.cluster.objects["tasks"][child]["metadata"]["ownerReferences"]
    metadata = {"name": "forged", "namespace": "ns", "ownerReferences": owner}
    spec = {"source": {"image": f"{IMAGE}@{B}"}, "depth": "Runtime"}
    world.cluster.put("tasks", {"metadata": metadata, "spec": spec})
    await world.until("Stalled", "True", "OwnerMismatch", name="forged")
    assert [f"{IMAGE}@{A}"] == [each.image for each in world.supernode.images.values()]
    assert not [each for statement in world.supernode.statements for each in statement.images if B in each.image]


async def test_mode_plan_asks_nodes_for_their_blobs_and_orders_nothing(world: PrefetchStage) -> None:
    world.prefetch(mode="Plan")
    await eventually(lambda: {LAYER} == world.supernode.survey)
    await world.supernode.say("a", {}, runtime(blobs={LAYER: True}, disk_free=1000))
    await asyncio.sleep(0.3)
    assert ("True", "Progressing") == world.outcome("Reconciling")
    await world.supernode.say("b", {}, runtime(blobs={LAYER: False}, disk_free=1000))
    await eventually(lambda: world.outcome() == ("False", "Planned"))
    plan = world.cluster.prefetch("ns/p").status.plan
    assert plan is not None
    assert (100, 100) == (plan.size, plan.registry_bytes)
    assert {"b": 100} == {each.node: each.size for each in plan.nodes}
    assert ({}, {}) == (world.supernode.images, world.cluster.objects["tasks"])


async def test_a_question_is_repeated_while_the_supernode_cannot_ask(stopped: PrefetchStage) -> None:
    stopped.supernode.registry[IMAGE] = SupernodeUnavailableError("it answered 503")
    async with stopped.operator():
        stopped.prefetch()
        await eventually(lambda: stopped.supernode.questions)
        assert ("Unknown", "Pending") == stopped.outcome("Resolved"), "it says nothing about the registry"
        stopped.supernode.registry[IMAGE] = resolved()
        await stopped.ordered(2)


async def test_a_workload_is_followed_and_pods_choose_nodes(stopped: PrefetchStage) -> None:
    template = {"spec": {"containers": [{"image": "one:1"}]}}
    stopped.cluster.put("deployments", {"metadata": {"name": "web", "namespace": "ns"}, "spec": {"template": template}})
    pod = {"metadata": {"name": "x", "namespace": "ns", "labels": {"app": "x"}}, "spec": {"nodeName": "b"}}
    stopped.cluster.put("pods", pod)
    async with stopped.operator():
        target = {"podSelector": {"matchLabels": {"app": "x"}}}
        stopped.prefetch(source={"workloadRef": {"kind": "Deployment", "name": "web"}}, target=target)
        image = await stopped.ordered(1)
    assert (True, {"b"}) == (A in image.image, set(image.orders))


async def test_only_the_operators_own_namespace_follows_others(stopped: PrefetchStage) -> None:
    template = {"spec": {"containers": [{"image": "one:1"}]}}
    stopped.cluster.put("daemonsets", {"metadata": {"name": "d", "namespace": "team"}, "spec": {"template": template}})
    stopped.cluster.put("namespaces", {"metadata": {"name": "team", "labels": {"prefetch": "yes"}}})
    stopped.cluster.put("namespaces", {"metadata": {"name": "ns"}})
    source = {"namespaceSelector": {"matchLabels": {"prefetch": "yes"}}}
    async with stopped.operator():
        stopped.prefetch(source=source)
        stopped.prefetch(namespace="home", source=source)
        await eventually(lambda: stopped.outcome("Stalled") == ("True", "NamespacesForbidden"))
        assert (await stopped.ordered(2)).key.startswith("home/p-")


async def test_a_task_with_an_image_is_planned_by_itself(stopped: PrefetchStage) -> None:
    async with stopped.operator():
        stopped.task(source=ONE, depth="Runtime", target={"names": ["a"]}, retention={"pin": True})
        image = await stopped.ordered(1)
        assert (Depth.RUNTIME, True, {"a"}) == (image.depth, image.pin, set(image.orders))
        await stopped.until("SourceResolved", "True", "Resolved")
        await stopped.report(image)
        await stopped.until("Ready", "True", "Prefetched")
        assert ("1/1", A) == (stopped.cluster.task("ns/t").status.summary, stopped.cluster.task("ns/t").status.digest)
        assert [] == stopped.children
    stopped.note()
    writes = len(stopped.cluster.writes)
    async with stopped.operator():
        await stopped.stated(0.3)
    assert [[image.orders]] * len(stopped.later) == [[each.orders for each in images] for images in stopped.later]
    assert writes == len(stopped.cluster.writes)


async def test_m1_an_image_without_room_in_the_statement_is_pulled_without_its_secret(
    stopped: PrefetchStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The condition changes nothing that is wanted. With room, the credentials return."""
    monkeypatch.setattr(statement_room, "fit", partial(statement_room.fit, most=20_000))
    for name, size in (("big", 16_000), ("small", 100)):
        auths = {"auths": {"registry.example": {"auth": base64.b64encode(b"x" * size).decode()}}}
        stopped.secret(name, _dockerconfigjson=json.dumps(auths).encode())
    async with stopped.operator():
        stopped.prefetch("other", "team")
        stopped.prefetch(pullSecrets=["big"])
        await eventually(lambda: stopped.outcome("Stalled") == ("True", "StatementFull"))
        assert ([()], {"a", "b"}) == ([each.credentials for each in stopped.of("ns/p")], stopped.nodes_of("ns/p"))
        assert {"a", "b"} == stopped.nodes_of("team/other")
        stopped.note()
        await asyncio.sleep(10)
        assert not stopped.later
        stopped.prefetch(pullSecrets=["small"])
        await eventually(lambda: [1] == [len(each.credentials) for each in stopped.of("ns/p")], within=30)
        await eventually(lambda: stopped.outcome("Stalled")[0] == "False")


async def test_a_task_reports_a_missing_image_in_source_resolved(world: PrefetchStage) -> None:
    world.task(source={"image": "missing:1"})
    await world.until("SourceResolved", "False", "NotFound")
    await world.until("Stalled", "True", "NotFound")
    assert () == world.cluster.task("ns/t").status.failures, "they are those of nodes"


async def test_supernodes_do_not_keep_images(world: PrefetchStage) -> None:
    world.task(source=ONE, depth="Supernode")
    await world.until("Stalled", "True", "SourceUnsupported")
    assert [] == world.supernode.questions


async def test_one_is_deleted_after_its_time_to_live(world: PrefetchStage) -> None:
    world.prefetch(ttlSecondsAfterFinished=1)
    await world.report(await world.ordered(2))
    await eventually(lambda: "ns/p" not in world.cluster.objects["imageprefetches"])
    await eventually(lambda: not world.supernode.images)


async def test_each_peer_reports_its_mirror(world: PrefetchStage) -> None:
    await eventually(lambda: set(NODES) <= world.cluster.objects["peers"].keys())
    await world.supernode.say("a", {}, runtime(mirror=True))
    await world.supernode.say("b", {}, RuntimeState(message="no socket; mount it"))
    await eventually(lambda: "runtime" in world.cluster.objects["peers"]["a"].get("status", {}), within=12)
    found = {
        (name, each["status"], each["reason"])
        for name in NODES
        for each in world.cluster.objects["peers"][name]["status"]["conditions"]
        if each["type"] == "MirrorConfigured"
    }
    assert {("a", "True", "Probed"), ("b", "Unknown", "RuntimeUnavailable")} == found
