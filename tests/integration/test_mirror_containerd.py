"""A real containerd pulls through the mirror of a real peer and the supernode, and reads the rest from the registry."""

from pathlib import Path

import pytest

from pantala_peer.mirror.deadlines import Deadlines
from pantala_protocol.runtime import PullCredentials
from pantala_runtime.containerd import Containerd as Runtime
from pantala_runtime.errors import PullUnauthorizedError
from tests.support.containerd_node import ContainerdNode
from tests.support.containerds import MARKS
from tests.support.registry_images import ANN, SHOWN
from tests.support.scripted_files import PIECE
from tests.support.scripted_images import RegistrySupernode

pytestmark = MARKS

HURRIED = Deadlines(manifest=0.5, small=0.5, blob=1.0, again=0.5, stall=1.0)


async def test_only_the_tag_is_requested_from_the_registry(node: ContainerdNode, tmp_path: Path) -> None:
    image, supernode = node.push(), RegistrySupernode()
    async with node.mirrored(supernode, image, tmp_path / "node") as peer:
        await node.pull(image, "1")
        counts = peer.mirror.server.counts
        assert (3, 0, 0) == (counts.blobs, counts.misses, counts.broken)
        assert [("HEAD", f"/v2/{image.repository}/manifests/1")] == [
            (access.method, access.path) for access in node.registry.requests()
        ]
    assert {} == dict(node.registry.blob_bytes())


async def test_an_image_is_pulled_by_digest_without_its_registry(node: ContainerdNode, tmp_path: Path) -> None:
    image, supernode = node.push(), RegistrySupernode()
    node.registry.stop()
    async with node.mirrored(supernode, image, tmp_path / "node"):
        await node.pull(image, image.digest)


async def test_the_registry_completes_a_body_that_ends_early(node: ContainerdNode, tmp_path: Path) -> None:
    image, supernode = node.push(), RegistrySupernode()
    supernode.released = 0b111
    layer = image.layers[0]
    async with node.mirrored(supernode, image, tmp_path / "node", mirror_deadlines=HURRIED) as peer:
        seconds = await node.pull(image, "1")
        assert 1 == peer.mirror.server.counts.broken
    assert {layer.digest: len(layer.content) - 3 * PIECE} == dict(node.registry.blob_bytes())
    assert seconds < HURRIED.stall + 3


async def test_a_supernode_that_hangs_costs_one_deadline(node: ContainerdNode, tmp_path: Path) -> None:
    image, supernode = node.push(), RegistrySupernode()
    supernode.manifest_delay = 60
    async with node.mirrored(supernode, image, tmp_path / "node", mirror_deadlines=HURRIED) as peer:
        seconds = await node.pull(image, "1")
        assert (1, 0) == (peer.mirror.server.counts.late, peer.mirror.server.counts.blobs)
    assert {blob.digest: len(blob.content) for blob in image.blobs} == node.registry.blob_bytes()
    assert seconds < HURRIED.manifest + 3


async def test_a_private_image_is_pulled_only_with_its_password(node: ContainerdNode, tmp_path: Path) -> None:
    """The pull secret is for any server, as the kubelet gives it."""
    image, supernode = node.push(private=True), RegistrySupernode()
    supernode.challenges = ('Basic realm="private"',)
    name = f"{node.private.host}/{image.repository}@{image.digest}"
    async with node.mirrored(supernode, image, tmp_path / "node") as peer, Runtime(node.containerd.address) as runtime:
        with pytest.raises(PullUnauthorizedError):
            await runtime.pull(name, None)
        assert 0 == peer.mirror.server.counts.blobs
        await runtime.pull(name, PullCredentials("ann", ANN[1], server=""))
        assert 3 == peer.mirror.server.counts.blobs
    assert {} == dict(node.private.blob_bytes())
    assert {SHOWN} == {wanted.credential for wants in supernode.wanted for wanted in wants.values()}


async def test_the_mirror_does_not_get_the_registrys_password(node: ContainerdNode, tmp_path: Path) -> None:
    image, supernode = node.push(private=True), RegistrySupernode()
    supernode.challenges = ('Basic realm="private"',)
    async with node.mirrored(supernode, image, tmp_path / "node") as peer:
        auth = {"username": "ann", "password": ANN[1], "server": node.private.url}
        await node.pull(image, image.digest, auth=auth)
        assert {""} == {shown for _, shown in supernode.asked}
        assert 0 == peer.mirror.server.counts.blobs
