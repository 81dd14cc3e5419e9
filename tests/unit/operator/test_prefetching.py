"""ImagePrefetches, from the API server to the nodes and back, with all of the operator between them."""

import asyncio
import base64
import json
from typing import Any

import pytest

from pantala_operator.errors import SupernodeUnavailableError
from pantala_operator.resources import conditions
from pantala_protocol.images import Depth, ImageBlob, PullPhase, PullState, RuntimeState, WantedImage
from pantala_protocol.registry import Resolved
from tests.support.eventually import eventually
from tests.support.operator_stage import OperatorStage

pytestmark = pytest.mark.virtual_time

NODES = ("a", "b")
A, B, LAYER = ("sha256:" + letter * 64 for letter in "ab1")
IMAGE = "docker.io/library/one:1"
RUNTIME = RuntimeState(name="containerd", version="2.0.0")


def resolved(digest: str = A, *platforms: str) -> Resolved:
    return Resolved(digest, dict.fromkeys(platforms or ("linux/amd64",), (ImageBlob(LAYER, 100),)))


class World(OperatorStage):
    """One supernode. The operator's own namespace is ``home``."""

    def prefetch(self, name: str = "p", namespace: str = "ns", **spec: Any) -> None:
        if "source" in spec:
            spec["from"] = spec.pop("source")
        else:
            spec.setdefault("images", [{"image": "one:1"}])
        former = self.cluster.objects["imageprefetches"].get(f"{namespace}/{name}", {})
        annotations = former.get("metadata", {}).get("annotations", {})
        metadata = {"name": name, "namespace": namespace, "annotations": dict(annotations)}
        self.cluster.put("imageprefetches", {"metadata": metadata, "spec": spec})

    def request(self, value: str) -> None:
        body = self.cluster.objects["imageprefetches"]["ns/p"]
        body["metadata"].setdefault("annotations", {})["pantala.dev/requested-at"] = value
        self.cluster.put("imageprefetches", body)

    def outcome(self, kind: str = "Ready", key: str = "ns/p") -> tuple[str, str]:
        found = conditions.find(self.cluster.prefetch(key).status.conditions, kind)
        return (found.status, found.reason) if found is not None else ("", "")

    def said(self, kind: str, key: str = "ns/p") -> str:
        found = conditions.find(self.cluster.prefetch(key).status.conditions, kind)
        return found.message if found is not None else ""

    @property
    def children(self) -> list[str]:
        return sorted(
            key for key, body in self.cluster.objects["tasks"].items() if "ownerReferences" in body["metadata"]
        )

    def of(self, key: str) -> list[WantedImage]:
        """What is stated of the images of one ImagePrefetch."""
        return [each for name, each in self.supernode.images.items() if name.startswith(f"{key}-")]

    async def ordered(self, count: int = 1, seconds: float = 8) -> WantedImage:
        """The one image that is stated, once ``count`` nodes have orders."""

        def met() -> bool:
            return [count] == [len(image.orders) for image in self.supernode.images.values()]

        await eventually(met, within=seconds)
        return next(iter(self.supernode.images.values()))

    async def answer(self, image: WantedImage, phase: PullPhase = PullPhase.READY, **changes: Any) -> None:
        """All nodes with orders answer them."""
        for name, order in image.orders.items():
            said = PullState(phase, int(self.clock.now().timestamp()), order.run, order.number, **changes)
            await self.supernode.say(name, {image.key: said})


@pytest.fixture
async def world() -> World:
    made = World(progress_interval=0.2, namespace="home")
    await made.connect(*NODES)
    made.supernode.registry[IMAGE] = resolved()
    return made


async def test_from_image_prefetch_to_ready(world: World) -> None:
    """The registry is asked, a Task is there, nodes are told, and say that they have it."""
    async with world.operator():
        world.prefetch()
        image = await world.ordered(2)
        assert (f"{IMAGE.removesuffix(':1')}:1@{A}", Depth.RUNTIME, set(NODES)) == (
            image.image, image.depth, set(image.orders)
        )  # fmt: skip
        await eventually(lambda: world.children)
        assert [image.key] == world.children
        await eventually(lambda: world.outcome("Resolved") == ("True", "Resolved"))
        assert ("False", "Progressing") == world.outcome()
        await world.answer(image)
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


