"""An operator whose supernode knows registries, and whose nodes pull images."""

import asyncio
from typing import Any

from pantala_operator.resources import conditions
from pantala_protocol.images import ImageBlob, PullPhase, PullState, RuntimeState, WantedImage
from pantala_protocol.registry import Resolved
from tests.support.eventually import eventually
from tests.support.operator_stage import OperatorStage

NODES = ("a", "b")
A, B, LAYER = ("sha256:" + letter * 64 for letter in "ab1")
IMAGE = "docker.io/library/one:1"
ONE = {"image": "one:1"}


def resolved(digest: str = A, *platforms: str) -> Resolved:
    return Resolved(digest, dict.fromkeys(platforms or ("linux/amd64",), (ImageBlob(LAYER, 100),)))


def runtime(**changes: Any) -> RuntimeState:
    return RuntimeState("containerd", "2.0.0", **changes)


class PrefetchStage(OperatorStage):
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
