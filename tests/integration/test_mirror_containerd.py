"""A real containerd pulls through the mirror of a real peer; what the mirror does not give, it has from the registry.

Needs root.
"""

import asyncio
import base64
import contextlib
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pantala_peer.app import PeerApp
from pantala_peer.containerd import registry as registries
from pantala_peer.containerd.configuration import configure
from pantala_peer.mirror.deadlines import Deadlines
from pantala_protocol.runtime import PullCredentials
from pantala_runtime.containerd import Containerd as Runtime
from pantala_runtime.errors import PullUnauthorizedError
from testbed.containerd import Containerd
from testbed.image import Image as Layout
from testbed.image import Layer, build, push
from testbed.registry import Registry
from tests.integration.test_runtime import Helper
from tests.support.containerds import EACH, MARKS
from tests.support.peer_lab import mirror
from tests.support.scripted_images import BlobFile, Image, RegistrySupernode
from tests.support.scripted_supernode import PIECE

pytestmark = MARKS

ANN = {"ann": "s3cr3t-of-ann"}
SHOWN = "Basic " + base64.b64encode(b"ann:s3cr3t-of-ann").decode()
TOKEN = "t0ken"
HURRIED = Deadlines(manifest=0.5, small=0.5, blob=1.0, again=0.5, stall=1.0)


class Pushed(Image):
    """An image of a layout, as the supernode has it."""

    def __init__(self, layout: Layout, repository: str, authorization: str = "") -> None:
        self.layout = layout
        said = json.loads(layout.read(layout.digest))
        config, *layers = (BlobFile("blob", layout.read(d["digest"])) for d in [said["config"], *said["layers"]])
        super().__init__(layers, config, repository, authorization)

    @property
    def manifest(self) -> bytes:
        return self.layout.read(self.layout.digest)


@dataclass
class Node:
    containerd: Containerd
    helper: Helper
    registry: Registry
    private: Registry
    folder: Path
    made: int = 0

    def push(self, *, private: bool = False) -> Pushed:
        """A new image that only its registry has."""
        self.made += 1
        layers = [Layer(3_000_000, seed=10 * self.made), Layer(1000, seed=10 * self.made + 1)]
        layout = build(self.folder / str(self.made), layers)
        registry, account = (self.private, next(iter(ANN.items()))) if private else (self.registry, None)
        push(layout, registry.host, f"team/{self.made}", "1", account=account)
        registry.forget()
        return Pushed(layout, f"team/{self.made}", SHOWN if private else "")

    @contextlib.asynccontextmanager
    async def mirrored(
        self, supernode: RegistrySupernode, image: Pushed, root: Path, **changes: Any
    ) -> AsyncIterator[PeerApp]:
        """A peer whose mirror this containerd asks, by files as ``pantala-peer configure`` writes them."""
        supernode.add(image)
        registry = self.private if image.authorization else self.registry
        supernode.registry = registry.host
        root.mkdir()
        (root / "token").write_text(TOKEN)
        changes = {"mirror_token_file": root / "token", **changes}
        async with supernode.serving(), mirror(supernode.url, root / "peer", **changes) as peer:
            url = f"http://127.0.0.1:{peer.mirror.port}"
            state = root / "state"
            configure(
                [self.containerd.certs_d], state, [registries.parse_registry(f"http://{registry.host}")], url, TOKEN
            )
            yield peer

    async def pull(self, image: Pushed, reference: str, **body: Any) -> float:
        """Pull, and tell the seconds."""
        registry = self.private if image.authorization else self.registry
        loop = asyncio.get_running_loop()
        begun = loop.time()
        separator = "@" if ":" in reference else ":"
        status, pulled = await self.helper.pull(f"{registry.host}/{image.repository}{separator}{reference}", **body)
        assert (200, image.digest) == (status, pulled["digest"] if status == 200 else pulled)
        await asyncio.sleep(0.2)  # the registry logs at the end
        return loop.time() - begun

    def clear(self) -> None:
        """Leave nothing of an earlier test."""
        for registry in (self.registry, self.private):
            registry.stop()
            registry.start()
            registry.forget()
        shutil.rmtree(self.containerd.certs_d)
        self.containerd.certs_d.mkdir()
        asyncio.run(self._remove_all())

    async def _remove_all(self) -> None:
        async with Runtime(self.containerd.address) as runtime:
            for image in await runtime.images():
                await crictl_remove(self.containerd, image.id)
            assert [] == await runtime.images()


async def crictl_remove(containerd: Containerd, removed: str) -> None:
    """As the kubelet removes it: by the runtime interface, which the helper has no word for."""
    import grpc.aio

    async with grpc.aio.insecure_channel(containerd.address) as channel:
        call: Any = channel.unary_unary("/runtime.v1.ImageService/RemoveImage")
        spec = bytes([0x0A, len(removed)]) + removed.encode()
        await call(bytes([0x0A, len(spec)]) + spec, timeout=10)