async def test_a_deleted_one_takes_its_orders_with_it(world: World) -> None:
    async with world.operator():
        world.prefetch()
        await world.answer(await world.ordered(2))
        await eventually(lambda: world.outcome()[0] == "True")
        world.cluster.remove("imageprefetches", "ns/p")
        await eventually(lambda: not world.supernode.images)


async def test_a_suspended_one_ends_its_pulls_and_keeps_what_is_there(world: World) -> None:
    async with world.operator():
        world.prefetch()
        image = await world.ordered(2)
        order = image.orders["a"]
        await world.supernode.say("a", {image.key: PullState(PullPhase.READY, 1_800_000_000, order.run, order.number)})
        world.prefetch(suspend=True)
        kept = await world.ordered(1)
        assert {"a": order} == kept.orders
        await eventually(lambda: world.outcome() == ("False", "Suspended"))
        assert ("False", "Suspended") == world.outcome("Reconciling")


async def _halfway(world: World, key: str) -> WantedImage:
    """Node a has the image of that ImagePrefetch, b pulls it."""
    await eventually(lambda: [2] == [len(each.orders) for each in world.of(key)])
    (image,) = world.of(key)
    for name, phase in (("a", PullPhase.READY), ("b", PullPhase.PULLING)):
        order = image.orders[name]
        await world.supernode.say(name, {image.key: PullState(phase, 1_800_000_000, order.run, order.number)})
    await eventually(lambda: world.cluster.prefetch(key).status.summary == "1/2")
    return image


async def test_suspending_ends_pulls_at_once_though_no_node_came_back_to_a_supernode(world: World) -> None:
    """And only those: another one's orders stay in every statement, and what is there is kept."""
    async with world.operator():
        world.prefetch()
        world.prefetch("other", completionPolicy="Continuous")
        image, other = await _halfway(world, "ns/p"), await _halfway(world, "ns/other")
        await world.supernode.restart()
        before = len(world.supernode.statements)
        await eventually(lambda: len(world.supernode.statements) > before)
        world.prefetch(suspend=True)
        await eventually(lambda: {"a"} == {name for each in world.of("ns/p") for name in each.orders}, within=3)
        await eventually(lambda: world.outcome() == ("False", "Suspended"), within=3)
    assert {"a": image.orders["a"]} == world.of("ns/p")[0].orders
    for said in world.supernode.statements[before:]:
        assert [other.orders] == [each.orders for each in said.images if each.key == other.key]


async def test_suspending_while_the_operator_was_away_ends_pulls_though_a_node_is_not_back(world: World) -> None:
    async with world.operator():
        world.prefetch()
        image = await _halfway(world, "ns/p")
    world.cluster.put("peers", {"metadata": {"name": "late"}, "spec": {}})
    world.node("late")
    world.prefetch(suspend=True)
    before = len(world.supernode.statements)
    async with world.operator():
        await eventually(lambda: len(world.supernode.statements) > before, within=3)
    assert {"a": image.orders["a"]} == world.of("ns/p")[0].orders
    assert all(len(said.images) == 1 for said in world.supernode.statements[before:])


async def test_what_is_suspended_is_kept_over_a_restart_of_all(world: World) -> None:
    """Who has it is known when the nodes are back; nothing is stated before."""
    async with world.operator():
        world.prefetch(retention={"pin": True})
        image = await _halfway(world, "ns/p")
        world.prefetch(suspend=True, retention={"pin": True})
        await eventually(lambda: {"a"} == {name for each in world.of("ns/p") for name in each.orders})
    await world.supernode.restart()
    before, order = len(world.supernode.statements), image.orders["a"]
    async with world.operator():
        await asyncio.sleep(0.5)
        for name in NODES:
            has = {image.key: PullState(PullPhase.READY, 1_800_000_000, order.run, order.number)}
            await world.supernode.say(name, has if name == "a" else {})
        await eventually(lambda: len(world.supernode.statements) > before)
        await asyncio.sleep(0.3)
    for said in world.supernode.statements[before:]:
        assert [{"a": order}] == [each.orders for each in said.images]


