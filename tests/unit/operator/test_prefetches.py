"""ImagePrefetches, from the API server to the nodes and back, with all of the operator between them."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from copy import deepcopy
from functools import partial
from typing import Any
from unittest.mock import AsyncMock

import pytest

from pantala_operator.errors import ClusterUnavailableError, SupernodeUnavailableError
from pantala_operator.ports import R
from pantala_operator.resources import conditions
from pantala_operator.supernodes import statement_room
from pantala_peer.images.ledger import Ledger
from pantala_protocol import task_id
from pantala_protocol.images import Depth, ImageBlob, PullPhase, PullState, RuntimeState, WantedImage
from pantala_protocol.registry import Resolve, Resolved
from pantala_supernode.images.orders import StatedImages
from tests.support.eventually import eventually
from tests.support.operator_stage import OperatorStage

ALLOWED = {"pantala.dev/allow": "tasks"}

pytestmark = pytest.mark.virtual_time

NODES = ("a", "b")
A, B, LAYER = ("sha256:" + letter * 64 for letter in "ab1")
IMAGE = "docker.io/library/one:1"
ONE = {"image": "one:1"}


def resolved(digest: str = A, *platforms: str) -> Resolved:
    return Resolved(digest, dict.fromkeys(platforms or ("linux/amd64",), (ImageBlob(LAYER, 100),)))


def runtime(**changes: Any) -> RuntimeState:
    return RuntimeState("containerd", "2.0.0", **changes)


class World(OperatorStage):
    """One supernode. The operator's own namespace is ``home``."""

    before = 0

    def prefetch(self, name: str = "p", namespace: str = "ns", **spec: Any) -> None:
        if "source" in spec:
            spec["from"] = spec.pop("source")
        else:
            spec.setdefault("images", [ONE])
        metadata = {"name": name, "namespace": namespace}
        self.cluster.put("imageprefetches", {"metadata": metadata, "spec": spec})

    def request(self, value: str) -> None:
        body = self.cluster.objects["imageprefetches"]["ns/p"]
        body["metadata"].setdefault("annotations", {})["pantala.dev/requested-at"] = value
        self.cluster.put("imageprefetches", body)

    def outcome(self, kind: str = "Ready", key: str = "ns/p") -> tuple[str, str]:
        found = conditions.find(self.cluster.prefetch(key).status.conditions, kind)
        return (found.status, found.reason) if found is not None else ("", "")

    def message(self, kind: str) -> str:
        found = conditions.find(self.cluster.prefetch("ns/p").status.conditions, kind)
        return found.message if found is not None else ""

    @property
    def children(self) -> list[str]:
        return sorted(
            key for key, body in self.cluster.objects["tasks"].items() if "ownerReferences" in body["metadata"]
        )

    def of(self, key: str) -> list[WantedImage]:
        """The stated images of one ImagePrefetch."""
        return [each for name, each in self.supernode.images.items() if name.startswith(f"{key}-")]

    def nodes_of(self, key: str) -> set[str]:
        """The nodes with orders of one ImagePrefetch."""
        return {name for each in self.of(key) for name in each.orders}

    async def ordered(self, count: int = 1, seconds: float = 8) -> WantedImage:
        """The only stated image, once ``count`` nodes have orders."""

        def met() -> bool:
            return [count] == [len(image.orders) for image in self.supernode.images.values()]

        await eventually(met, within=seconds)
        return next(iter(self.supernode.images.values()))

    async def report(self, image: WantedImage, *names: str, phase: PullPhase = PullPhase.READY) -> None:
        """Nodes, or all with orders, report the pull of an image."""
        for name in names or image.orders:
            order = image.orders[name]
            state = PullState(phase, int(self.clock.now().timestamp()), order.run, order.number)
            await self.supernode.say(name, {image.key: state})

    async def halfway(self, key: str = "ns/p") -> WantedImage:
        """Node a has the image of that ImagePrefetch, b pulls it."""
        await eventually(lambda: [2] == [len(each.orders) for each in self.of(key)])
        (image,) = self.of(key)
        await self.report(image, "a")
        await self.report(image, "b", phase=PullPhase.PULLING)
        await eventually(lambda: self.cluster.prefetch(key).status.summary == "1/2")
        return image

    def note(self) -> None:
        """From now on, ``later`` are the new statements."""
        self.before = len(self.supernode.statements)

    @property
    def later(self) -> list[tuple[WantedImage, ...]]:
        return [each.images for each in self.supernode.statements[self.before :]]

    async def stated(self, settle: float = 0.0) -> None:
        """Wait for a new statement, and for those that may follow it."""
        await eventually(lambda: self.later)
        await asyncio.sleep(settle)


