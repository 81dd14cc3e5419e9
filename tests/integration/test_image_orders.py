"""A real peer carries out orders with a real helper and a real containerd, as a scripted supernode relays them.

Needs root.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_peer.app import PeerApp
from pantala_peer.images import orders
from pantala_protocol.images import Depth, ImageBlob, NodeOrder, NodeOrders, PullOrder, PullPhase, PullState
from pantala_protocol.sync import PieceWork, SyncRequest
from pantala_runtime.containerd import Containerd as Runtime
from pantala_runtime.errors import PullUnauthorizedError
from tests.support.containerd_node import ContainerdNode, Pushed
from tests.support.containerds import MARKS, ONE, crictl_remove
from tests.support.eventually import eventually
from tests.support.peer_lab import mirror
from tests.support.scripted_images import RegistrySupernode
from tests.support.scripted_supernode import Known

pytestmark = MARKS
once = pytest.mark.parametrize("processes", ONE, ids=["one"], indirect=True)
"""What does not hang on the version."""

KEY = "ns/web"


@contextlib.asynccontextmanager
async def ordered(
    node: ContainerdNode, supernode: RegistrySupernode, image: Pushed, folder: Path
) -> AsyncIterator[PeerApp]:
    async with node.mirrored(supernode, image, folder, runtime_socket=node.helper.socket) as peer:
        yield peer


def name(node: ContainerdNode, image: Pushed) -> str:
    registry = node.private if image.authorization else node.registry
    return f"{registry.host}/{image.repository}"


async def order(
    supernode: RegistrySupernode,
    node: ContainerdNode,
    *images: Pushed,
    number: int = 1,
    pin: bool = False,
    **settings: int,
) -> None:
    """Order these, and nothing else."""
    revision = supernode.orders.revision + 1 if supernode.orders else 1
    pulls = tuple(
        NodeOrder(KEY, f"{name(node, image)}:1@{image.digest}", PullOrder("run", number, **settings), pin=pin)
        for image in images
    )
    await supernode.order(NodeOrders(revision, pulls))


async def reach(supernode: RegistrySupernode, phase: PullPhase, number: int = 1) -> PullState:
    def reached() -> PullState | None:
        state = supernode.peers["node-1"].pulls.get(KEY)
        return state if state is not None and (phase, number) == (state.phase, state.number) else None

    return await eventually(reached, within=30)


async def test_it_is_pulled_by_digest_through_the_mirror_and_known_by_its_tag(
    node: ContainerdNode, tmp_path: Path
) -> None:
    image, supernode = node.push(), RegistrySupernode()
    async with ordered(node, supernode, image, tmp_path / "node") as peer:
        await order(supernode, node, image)
        state = await reach(supernode, PullPhase.READY)
        assert sum(len(blob.content) for blob in [image.config, *image.layers]) == state.fetched
        assert {KEY} == set(supernode.asked_by)
        assert {""} == {shown for _, shown in supernode.asked}
        assert {(KEY, "")} == {(w.order, w.credential) for wants in supernode.wanted for w in wants.values()}
        assert 3 == peer.mirror.server.counts.blobs
        listed = await node.helper.get("/v1/images")
        assert [[f"{name(node, image)}:1"]] == [found["tags"] for found in listed]
        assert [] == node.registry.requests()


async def test_a_private_image_comes_by_the_orders_secrets_and_nobody_else_gets_in(
    node: ContainerdNode, tmp_path: Path
) -> None:
    image, supernode = node.push(private=True), RegistrySupernode()
    supernode.challenges = ('Basic realm="private"',)
    image.order = KEY
    supernode.released = 0
    async with (
        ordered(node, supernode, image, tmp_path / "node"),
        Runtime(node.containerd.address) as runtime,
    ):
        await order(supernode, node, image)
        await eventually(lambda: any(supernode.wanted))
        with pytest.raises(PullUnauthorizedError):
            await runtime.pull(f"{name(node, image)}:1", None)
        await supernode.release(None)
        await reach(supernode, PullPhase.READY)
    assert {} == dict(node.private.blob_bytes())


async def test_what_is_there_is_not_pulled_again_and_only_its_name_is_made(
    node: ContainerdNode, tmp_path: Path
) -> None:
    image, supernode = node.push(), RegistrySupernode()
    assert 200 == (await node.helper.pull(f"{name(node, image)}@{image.digest}"))[0]
    async with ordered(node, supernode, image, tmp_path / "node"):
        await order(supernode, node, image)
        state = await reach(supernode, PullPhase.READY)
        assert 0 == state.fetched
        assert [] == supernode.asked
        assert [[f"{name(node, image)}:1"]] == [found["tags"] for found in await node.helper.get("/v1/images")]


async def test_an_order_that_is_withdrawn_cuts_its_pull(node: ContainerdNode, tmp_path: Path) -> None:
    image, supernode = node.push(), RegistrySupernode()
    supernode.released = 0
    async with ordered(node, supernode, image, tmp_path / "node"):
        await order(supernode, node, image)
        await eventually(lambda: supernode.wanted and supernode.wanted[-1])
        await reach(supernode, PullPhase.PULLING)
        await order(supernode, node)
        await eventually(lambda: not supernode.wanted[-1], within=5)
        await eventually(lambda: supernode.peers["node-1"].pulls == {})
        assert [] == await node.helper.get("/v1/images")
        assert [] == node.registry.requests()


async def test_an_image_that_was_removed_is_gone_and_comes_again_by_another_order(
    node: ContainerdNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "_LOOK", 0.2)
    image, supernode = node.push(), RegistrySupernode()
    async with ordered(node, supernode, image, tmp_path / "node"):
        await order(supernode, node, image)
        await reach(supernode, PullPhase.READY)
        for removed in (f"{name(node, image)}:1", f"{name(node, image)}@{image.digest}"):
            await crictl_remove(node.containerd, removed)
        gone = await reach(supernode, PullPhase.GONE)
        assert 1 == len(gone.gone)
        await order(supernode, node, image, number=2)
        again = await reach(supernode, PullPhase.READY, number=2)
        assert gone.gone == again.gone


@once
async def test_a_peer_that_starts_anew_remembers(node: ContainerdNode, tmp_path: Path) -> None:
    image, supernode = node.push(), RegistrySupernode()
    async with ordered(node, supernode, image, tmp_path / "node"):
        await order(supernode, node, image)
        state = await reach(supernode, PullPhase.READY)
        await eventually(lambda: b'"Ready"' in (tmp_path / "node/peer/cache/images.json").read_bytes())
    supernode.peers.clear()
    asked = len(supernode.asked)
    async with (
        supernode.serving() as url,
        mirror(url, tmp_path / "node/peer", runtime_socket=node.helper.socket),
    ):
        assert state == await reach(supernode, PullPhase.READY)
    assert asked == len(supernode.asked)


@once
async def test_without_its_helper_a_node_says_so(node: ContainerdNode, tmp_path: Path) -> None:
    image, supernode = node.push(), RegistrySupernode()
    nowhere = node.helper.socket.with_name("nowhere.sock")
    async with node.mirrored(supernode, image, tmp_path / "node", runtime_socket=nowhere):
        await order(supernode, node, image)
        state = await reach(supernode, PullPhase.FAILED)
        assert "RuntimeUnavailable" == state.reason
        assert "check that pantala-runtime runs" in state.message
        await eventually(lambda: supernode.peers["node-1"].runtime is not None)
        runtime = supernode.peers["node-1"].runtime
        assert runtime is not None
        assert ("", None) == (runtime.name, runtime.mirror)
        assert "check that pantala-runtime runs" in runtime.message


@once
async def test_a_registry_without_the_image_is_told_in_the_helpers_words(node: ContainerdNode, tmp_path: Path) -> None:
    image, supernode = node.push(), RegistrySupernode()
    absent = Pushed(image.layout, "team/none")
    async with ordered(node, supernode, image, tmp_path / "node"):
        await order(supernode, node, absent)
        assert "NotFound" == (await reach(supernode, PullPhase.FAILED)).reason


async def test_the_runtime_is_told_of(node: ContainerdNode, tmp_path: Path) -> None:
    image, supernode = node.push(), RegistrySupernode()
    async with ordered(node, supernode, image, tmp_path / "node"):
        layer, absent = image.layers[0].digest, f"sha256:{'0' * 64}"
        assert 200 == (await node.helper.pull(f"{name(node, image)}@{image.digest}"))[0]
        await supernode.order(NodeOrders(1, (), (layer, absent)))

        def blobs() -> dict[str, bool]:
            runtime = supernode.peers["node-1"].runtime
            return runtime.blobs if runtime else {}

        await eventually(lambda: blobs())
        assert {layer: True, absent: False} == blobs()
        runtime = supernode.peers["node-1"].runtime
        assert runtime is not None
        assert ("containerd", True, "") == (runtime.name, runtime.mirror, runtime.message)
        assert 0 == (runtime.disk_free or 1) % (64 << 20)


async def test_another_pull_of_a_public_image_at_the_same_moment_has_it_from_the_registry(
    node: ContainerdNode, tmp_path: Path
) -> None:
    image, supernode = node.push(), RegistrySupernode()
    supernode.released = 0
    async with (
        ordered(node, supernode, image, tmp_path / "node") as peer,
        Runtime(node.containerd.address) as runtime,
        grant(peer, name(node, image)),
    ):
        await runtime.pull(f"{name(node, image)}@{image.digest}", None)
        assert 0 == peer.mirror.server.counts.blobs
    assert {blob.digest: len(blob.content) for blob in [image.config, *image.layers]} == node.registry.blob_bytes()


@contextlib.asynccontextmanager
async def grant(peer: PeerApp, repository: str) -> AsyncIterator[None]:
    with peer.mirror.grants.open(KEY, repository):
        yield


@once
async def test_at_depth_peer_the_blobs_come_into_the_cache_and_stay(node: ContainerdNode, tmp_path: Path) -> None:
    image, supernode = node.push(), RegistrySupernode()
    blobs = tuple(ImageBlob(blob.digest, len(blob.content)) for blob in [image.config, *image.layers])
    async with ordered(node, supernode, image, tmp_path / "node") as peer:
        pull = NodeOrder(KEY, f"{name(node, image)}:1@{image.digest}", PullOrder("run"), depth=Depth.PEER, blobs=blobs)
        await supernode.order(NodeOrders(1, (pull,)))
        state = await reach(supernode, PullPhase.READY)
        assert sum(blob.size for blob in blobs) == state.fetched == peer.cache.total_bytes()
        await supernode.assign("node-1")  # its lease is over
        await asyncio.sleep(0.5)
        assert state.fetched == peer.cache.total_bytes()
        assert [] == await node.helper.get("/v1/images")
        await supernode.order(NodeOrders(2))
        await eventually(lambda: peer.cache.total_bytes() == 0)


@once
async def test_blobs_that_nobody_wants_make_room_for_those_that_are_wanted(
    node: ContainerdNode, tmp_path: Path
) -> None:
    first, supernode = node.push(), LeasingSupernode()
    size = len(first.layers[0].content)
    async with node.mirrored(
        supernode, first, tmp_path / "node", runtime_socket=node.helper.socket, blob_cache=size + size // 2
    ) as peer:
        await order(supernode, node, first)
        await reach(supernode, PullPhase.READY)
        second = node.push()
        supernode.add(second)
        await order(supernode, node, second, number=2)
        await reach(supernode, PullPhase.READY, number=2)
        await eventually(lambda: peer.cache.total_bytes() <= size + size // 2)
        assert peer.cache.is_whole(second.layers[0].task_id)
        assert not peer.cache.is_whole(first.layers[0].task_id)
        await eventually(lambda: not supernode.peers["node-1"].held.get(first.layers[0].task_id))  # it was told
        before = len(supernode.sent)
        await asyncio.sleep(1)
        assert before == len(supernode.sent)


class LeasingSupernode(RegistrySupernode):
    """Gives of what is wanted alone, though more stays assigned: as the real one does during a lease."""

    def _work(self, known: Known, said: SyncRequest) -> tuple[PieceWork, ...]:
        assigned = self.assigned.get(said.peer, [])
        self.assigned[said.peer] = [pair for pair in assigned if pair[0].task_id in self.wanted[-1]]
        try:
            return super()._work(known, said)
        finally:
            self.assigned[said.peer] = assigned