async def test_one_that_runs_is_not_cut_for_another_that_is_suspended(world: World) -> None:
    """While the operator that starts anew does not know yet how far the nodes are that it has not heard."""
    async with world.operator():
        world.prefetch()
        world.prefetch("other", completionPolicy="Continuous")
        await _halfway(world, "ns/p")
        other = await _halfway(world, "ns/other")
    await world.supernode.connect("b", connected=False)
    world.prefetch(suspend=True)
    before = len(world.supernode.statements)
    async with world.operator():
        await asyncio.sleep(0.7)
        await world.supernode.connect("b")
        await eventually(lambda: {"a"} == {name for each in world.of("ns/p") for name in each.orders})
    for said in world.supernode.statements[before:]:
        assert [other.orders] == [each.orders for each in said.images if each.key == other.key]


async def test_a_node_that_goes_down_while_it_pulls_is_named_and_the_others_are_done(world: World) -> None:
    """Though the cluster itself has not noticed, and the operator runs for a moment only."""
    async with world.operator():
        world.prefetch()
        await _halfway(world, "ns/p")
        await world.supernode.connect("b", connected=False)
        await eventually(lambda: world.outcome() == ("True", "Prefetched"), within=3)
    status = world.cluster.prefetch("ns/p").status
    assert status.nodes is not None
    assert ("1/1", 1, 1) == (status.summary, status.nodes.desired, status.nodes.unavailable)
    assert [("b", "NodeUnavailable")] == [(each.node, each.reason) for each in status.failures]


async def test_an_image_that_is_not_there_is_named_and_the_other_goes_to_all_nodes(world: World) -> None:
    async with world.operator():
        world.prefetch(images=[{"image": "missing:1"}, {"image": "one:1"}])
        await world.answer(await world.ordered(2))
        await eventually(lambda: world.outcome("Stalled") == ("True", "NotFound"))
    status = world.cluster.prefetch("ns/p").status
    assert [0, 2] == [each.ready for each in status.images]
    (named,) = status.failures
    assert ("", "docker.io/library/missing:1", "NotFound") == (named.node, named.image, named.reason)


async def test_a_restart_changes_no_order(world: World) -> None:
    """Neither of those that pull nor of those that have the image; and no statement is without it."""
    async with world.operator():
        world.prefetch(completionPolicy="Continuous")
        image = await world.ordered(2)
        await world.answer(image, PullPhase.PULLING, fetched=5)
        order = image.orders["a"]
        await world.supernode.say("a", {image.key: PullState(PullPhase.READY, 1_800_000_000, order.run, order.number)})
        await eventually(lambda: world.cluster.prefetch("ns/p").status.summary == "1/2")
    before = len(world.supernode.statements)
    async with world.operator():
        await eventually(lambda: len(world.supernode.statements) > before)
        await eventually(lambda: len(world.supernode.questions) == 2)
        await asyncio.sleep(0.5)
    assert {(repr(image), repr(image.orders))} == {
        (repr(each), repr(each.orders)) for said in world.supernode.statements[before:] for each in said.images
    }
    assert all(said.images for said in world.supernode.statements[before:])


async def test_nothing_is_stated_before_peers_have_come_back(world: World) -> None:
    """What a node has that has not spoken yet is not known, and an order left out would let it go."""
    world.cluster.put("peers", {"metadata": {"name": "late"}, "spec": {}})
    world.node("late")
    world.prefetch()
    async with world.operator():
        await asyncio.sleep(0.5)
        assert [] == world.supernode.statements
        await world.supernode.connect("late")
        await world.ordered(3)


async def test_a_peer_that_does_not_come_back_is_not_waited_for_for_ever(world: World) -> None:
    world.cluster.put("peers", {"metadata": {"name": "late"}, "spec": {}})
    world.node("late")
    world.prefetch()
    async with world.operator():
        image = await world.ordered(2, 20)
        assert set(NODES) == set(image.orders)
        await world.answer(image)
        await eventually(lambda: world.outcome() == ("True", "Prefetched"))
    failures = world.cluster.prefetch("ns/p").status.failures
    assert [("late", "NodeUnavailable")] == [(each.node, each.reason) for each in failures]