@pytest.fixture
async def stopped() -> World:
    made = World(progress_interval=0.2, namespace="home")
    await made.connect(*NODES)
    made.supernode.registry[IMAGE] = resolved()
    return made


@pytest.fixture
async def world(stopped: World) -> AsyncIterator[World]:
    """An operator runs."""
    async with stopped.operator():
        yield stopped


def late(world: World) -> None:
    """A node whose peer has not reconnected."""
    world.cluster.put("peers", {"metadata": {"name": "late"}, "spec": {}})
    world.node("late")


async def test_from_image_prefetch_to_ready(world: World) -> None:
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


async def test_suspending_ends_pulls_before_nodes_reconnect_to_a_restarted_supernode(world: World) -> None:
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


async def test_suspending_while_the_operator_is_down_ends_pulls_before_a_node_reconnects(stopped: World) -> None:
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


async def test_a_suspended_image_survives_a_restart_of_everything(stopped: World) -> None:
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


async def test_suspending_one_does_not_cancel_another_before_its_nodes_report(stopped: World) -> None:
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


async def test_a_restart_changes_no_order(stopped: World) -> None:
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


async def test_the_wait_for_a_peer_ends(stopped: World) -> None:
    late(stopped)
    stopped.prefetch()
    async with stopped.operator():
        image = await stopped.ordered(2, 20)
        assert set(NODES) == set(image.orders)
        await stopped.report(image)
        await eventually(lambda: stopped.outcome() == ("True", "Prefetched"))
    (failure,) = stopped.cluster.prefetch("ns/p").status.failures
    assert ("late", "", "NodeUnavailable") == (failure.node, failure.image, failure.reason)


async def test_a_missing_secret_is_reported_and_used_once_it_exists(stopped: World) -> None:
    stopped.supernode.registry[IMAGE] = Resolved(reason="Unauthorized", message="It wants credentials")
    async with stopped.operator():
        stopped.prefetch(pullSecrets=["mine"])
        await eventually(lambda: stopped.outcome("Resolved") == ("False", "Unauthorized"))
        assert "The Secret mine is missing in this namespace. Create it." in stopped.message("Resolved")
        assert "spec.pullSecrets" in stopped.message("Stalled")
        assert not any(each.credentials for each in stopped.supernode.questions)
        auths: dict[str, Any] = {"registry.example": {"auth": base64.b64encode(b"ann:secret").decode()}}
        data = {".dockercfg": base64.b64encode(json.dumps(auths).encode()).decode()}
        stopped.cluster.put(
            "secrets", {"metadata": {"name": "mine", "namespace": "ns", "labels": ALLOWED}, "data": data}
        )
        stopped.supernode.registry[IMAGE] = resolved()
        image = await stopped.ordered(2)
    (asked,), (stated,) = stopped.supernode.questions[-1].credentials, image.credentials
    assert {"auths": auths} == json.loads(asked) == json.loads(stated)
    assert "secret" not in repr(stopped.cluster.prefetch("ns/p").status)


async def test_a_secret_that_is_created_during_a_question_is_used_for_the_next_one(stopped: World) -> None:
    """The answer to the former question would mean a pause of five minutes."""

    async def slow(question: Resolve) -> Resolved:
        if question.credentials:
            return resolved()
        await asyncio.sleep(20)
        return Resolved(reason="Unauthorized", message="It wants credentials")

    stopped.supernode.resolve = slow  # type: ignore[method-assign]
    async with stopped.operator():
        stopped.prefetch(pullSecrets=["mine"])
        await asyncio.sleep(5)
        data = {".dockercfg": base64.b64encode(b'{"registry.example": {}}').decode()}
        stopped.cluster.put(
            "secrets", {"metadata": {"name": "mine", "namespace": "ns", "labels": ALLOWED}, "data": data}
        )
        await stopped.ordered(2, seconds=60)


