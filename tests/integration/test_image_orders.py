"""A real peer carries out orders with a real helper and a real containerd, as a scripted supernode relays them.

Needs root.
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from pantala_peer.app import PeerApp
from pantala_protocol.images import (
    Depth,
    ImageBlob,
    NodeOrder,
    NodeOrders,
    PullOrder,
    PullPhase,
    PullState,
    RuntimeState,
)
from pantala_runtime.containerd import Containerd as Runtime
from pantala_runtime.errors import PullUnauthorizedError
from tests.support.containerd_node import ContainerdNode, Pushed
from tests.support.containerds import MARKS, ONE
from tests.support.eventually import eventually
from tests.support.peer_lab import mirror
from tests.support.scripted_images import LeasingSupernode, RegistrySupernode

pytestmark = MARKS
once = pytest.mark.parametrize("processes", ONE, ids=["one"], indirect=True)
"""For tests that do not depend on the version."""

KEY = "ns/web"


class Lab:
    """A node, an image that only its registry has, and a supernode that relays orders."""

    def __init__(self, node: ContainerdNode, folder: Path) -> None:
        self.node, self.helper, self.folder = node, node.helper, folder
        self.image = node.push()
        self.supernode: RegistrySupernode = RegistrySupernode()

    def make_private(self) -> None:
        self.image = self.node.push(private=True)
        self.supernode.challenges = ('Basic realm="private"',)

    def peer(self, **changes: Any) -> AbstractAsyncContextManager[PeerApp]:
        changes = {"runtime_socket": self.helper.socket, **changes}
        return self.node.mirrored(self.supernode, self.image, self.folder / "node", **changes)

    def name(self, image: Pushed | None = None) -> str:
        image = image or self.image
        registry = self.node.private if image.authorization else self.node.registry
        return f"{registry.host}/{image.repository}"

    @property
    def pinned(self) -> str:
        return f"{self.name()}@{self.image.digest}"

    @property
    def tag(self) -> str:
        return f"{self.name()}:1"

    async def order(self, *images: Pushed, number: int = 1) -> None:
        """Order these, and nothing else."""
        revision = self.supernode.orders.revision + 1 if self.supernode.orders else 1
        pulls = (NodeOrder(KEY, f"{self.name(image)}:1@{image.digest}", PullOrder("run", number)) for image in images)
        await self.supernode.order(NodeOrders(revision, tuple(pulls)))

    async def until(self, phase: PullPhase, number: int = 1) -> PullState:
        def reached() -> PullState | None:
            state = self.supernode.peers["node-1"].pulls.get(KEY)
            return state if state is not None and (phase, number) == (state.phase, state.number) else None

        return await eventually(reached, within=30)

    async def pull(self, number: int = 1) -> PullState:
        await self.order(self.image, number=number)
        return await self.until(PullPhase.READY, number)

    async def until_reported(self) -> RuntimeState:
        return await eventually(lambda: self.supernode.peers["node-1"].runtime)

    async def tags(self) -> list[list[str]]:
        return [found["tags"] for found in await self.helper.get("/v1/images")]


@pytest.fixture
def it(node: ContainerdNode, tmp_path: Path) -> Lab:
    return Lab(node, tmp_path)


async def test_an_image_is_pulled_by_digest_through_the_mirror_and_has_its_tag(it: Lab) -> None:
    async with it.peer() as peer:
        state = await it.pull()
        assert it.image.bytes == state.fetched
        assert {KEY} == set(it.supernode.asked_by)
        assert {""} == {shown for _, shown in it.supernode.asked}
        assert {(KEY, "")} == {(w.order, w.credential) for wants in it.supernode.wanted for w in wants.values()}
        assert 3 == peer.mirror.server.counts.blobs
        assert [[it.tag]] == await it.tags()
        assert [] == it.node.registry.requests()


async def test_the_secrets_of_an_order_let_only_its_own_pull_in(it: Lab) -> None:
    it.make_private()
    it.image.order = KEY
    it.supernode.released = 0
    async with it.peer(), Runtime(it.node.containerd.address) as runtime:
        await it.order(it.image)
        await eventually(lambda: any(it.supernode.wanted))
        with pytest.raises(PullUnauthorizedError):
            await runtime.pull(it.tag, None)
        await it.supernode.release(None)
        await it.until(PullPhase.READY)
    assert {} == dict(it.node.private.blob_bytes())


async def test_an_image_that_is_present_only_gets_its_name(it: Lab) -> None:
    assert 200 == (await it.helper.pull(it.pinned))[0]
    async with it.peer():
        assert 0 == (await it.pull()).fetched
        assert [] == it.supernode.asked
        assert [[it.tag]] == await it.tags()


async def test_a_withdrawn_order_cancels_its_pull(it: Lab) -> None:
    it.supernode.released = 0
    async with it.peer():
        await it.order(it.image)
        await eventually(lambda: it.supernode.wanted and it.supernode.wanted[-1])
        await it.until(PullPhase.PULLING)
        await it.order()
        await eventually(lambda: not it.supernode.wanted[-1], within=5)
        await eventually(lambda: it.supernode.peers["node-1"].pulls == {})
        assert [] == await it.tags()
        assert [] == it.node.registry.requests()


@once
async def test_a_restarted_peer_remembers_the_result(it: Lab) -> None:
    async with it.peer():
        state = await it.pull()
        await eventually(lambda: b'"Ready"' in (it.folder / "node/peer/cache/images.json").read_bytes())
    it.supernode.peers.clear()
    asked = len(it.supernode.asked)
    async with it.supernode.serving() as url, mirror(url, it.folder / "node/peer", runtime_socket=it.helper.socket):
        assert state == await it.until(PullPhase.READY)
    assert asked == len(it.supernode.asked)


@once
async def test_a_node_without_its_helper_reports_that(it: Lab) -> None:
    async with it.peer(runtime_socket=it.helper.socket.with_name("nowhere.sock")):
        await it.order(it.image)
        state = await it.until(PullPhase.FAILED)
        assert "RuntimeUnavailable" == state.reason
        runtime = await it.until_reported()
        assert ("", None) == (runtime.name, runtime.mirror)
        for message in (state.message, runtime.message):
            assert "the runtime helper at" in message


async def test_the_state_of_the_runtime_is_reported(it: Lab) -> None:
    async with it.peer():
        layer, absent = it.image.layers[0].digest, f"sha256:{'0' * 64}"
        assert 200 == (await it.helper.pull(it.pinned))[0]
        await it.supernode.order(NodeOrders(1, (), (layer, absent)))
        await eventually(lambda: (found := it.supernode.peers["node-1"].runtime) and found.blobs)
        runtime = await it.until_reported()
        assert {layer: True, absent: False} == runtime.blobs
        assert ("containerd", True, "") == (runtime.name, runtime.mirror, runtime.message)
        assert 0 == (runtime.disk_free or 1) % (64 << 20)


async def test_a_foreign_pull_of_a_public_image_during_an_order_reads_the_registry(it: Lab) -> None:
    it.supernode.released = 0
    async with it.peer() as peer, Runtime(it.node.containerd.address) as runtime:
        with peer.mirror.grants.open(KEY, it.name()):
            await runtime.pull(it.pinned, None)
        assert 0 == peer.mirror.server.counts.blobs
    assert {blob.digest: len(blob.content) for blob in it.image.blobs} == it.node.registry.blob_bytes()


@once
async def test_at_depth_peer_the_blobs_stay_in_the_cache_until_the_order_ends(it: Lab) -> None:
    blobs = tuple(ImageBlob(blob.digest, len(blob.content)) for blob in it.image.blobs)
    async with it.peer() as peer:
        pull = NodeOrder(KEY, f"{it.tag}@{it.image.digest}", PullOrder("run"), depth=Depth.PEER, blobs=blobs)
        await it.supernode.order(NodeOrders(1, (pull,)))
        state = await it.until(PullPhase.READY)
        assert it.image.bytes == state.fetched == peer.cache.total_bytes()
        await it.supernode.assign("node-1")  # the end of its lease
        await asyncio.sleep(0.5)
        assert state.fetched == peer.cache.total_bytes()
        assert [] == await it.tags()
        # The operator and the supernode have restarted, and do not know the order yet.
        await it.supernode.order(NodeOrders(2, unchanged=(KEY,)))
        await asyncio.sleep(0.5)
        assert state.fetched == peer.cache.total_bytes()
        await it.supernode.order(NodeOrders(3))
        await eventually(lambda: peer.cache.total_bytes() == 0)


@once
async def test_unwanted_blobs_make_room_for_wanted_ones(it: Lab) -> None:
    it.supernode = LeasingSupernode()
    first, size = it.image, len(it.image.layers[0].content)
    async with it.peer(blob_cache=size + size // 2) as peer:
        await it.pull()
        it.image = it.supernode.add(it.node.push())
        await it.pull(number=2)
        await eventually(lambda: peer.cache.total_bytes() <= size + size // 2)
        assert peer.cache.is_whole(it.image.layers[0].task_id)
        assert not peer.cache.is_whole(first.layers[0].task_id)
        await eventually(lambda: not it.supernode.peers["node-1"].held.get(first.layers[0].task_id))
        before = len(it.supernode.sent)
        await asyncio.sleep(1)
        assert before == len(it.supernode.sent)