async def test_a_missing_secret_is_named_and_one_that_is_there_is_used(world: World) -> None:
    world.supernode.registry[IMAGE] = Resolved(reason="Unauthorized", message="It wants credentials")
    async with world.operator():
        world.prefetch(pullSecrets=["mine"])
        await eventually(lambda: world.outcome("Resolved") == ("False", "Unauthorized"))
        assert "The Secret mine does not exist in this namespace." in world.said("Resolved")
        assert "spec.pullSecrets" in world.said("Stalled")
        assert not any(each.credentials for each in world.supernode.questions)
        auths: dict[str, Any] = {"registry.example": {"auth": base64.b64encode(b"ann:secret").decode()}}
        data = {".dockercfg": base64.b64encode(json.dumps(auths).encode()).decode()}
        world.cluster.put("secrets", {"metadata": {"name": "mine", "namespace": "ns"}, "data": data})
        world.supernode.registry[IMAGE] = resolved()
        image = await world.ordered(2)
    (asked,), (stated,) = world.supernode.questions[-1].credentials, image.credentials
    assert {"auths": auths} == json.loads(asked) == json.loads(stated)
    assert "secret" not in repr(world.cluster.prefetch("ns/p").status)


async def test_a_new_run_finds_a_moved_tag(world: World) -> None:
    """Nodes go over to the new digest; the Task of the former one goes when they have it."""
    async with world.operator():
        world.prefetch()
        former = await world.ordered(2)
        await world.answer(former)
        await eventually(lambda: world.outcome()[0] == "True")
        world.supernode.registry[IMAGE] = resolved(B)
        await asyncio.sleep(1.1)  # times are whole seconds
        world.request("again")
        await eventually(lambda: any(B in image.image and image.orders for image in world.supernode.images.values()))
        assert former.key in world.supernode.images
        new = next(image for image in world.supernode.images.values() if B in image.image)
        await world.answer(new)
        await eventually(lambda: [new.key] == world.children and [new.key] == list(world.supernode.images))
        await eventually(lambda: world.outcome()[0] == "True")


async def test_startup_taints_go_when_the_images_are_there(world: World) -> None:
    taint, other = {"key": "prefetch", "effect": "NoSchedule"}, {"key": "other", "effect": "PreferNoSchedule"}
    for name in NODES:
        world.node(name, taints=[taint, other])
    async with world.operator():
        world.prefetch(startupTaint={"key": "prefetch", "deadlineSeconds": 2**31 - 1}, completionPolicy="Continuous")
        image = await world.ordered(2)
        order = image.orders["b"]
        await world.supernode.say("b", {image.key: PullState(PullPhase.READY, 1_800_000_000, order.run, order.number)})
        await eventually(lambda: world.cluster.objects["nodes"]["b"]["spec"]["taints"] == [other])
        assert [taint, other] == world.cluster.objects["nodes"]["a"]["spec"]["taints"]


async def test_plan_only(world: World) -> None:
    """Nodes are asked what they have; nothing is ordered and no Task is made."""
    async with world.operator():
        world.prefetch(mode="Plan")
        await eventually(lambda: {LAYER} == world.supernode.survey)
        await world.supernode.say("a", {}, runtime(blobs={LAYER: True}, disk_free=1000))
        await asyncio.sleep(0.3)
        assert ("True", "Progressing") == world.outcome("Reconciling")
        await world.supernode.say("b", {}, runtime(blobs={LAYER: False}, disk_free=1000))
        await eventually(lambda: world.outcome() == ("False", "Planned"))
    plan = world.cluster.prefetch("ns/p").status.plan
    assert plan is not None
    assert ((100, 100), {"b": 100}) == (
        (plan.size, plan.registry_bytes), {each.node: each.size for each in plan.nodes}
    )  # fmt: skip
    assert ({}, {}) == (world.supernode.images, world.cluster.objects["tasks"])


def runtime(**changes: Any) -> RuntimeState:
    return RuntimeState(RUNTIME.name, RUNTIME.version, **changes)


async def test_a_supernode_that_cannot_ask_is_asked_again(world: World) -> None:
    """That says nothing of the registry."""
    world.supernode.registry[IMAGE] = SupernodeUnavailableError("it answered 503")
    async with world.operator():
        world.prefetch()
        await eventually(lambda: world.supernode.questions)
        assert ("Unknown", "Pending") == world.outcome("Resolved")
        world.supernode.registry[IMAGE] = resolved()
        await world.ordered(2)