async def test_t9_a_registry_without_an_answer_delays_no_other_namespace(stopped: World) -> None:
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


async def test_a_new_run_finds_a_moved_tag(world: World) -> None:
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
    world: World, monkeypatch: pytest.MonkeyPatch
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


async def test_h5_a_forged_child_has_a_condition_and_no_node_gets_its_image(world: World) -> None:
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


async def test_mode_plan_asks_nodes_for_their_blobs_and_orders_nothing(world: World) -> None:
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


async def test_a_question_is_repeated_while_the_supernode_cannot_ask(stopped: World) -> None:
    stopped.supernode.registry[IMAGE] = SupernodeUnavailableError("it answered 503")
    async with stopped.operator():
        stopped.prefetch()
        await eventually(lambda: stopped.supernode.questions)
        assert ("Unknown", "Pending") == stopped.outcome("Resolved"), "it says nothing about the registry"
        stopped.supernode.registry[IMAGE] = resolved()
        await stopped.ordered(2)


async def test_a_workload_is_followed_and_pods_choose_nodes(stopped: World) -> None:
    template = {"spec": {"containers": [{"image": "one:1"}]}}
    stopped.cluster.put("deployments", {"metadata": {"name": "web", "namespace": "ns"}, "spec": {"template": template}})
    pod = {"metadata": {"name": "x", "namespace": "ns", "labels": {"app": "x"}}, "spec": {"nodeName": "b"}}
    stopped.cluster.put("pods", pod)
    async with stopped.operator():
        target = {"podSelector": {"matchLabels": {"app": "x"}}}
        stopped.prefetch(source={"workloadRef": {"kind": "Deployment", "name": "web"}}, target=target)
        image = await stopped.ordered(1)
    assert (True, {"b"}) == (A in image.image, set(image.orders))


async def test_only_the_operators_own_namespace_follows_others(stopped: World) -> None:
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


async def test_a_task_with_an_image_is_planned_by_itself(stopped: World) -> None:
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


@pytest.mark.parametrize("suspend", [False, True])
async def test_a_restart_changes_no_order_at_depth_peer(stopped: World, suspend: bool) -> None:
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
    stopped: World, answer: Resolved | SupernodeUnavailableError, everything: bool
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


async def test_m1_an_image_without_room_in_the_statement_is_pulled_without_its_secret(
    stopped: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The condition changes nothing that is wanted. With room, the credentials return."""
    monkeypatch.setattr(statement_room, "fit", partial(statement_room.fit, most=20_000))
    for name, size in (("big", 16_000), ("small", 100)):
        auths = {"auths": {"registry.example": {"auth": base64.b64encode(b"x" * size).decode()}}}
        data = {".dockerconfigjson": base64.b64encode(json.dumps(auths).encode()).decode()}
        metadata = {"name": name, "namespace": "ns", "labels": ALLOWED}
        stopped.cluster.put("secrets", {"metadata": metadata, "data": data})
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


async def test_f10_workloads_that_cannot_be_listed_after_a_restart_cost_no_orders(stopped: World) -> None:
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


async def test_a_task_reports_a_missing_image_in_source_resolved(world: World) -> None:
    world.task(source={"image": "missing:1"})
    await world.until("SourceResolved", "False", "NotFound")
    await world.until("Stalled", "True", "NotFound")
    assert () == world.cluster.task("ns/t").status.failures, "they are those of nodes"


async def test_supernodes_do_not_keep_images(world: World) -> None:
    world.task(source=ONE, depth="Supernode")
    await world.until("Stalled", "True", "SourceUnsupported")
    assert [] == world.supernode.questions


async def test_one_is_deleted_after_its_time_to_live(world: World) -> None:
    world.prefetch(ttlSecondsAfterFinished=1)
    await world.report(await world.ordered(2))
    await eventually(lambda: "ns/p" not in world.cluster.objects["imageprefetches"])
    await eventually(lambda: not world.supernode.images)


async def test_each_peer_reports_its_mirror(world: World) -> None:
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
