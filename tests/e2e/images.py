"""The registries of the cases, their images, and checks of both."""

import random
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from testbed.binaries import assets
from testbed.cluster import Cluster, runtime
from testbed.cluster.registry_host import RegistryHost
from testbed.debian import large
from testbed.image import Image, Layer, build, push

USER = "ann"


class Registries:
    """A public and a private registry. Another registry has Pantala's own images."""

    def __init__(self) -> None:
        # No encoding changes these characters, so a case can search for the password.
        self.password = secrets.token_hex(16)
        self.site = RegistryHost("site")
        self.private = RegistryHost("private", {USER: self.password})
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for host in (self.site, self.private):
                stack.enter_context(host)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def reset(self) -> None:
        for host in (self.site, self.private):
            host.registry.stop()
            host.registry.start()
            host.shape("")
            host.registry.forget()


@dataclass(frozen=True)
class Pushed:
    """An image in a registry. ``name`` has the tag, as pods use it."""

    name: str
    image: Image

    @property
    def digest(self) -> str:
        return self.image.digest

    @property
    def size(self) -> int:
        return sum(self.image.blobs.values())


class Images:
    """The images of one case. Random bytes make them new in each run."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._seed = random.SystemRandom().getrandbits(48)
        self._digests: set[str] = set()

    def fresh(self, host: RegistryHost, name: str, size: int, *, account: tuple[str, str] | None = None) -> Pushed:
        image = self._make(size)
        return self._push(host, f"e2e/{name}-{self._seed}", "1", image, account)

    def move(self, host: RegistryHost, pushed: Pushed, size: int) -> Pushed:
        repository, _, tag = pushed.name.removeprefix(f"{host.host}/").rpartition(":")
        return self._push(host, repository, tag, self._make(size))

    def large(self, host: RegistryHost, name: str) -> Pushed:
        """Push one of :data:`testbed.debian.PACKAGES`, and remove it from the nodes."""
        pushed = self._push(host, f"debian/{name}", "12", large(name))
        self.forget()
        return pushed

    def forget(self) -> None:
        runtime.forget(self._cluster, self._digests)

    def _make(self, size: int) -> Image:
        """An image of one layer, so that no two images share a layer."""
        self._seed += 1
        layer = Layer(size, seed=self._seed, files={"pause": assets(["pause"])["pause"]})
        return build(self._folder / str(self._seed), [layer], entrypoint=["/pause"])

    def _push(
        self, host: RegistryHost, repository: str, tag: str, image: Image, account: tuple[str, str] | None = None
    ) -> Pushed:
        self._digests.add(push(image, host.address, repository, tag, account=account))
        return Pushed(f"{host.host}/{repository}:{tag}", image)


def assert_on_nodes(cluster: Cluster, nodes: Sequence[str], *images: Pushed) -> None:
    expected = {image.name: image.digest for image in images}
    for node in nodes:
        found = runtime.images(cluster, node)
        assert expected == {name: found.get(name) for name in expected}, f"of {node}"


def assert_sent_once(host: RegistryHost, *images: Pushed) -> None:
    """The registry sent each layer and configuration once."""
    expected = {digest: size for image in images for digest, size in image.image.blobs.items()}
    sent = host.registry.blob_bytes()
    # A few more bytes are allowed: they prove that a registry also has a blob that another registry gave.
    assert dict.fromkeys(expected, 1) == {digest: round(sent[digest] / expected[digest]) for digest in expected}
    assert sum(sent.values()) <= 1.01 * sum(expected.values())