async def test_workloads_are_followed(world: World) -> None:
    def workload(image: str) -> None:
        template = {"spec": {"containers": [{"image": image}]}}
        metadata = {"name": "web", "namespace": "ns"}
        world.cluster.put("deployments", {"metadata": metadata, "spec": {"template": template}})

    workload("one:1")
    source = {"workloadRef": {"kind": "Deployment", "name": "web"}}
    async with world.operator():
        world.prefetch(source=source, completionPolicy="Continuous")
        image = await world.ordered(2)
    assert A in image.image


async def test_only_the_operators_own_namespace_follows_others(world: World) -> None:
    template = {"spec": {"containers": [{"image": "one:1"}]}}
    world.cluster.put("daemonsets", {"metadata": {"name": "d", "namespace": "team"}, "spec": {"template": template}})
    world.cluster.put("namespaces", {"metadata": {"name": "team", "labels": {"prefetch": "yes"}}})
    world.cluster.put("namespaces", {"metadata": {"name": "ns"}})
    source = {"namespaceSelector": {"matchLabels": {"prefetch": "yes"}}}
    async with world.operator():
        world.prefetch(source=source)
        world.prefetch(namespace="home", source=source)
        await eventually(lambda: world.outcome("Stalled") == ("True", "NamespacesForbidden"))
        image = await world.ordered(2)
    assert image.key.startswith("home/p-")


async def test_pods_choose_nodes(world: World) -> None:
    pod = {"metadata": {"name": "x", "namespace": "ns", "labels": {"app": "x"}}, "spec": {"nodeName": "b"}}
    world.cluster.put("pods", pod)
    async with world.operator():
        world.prefetch(target={"podSelector": {"matchLabels": {"app": "x"}}})
        image = await world.ordered(1)
    assert {"b"} == set(image.orders)


async def test_an_image_for_another_platform_is_left_out(world: World) -> None:
    world.node("b", labels={"kubernetes.io/arch": "arm64"})
    world.supernode.registry[IMAGE] = resolved(A, "linux/arm64")
    async with world.operator():
        world.prefetch(images=[{"image": "one:1", "platform": "linux/arm64"}])
        image = await world.ordered(1)
        assert {"b"} == set(image.orders)
        await eventually(lambda: world.cluster.prefetch("ns/p").status.failures)
    assert [("a", "PlatformMissing")] == [
        (each.node, each.reason) for each in world.cluster.prefetch("ns/p").status.failures
    ]


async def test_a_task_with_an_image_is_planned_by_itself(world: World) -> None:
    spec = {"source": {"image": "one:1"}, "depth": "Runtime", "target": {"names": ["a"]}, "retention": {"pin": True}}
    async with world.operator():
        world.cluster.put("tasks", {"metadata": {"name": "t", "namespace": "ns"}, "spec": spec})
        image = await world.ordered(1)
        assert (Depth.RUNTIME, True, {"a"}) == (image.depth, image.pin, set(image.orders))
        await eventually(lambda: world.condition("SourceResolved") == ("True", "Resolved"))
        await world.answer(image)
        await eventually(lambda: world.condition() == ("True", "Prefetched"))
        assert ("1/1", A) == (world.cluster.task("ns/t").status.summary, world.cluster.task("ns/t").status.digest)
        assert [] == world.children
    before = len(world.supernode.statements)
    writes = len(world.cluster.writes)
    async with world.operator():
        await eventually(lambda: len(world.supernode.statements) > before)
        await asyncio.sleep(0.3)
    assert [image.orders] * len(world.supernode.statements[before:]) == [
        each.images[0].orders for each in world.supernode.statements[before:]
    ]
    assert writes == len(world.cluster.writes)


async def test_an_image_at_depth_peer_comes_with_its_blobs(world: World) -> None:
    async with world.operator():
        world.cluster.put(
            "tasks", {"metadata": {"name": "t", "namespace": "ns"}, "spec": {"source": {"image": "one:1"}}}
        )
        image = await world.ordered(2)
    assert Depth.PEER == image.depth
    assert {"linux/amd64": (ImageBlob(LAYER, 100),)} == image.blobs
    assert dict.fromkeys(NODES, "linux/amd64") == image.platforms