@pytest.fixture(scope="module", params=EACH)
def processes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    with (
        Registry(folder / "open") as registry,
        Registry(folder / "private", accounts=ANN) as private,
        Containerd(folder / "containerd", request.param) as containerd,
        Helper(folder, containerd) as helper,
    ):
        asyncio.run(helper.ready())
        yield Node(containerd, helper, registry, private, folder)


@pytest.fixture
def node(processes: Node) -> Node:
    """Its processes are those of all tests, and nothing is left on it."""
    processes.clear()
    return processes


async def test_a_tag_is_asked_of_the_registry_and_everything_else_comes_from_the_mirror(
    node: Node, tmp_path: Path
) -> None:
    image, supernode = node.push(), RegistrySupernode()
    async with node.mirrored(supernode, image, tmp_path / "node") as peer:
        await node.pull(image, "1")
        counts = peer.mirror.server.counts
        assert (3, 0, 0) == (counts.blobs, counts.misses, counts.broken)
        assert [("HEAD", f"/v2/{image.repository}/manifests/1")] == [
            (access.method, access.path) for access in node.registry.requests()
        ]
    assert {} == dict(node.registry.blob_bytes())


async def test_with_its_registry_away_an_image_is_pulled_by_digest(node: Node, tmp_path: Path) -> None:
    image, supernode = node.push(), RegistrySupernode()
    node.registry.stop()
    async with node.mirrored(supernode, image, tmp_path / "node"):
        await node.pull(image, image.digest)


async def test_a_body_that_breaks_off_is_ended_by_the_registry(node: Node, tmp_path: Path) -> None:
    image, supernode = node.push(), RegistrySupernode()
    supernode.released = 0b111
    layer = image.layers[0]
    async with node.mirrored(supernode, image, tmp_path / "node", mirror_deadlines=HURRIED) as peer:
        seconds = await node.pull(image, "1")
        assert 1 == peer.mirror.server.counts.broken
    assert {layer.digest: len(layer.content) - 3 * PIECE} == dict(node.registry.blob_bytes())
    assert seconds < HURRIED.stall + 3


async def test_a_supernode_that_hangs_costs_one_deadline(node: Node, tmp_path: Path) -> None:
    image, supernode = node.push(), RegistrySupernode()
    supernode.manifest_delay = 60
    async with node.mirrored(supernode, image, tmp_path / "node", mirror_deadlines=HURRIED) as peer:
        seconds = await node.pull(image, "1")
        assert (1, 0) == (peer.mirror.server.counts.late, peer.mirror.server.counts.blobs)
    assert {blob.digest: len(blob.content) for blob in [image.config, *image.layers]} == node.registry.blob_bytes()
    assert seconds < HURRIED.manifest + 3


async def test_a_peer_that_is_away_costs_nothing(node: Node, tmp_path: Path) -> None:
    image, supernode = node.push(), RegistrySupernode()
    async with node.mirrored(supernode, image, tmp_path / "node"):
        pass
    await node.pull(image, "1")


async def test_a_private_image_is_pulled_by_who_has_the_password_and_by_nobody_else(node: Node, tmp_path: Path) -> None:
    """With a pull secret, as kubelet hands it over: for whatever server asks."""
    image, supernode = node.push(private=True), RegistrySupernode()
    supernode.challenges = ('Basic realm="private"',)
    name = f"{node.private.host}/{image.repository}@{image.digest}"
    async with (
        node.mirrored(supernode, image, tmp_path / "node") as peer,
        Runtime(node.containerd.address) as runtime,
    ):
        with pytest.raises(PullUnauthorizedError):
            await runtime.pull(name, None)
        assert 0 == peer.mirror.server.counts.blobs
        await runtime.pull(name, PullCredentials("ann", ANN["ann"], server=""))
        assert 3 == peer.mirror.server.counts.blobs
    assert {} == dict(node.private.blob_bytes())
    assert {SHOWN} == {wanted.credential for wants in supernode.wanted for wanted in wants.values()}


async def test_a_password_for_the_registry_alone_is_not_shown_to_the_mirror(node: Node, tmp_path: Path) -> None:
    image, supernode = node.push(private=True), RegistrySupernode()
    supernode.challenges = ('Basic realm="private"',)
    async with node.mirrored(supernode, image, tmp_path / "node") as peer:
        auth = {"username": "ann", "password": ANN["ann"], "server": node.private.url}
        await node.pull(image, image.digest, auth=auth)
        assert {""} == {shown for _, shown in supernode.asked}
        assert 0 == peer.mirror.server.counts.blobs


async def test_the_probe_tells_that_containerd_reads_the_folder(node: Node, tmp_path: Path) -> None:
    image, supernode = node.push(), RegistrySupernode()
    async with node.mirrored(supernode, image, tmp_path / "node") as peer:
        await node.helper.post("/v1/probe", node="node-1", port=peer.mirror.port)
        probe = peer.mirror.server.probe
        assert probe is not None
        assert ("node-1", True) == (probe.node, probe.in_force)
