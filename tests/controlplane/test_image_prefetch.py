"""ImagePrefetches: the operator as a process, with a real API server and a fake supernode."""

import asyncio
import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from pantala_protocol.images import ImageBlob, PullPhase, PullState, WantedImage
from pantala_protocol.registry import Resolved
from tests.controlplane.conftest import ROOT
from tests.support.eventually import eventually
from tests.support.operator_process import NODES, Kubectl, OperatorProcess, ProcessStage, ServedSupernode

pytestmark = [pytest.mark.controlplane, pytest.mark.timeout(180)]

A, LAYER = ("sha256:" + letter * 64 for letter in "a1")
IMAGE = "registry.example/web:1"


class PrefetchStage(ProcessStage):
    async def apply(self, **spec: Any) -> None:
        await self.kubectl.create("ImagePrefetch", "web", {"images": [{"image": IMAGE}], **spec})

    async def ordered(self, count: int = len(NODES)) -> WantedImage:
        """The image as it is stated, once ``count`` nodes have orders."""

        def found() -> list[WantedImage]:
            return [each for each in self.supernode.images.values() if A in each.image]

        await eventually(lambda: [count] == [len(each.orders) for each in found()])
        return found()[0]

    async def answer(self, image: WantedImage, *names: str, phase: PullPhase = PullPhase.READY, **more: Any) -> None:
        """Nodes answer their orders."""
        for name in names or image.orders:
            order = image.orders[name]
            since = int(datetime.now(UTC).timestamp())
            await self.supernode.say(
                name, {image.key: PullState(phase, since, order.run, order.number, fetched=100, **more)}
            )

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.kubectl.get("imageprefetch", "web")).get("status", {})
        return found

    async def wait(self, condition: str) -> None:
        await self.kubectl.wait(f"condition={condition}", "imageprefetch/web")

    async def says(self, kind: str, reason: str) -> str:
        """The message of a condition, once it has that reason."""

        async def message() -> str | None:
            conditions = (await self.status()).get("conditions", ())
            return next((c["message"] for c in conditions if (c["type"], c["reason"]) == (kind, reason)), None)

        return await eventually(message, what=f"{kind} has the reason {reason}")

    async def is_free(self, name: str) -> bool:
        """True if the node has no startup taint any more, and its condition says that it has all images."""
        node = await self.kubectl.get("node", name)
        ready = [each["status"] for each in node["status"]["conditions"] if each["type"] == "pantala.dev/ImagesReady"]
        return ["keep"] == [each["key"] for each in node["spec"]["taints"]] and ["True"] == ready

    async def labels_wanted(self) -> bool:
        """True if a condition asks for the label of a Secret."""
        return "pantala.dev/allow=images" in json.dumps(await self.status())


@pytest.fixture
def stage(kubectl: Kubectl, supernode: ServedSupernode, operator: OperatorProcess) -> PrefetchStage:
    supernode.registry[IMAGE] = Resolved(A, {"linux/amd64": (ImageBlob(LAYER, 100),)})
    return PrefetchStage(kubectl, supernode, operator)


async def test_from_apply_to_ready_and_away(stage: PrefetchStage) -> None:
    """The registry answers, a Task appears, nodes get orders. Ready removes the taint. A deletion leaves no order."""
    for name in NODES:
        await stage.kubectl("taint", "node", name, "prefetch=now:NoSchedule", "keep=yes:PreferNoSchedule")
    await stage.apply(startupTaint={"key": "prefetch", "deadlineSeconds": 3600}, completionPolicy="Continuous")
    image = await stage.ordered()
    assert f"registry.example/web:1@{A}" == image.image
    assert [(IMAGE, ("linux/amd64",))] == [(each.image, each.platforms) for each in stage.supernode.questions]
    namespace, _, child = image.key.partition("/")
    task = await stage.kubectl.get("task", child)
    assert ("default", "ImagePrefetch", "web") == (
        namespace, task["metadata"]["ownerReferences"][0]["kind"], task["metadata"]["ownerReferences"][0]["name"]
    )  # fmt: skip
    await stage.answer(image, "node-a")
    await stage.answer(image, "node-b", phase=PullPhase.FAILED, reason="NoSpace", message="the disk is full")
    assert "node-b" in await stage.says("Ready", "NoSpace")
    await stage.answer(image)
    await stage.wait("Ready")
    await stage.kubectl.wait("condition=Ready", f"task/{child}")
    status = await stage.status()
    assert ("3/3", A, 300) == (status["summary"], status["images"][0]["digest"], status["bytes"]["fetched"])
    task = (await stage.kubectl.get("task", child))["status"]
    assert ("3/3", A, 100) == (task["summary"], task["digest"], task["contentLength"])
    for name in NODES:  # two writes to one Node may conflict, and the second one is then repeated
        await eventually(lambda name=name: stage.is_free(name), every=0.2)  # type: ignore[misc]
    events = await stage.kubectl("get", "events", "--field-selector=involvedObject.kind=ImagePrefetch", "-o", "json")
    assert "Prefetched" in {each["reason"] for each in json.loads(events)["items"]}
    await stage.kubectl("delete", "imageprefetch", "web", "--wait=false")
    await eventually(lambda: not stage.supernode.images)


