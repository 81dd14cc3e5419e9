"""Images, pods of them and ImagePrefetches in the cases."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.binaries import assets
from testbed.cluster import Cluster, runtime
from testbed.cluster.registry_host import RegistryHost
from testbed.debian import large
from testbed.image import Image, Layer, build, push
from tests.e2e.kubectl import Kubectl, Resource


@dataclass(frozen=True)
class Pushed:
    """An image in a registry."""

    name: str
    """By tag, as pods ask for it."""
    image: Image

    @property
    def digest(self) -> str:
        """What the tag named when it was pushed."""
        return self.image.digest


class Images:
    """Images of one case: those of random bytes are new in each run."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._seed = random.SystemRandom().getrandbits(48)
        self._digests: set[str] = set()

    def fresh(
        self, host: RegistryHost, name: str, size: int, *, tag: str = "1", account: tuple[str, str] | None = None
    ) -> Pushed:
        """A runnable image of random bytes, never seen before."""
        image = self._make(size)
        return self._push(host, f"e2e/{name}-{self._seed}", tag, image, account)

    def move(self, host: RegistryHost, pushed: Pushed, size: int) -> Pushed:
        """Let the tag name another new image."""
        image = self._make(size)
        repository, _, tag = pushed.name.removeprefix(f"{host.host}/").rpartition(":")
        return self._push(host, repository, tag, image, None)

    def large(self, host: RegistryHost, name: str) -> Pushed:
        """One of :data:`testbed.debian.PACKAGES`, which the nodes have not got."""
        pushed = self._push(host, f"debian/{name}", "12", large(name), None)
        self.forget()
        return pushed

    def forget(self) -> None:
        """Take them from the nodes."""
        runtime.forget(self._cluster, self._digests)

    def _make(self, size: int) -> Image:
        """In one layer, so that no two images share any."""
        self._seed += 1
        layer = Layer(size, seed=self._seed, files={"pause": assets(["pause"])["pause"]})
        return build(self._folder / str(self._seed), [layer], entrypoint=["/pause"])

    def _push(
        self, host: RegistryHost, repository: str, tag: str, image: Image, account: tuple[str, str] | None
    ) -> Pushed:
        self._digests.add(push(image, host.host, repository, tag, account=account))
        return Pushed(f"{host.host}/{repository}:{tag}", image)


def assert_on_nodes(cluster: Cluster, nodes: Sequence[str], *images: Pushed) -> None:
    """The runtime of each of these nodes has each image, by its tag, with the right digest."""
    expected = {image.name: image.digest for image in images}
    for node in nodes:
        there = runtime.images(cluster, node)
        assert expected == {name: there.get(name) for name in expected}, f"of {node}"


def assert_sent_once(host: RegistryHost, *images: Pushed) -> None:
    """The registry sent each layer and configuration once, and next to nothing more."""
    expected = {digest: size for image in images for digest, size in image.image.blobs.items()}
    sent = host.registry.blob_bytes()
    # Beside that it is asked for some bytes of a blob that is known from elsewhere, to see that it has it, too.
    assert dict.fromkeys(expected, 1) == {digest: round(sent[digest] / expected[digest]) for digest in expected}
    assert sum(sent.values()) <= 1.01 * sum(expected.values())


def prefetch(name: str, namespace: str, images: Sequence[str], **spec: Any) -> Resource:
    """An ImagePrefetch."""
    return {
        "apiVersion": "pantala.dev/v1alpha1",
        "kind": "ImagePrefetch",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"images": [{"image": image} for image in images], **spec},
    }


def pod(name: str, namespace: str, image: str, node: str) -> Resource:
    """A pod of the image on that node, which the kubelet pulls if it is not there. Taints keep it off."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": image, "imagePullPolicy": "IfNotPresent"}],
        },
    }


def status(kubectl: Kubectl, name: str, namespace: str) -> Resource:
    """An ImagePrefetch's status; empty before the operator has seen it."""
    found: Resource = kubectl.get("imageprefetches.pantala.dev", name, namespace).get("status", {})
    return found