@pytest.mark.parametrize("suspend", [False, True])
async def test_a_restart_changes_no_order_at_depth_peer(world: World, suspend: bool) -> None:
    """What the blobs are is asked again first, and also of what is suspended: nodes keep it."""
    spec: dict[str, Any] = {"source": {"image": "one:1"}, "target": {"names": ["a"]}}
    async with world.operator():
        world.cluster.put("tasks", {"metadata": {"name": "t", "namespace": "ns"}, "spec": spec})
        image = await world.ordered(1)
        await world.answer(image)
        await eventually(lambda: world.condition() == ("True", "Prefetched"))
        if suspend:
            world.cluster.put("tasks", {"metadata": {"name": "t", "namespace": "ns"}, "spec": spec | {"suspend": True}})
            await eventually(lambda: world.condition() == ("False", "Suspended"))
        assert [image.orders] == [each.orders for each in world.supernode.images.values()]
    before = len(world.supernode.statements)
    world.supernode.registry[IMAGE] = SupernodeUnavailableError("it is busy")
    async with world.operator():
        await asyncio.sleep(0.5)
        world.supernode.registry[IMAGE] = resolved()
        await eventually(lambda: len(world.supernode.statements) > before)
        await asyncio.sleep(0.3)
    for said in world.supernode.statements[before:]:
        assert [(image.orders, image.blobs)] == [(each.orders, each.blobs) for each in said.images]


async def test_a_task_tells_of_an_image_that_is_not_there_where_it_tells_of_its_source(world: World) -> None:
    async with world.operator():
        spec = {"source": {"image": "missing:1"}}
        world.cluster.put("tasks", {"metadata": {"name": "t", "namespace": "ns"}, "spec": spec})
        await eventually(lambda: world.condition("SourceResolved") == ("False", "NotFound"))
        await eventually(lambda: world.condition("Stalled") == ("True", "NotFound"))
    assert () == world.cluster.task("ns/t").status.failures, "they are those of nodes"


async def test_an_image_is_not_kept_on_supernodes(world: World) -> None:
    spec = {"source": {"image": "one:1"}, "depth": "Supernode"}
    async with world.operator():
        world.cluster.put("tasks", {"metadata": {"name": "t", "namespace": "ns"}, "spec": spec})
        await eventually(lambda: world.condition("Stalled") == ("True", "SourceUnsupported"))
    assert [] == world.supernode.questions


async def test_without_the_crd_files_are_distributed(world: World) -> None:
    world.cluster.missing = ["imageprefetches.pantala.dev"]
    world.cluster.missing_kinds = _nothing_missing  # type: ignore[method-assign]
    async with world.operator():
        spec = {"source": {"url": "http://origin.example/f"}}
        world.cluster.put("tasks", {"metadata": {"name": "t", "namespace": "ns"}, "spec": spec})
        await eventually(lambda: "ns/t" in world.supernode.wanted)


async def _nothing_missing() -> list[str]:
    return []


async def test_it_is_deleted_when_its_time_is_over(world: World) -> None:
    async with world.operator():
        world.prefetch(ttlSecondsAfterFinished=1)
        await world.answer(await world.ordered(2))
        await eventually(lambda: "ns/p" not in world.cluster.objects["imageprefetches"])
        await eventually(lambda: not world.supernode.images)


async def test_what_the_mirror_does_is_told_of_each_peer(world: World) -> None:
    async with world.operator():
        await eventually(lambda: set(NODES) <= world.cluster.objects["peers"].keys())
        await world.supernode.say("a", {}, runtime(mirror=True))
        await world.supernode.say("b", {}, RuntimeState(message="no socket; mount it"))
        await eventually(lambda: "runtime" in world.cluster.objects["peers"]["a"].get("status", {}), within=12)
    found = {
        name: {
            each["type"]: (each["status"], each["reason"])
            for each in world.cluster.objects["peers"][name]["status"]["conditions"]
        }
        for name in NODES
    }
    assert ("True", "Probed") == found["a"]["MirrorConfigured"]
    assert ("Unknown", "RuntimeUnavailable") == found["b"]["MirrorConfigured"]