async def test_one_disk_full_one_image_missing_one_node_down(stage: PrefetchStage) -> None:
    """The other nodes finish, and the status names each cause. Suspending ends the pulls."""
    missing = "registry.example/missing:1"
    await stage.apply(images=[{"image": missing}, {"image": IMAGE}], completionPolicy="Continuous")
    image = await stage.ordered()
    await stage.supernode.connect("node-c", connected=False)
    await stage.answer(image, "node-a")
    await stage.answer(image, "node-b", phase=PullPhase.FAILED, reason="NoSpace", message="the disk is full")
    assert "node-b" in await stage.says("Ready", "NoSpace")
    status = await stage.status()
    assert {("", missing, "NotFound"), ("node-b", IMAGE, "NoSpace"), ("node-c", "", "NodeUnavailable")} == {
        (each.get("node", ""), each.get("image", ""), each["reason"]) for each in status["failures"]
    }
    assert all(each["message"].count(". ") for each in status["failures"]), "each says what to do"
    assert ({"desired": 2, "ready": 0, "failed": 1, "active": 0, "waiting": 1, "unavailable": 1, "late": 0}, "0/2") == (
        status["nodes"], status["summary"]
    )  # fmt: skip
    assert [0, 1] == [each["ready"] for each in status["images"]]
    shown = await stage.kubectl("get", "imageprefetch", "web", "-o", "wide", "--no-headers")
    assert ["web", "False", "NoSpace", "0/2"] == shown.split()[:4]

    await stage.answer(image, "node-b", phase=PullPhase.PULLING)
    await stage.supernode.restart()
    await stage.apply(images=[{"image": missing}, {"image": IMAGE}], completionPolicy="Continuous", suspend=True)
    await stage.says("Ready", "Suspended")
    assert ["node-a"] == list((await stage.ordered(1)).orders), "no node has come back to the supernode"


async def test_a_missing_secret_and_its_creation(stage: PrefetchStage) -> None:
    stage.supernode.registry[IMAGE] = Resolved(reason="Unauthorized", message="It wants credentials")
    await stage.apply(pullSecrets=["registry"])
    assert "The Secret registry is missing" in await stage.says("Resolved", "Unauthorized")
    await stage.kubectl(
        "create", "secret", "docker-registry", "registry",
        "--docker-server=registry.example", "--docker-username=ann", "--docker-password=hidden-word",
    )  # fmt: skip
    await eventually(stage.labels_wanted, what="the condition asks for the label")
    stage.supernode.registry[IMAGE] = Resolved(A, {"linux/amd64": (ImageBlob(LAYER, 100),)})
    await stage.kubectl("label", "secret", "registry", "pantala.dev/allow=images")
    image = await stage.ordered()
    login = json.loads(image.credentials[0])["auths"]["registry.example"]
    assert b"ann:hidden-word" == base64.b64decode(login["auth"])
    await stage.answer(image)
    await stage.wait("Ready")
    everything = json.dumps(await stage.kubectl.get("imageprefetches,tasks,events"))
    assert "hidden-word" not in everything + stage.operator.log
    await stage.kubectl("delete", "secret", "registry")


async def test_files_are_distributed_without_the_crd_of_imageprefetches(stage: PrefetchStage) -> None:
    """The CRD is deleted while the operator runs. The log reports it once."""
    await stage.apply()
    await stage.ordered()
    crd = (ROOT / "crds" / "pantala.dev_imageprefetches.yaml").read_text()
    await stage.kubectl("delete", "crd", "imageprefetches.pantala.dev")
    try:
        await eventually(lambda: not stage.supernode.images)
        await asyncio.to_thread(stage.operator.stop)
        stage.operator.start()
        await stage.kubectl.task("file")
        await eventually(lambda: "default/file" in stage.supernode.wanted)
        assert 1 == stage.operator.log.count("The CRD imageprefetches.pantala.dev is not installed")
    finally:
        await stage.kubectl("apply", "--server-side", "-f", "-", text=crd)
