"""A peer with a full disk: unused blobs make room, a blob that cannot fit is reported, and nothing hangs.

Needs root to mount a small tmpfs.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from pantala_peer.app import PeerApp
from pantala_peer.images import blobs as cached_images
from pantala_peer.mirror.deadlines import Deadlines
from pantala_protocol.images import Depth, ImageBlob, NodeOrder, NodeOrders, PullOrder, PullPhase, PullState
from pantala_protocol.sync import SyncRequest
from testbed.image import Layer, push
from testbed.image import build as build_image
from tests.support.containerd_node import ContainerdNode, Pushed
from tests.support.containerds import MARKS, ONE
from tests.support.eventually import eventually
from tests.support.peer_lab import mirror
from tests.support.scripted_files import File
from tests.support.scripted_images import BlobFile, Image, LeasingSupernode, RegistrySupernode, get
from tests.support.scripted_supernode import Known
from tests.support.small_disk import small_disk

needs_registry = MARKS[1]

MIB = 1 << 20
DISK = 8 * MIB
LARGE = 12 * MIB
KEY = "ns/web"
DEADLINES = Deadlines(manifest=3, small=3, blob=2, again=1, stall=2)


def blob(seed: int, size: int) -> BlobFile:
    return BlobFile(f"blob-{seed}", random.Random(seed).randbytes(size))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", DISK) as directory:
        yield directory


class Patient(LeasingSupernode):
    """Gives no work for a moment for a task that the disk rejected, and continues with others, like a real one."""

    pause = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.paused: set[str] = set()

    def _apply(self, known: Known, request: SyncRequest) -> None:
        super()._apply(known, request)
        for name in {failure.task_id for failure in request.failures}:
            self.paused.add(name)
            asyncio.get_running_loop().call_later(self.pause, self._resume, name)

    def _resume(self, name: str) -> None:
        self.paused.discard(name)
        self.resuming = asyncio.ensure_future(self.notify())

    def _given(self, peer: str) -> list[File]:
        return [file for file in super()._given(peer) if file.task_id not in self.paused]


@pytest.fixture
async def supernode() -> AsyncIterator[RegistrySupernode]:
    made = Patient()
    async with made.serving():
        yield made


def peer_on(disk: Path, supernode: RegistrySupernode) -> AbstractAsyncContextManager[PeerApp]:
    return mirror(supernode.url, disk / "peer", mirror_deadlines=DEADLINES, blob_cache=1 << 40)


async def pulled(peer: PeerApp, image: Image) -> list[int]:
    """Pull as containerd does, and return the statuses of the layers' answers."""
    port = peer.mirror.port
    assert 200 == (await get(port, image.path()))[0]
    statuses = []
    for layer in image.layers:
        status, _, body = await get(port, image.blob(layer))
        assert status == 404 or layer.content == body
        statuses.append(status)
    return statuses


async def test_the_oldest_unused_blobs_make_room(supernode: RegistrySupernode, disk: Path) -> None:
    images = [supernode.add(Image([blob(number, 3 * MIB)], repository=f"library/{number}")) for number in (1, 2, 3)]
    async with peer_on(disk, supernode) as peer:
        for image in images:
            assert [200] == await pulled(peer, image)
        assert [False, True, True] == [peer.cache.is_whole(image.layers[0].task_id) for image in images]
        assert 6 * MIB == peer.cache.total_bytes()
        assert [200] == await pulled(peer, images[0]), "it is fetched again, and another blob is evicted"


async def test_a_blob_larger_than_the_disk_is_a_miss_and_evicts_none(supernode: RegistrySupernode, disk: Path) -> None:
    small = supernode.add(Image([blob(1, 3 * MIB)], repository="library/small"))
    large = supernode.add(Image([blob(2, LARGE)], repository="library/large"))
    async with peer_on(disk, supernode) as peer:
        assert [200] == await pulled(peer, small)
        async with asyncio.timeout(DEADLINES.blob + 2):
            assert [404] == await pulled(peer, large)
        assert {(large.layers[0].task_id, "local")} == {(each.task_id, each.kind) for each in supernode.failures}
        trouble = peer.tasks.trouble(large.layers[0].task_id)
        assert trouble is not None
        assert "NodeDiskFull" == trouble.reason
        assert "12MiB are needed, but only " in trouble.message
        assert peer.cache.is_whole(small.layers[0].task_id)
        assert [200] == await pulled(peer, small)
        await eventually(lambda: not supernode.wanted[-1])


async def test_an_order_that_does_not_fit_fails_and_another_one_succeeds(
    supernode: RegistrySupernode, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_images, "_AGAIN", 0.5)
    async with mirror(supernode.url, disk / "peer", blob_cache=1 << 40) as peer:

        async def ordered(revision: int, size: int, phase: PullPhase) -> PullState:
            image = supernode.add(Image([blob(revision, size)]))
            wanted = tuple(ImageBlob(file.digest, len(file.content)) for file in image.blobs)
            name = f"{supernode.registry}/{image.repository}@{image.digest}"
            order = NodeOrder(KEY, name, PullOrder("run", revision, timeout=60), depth=Depth.PEER, blobs=wanted)
            await supernode.order(NodeOrders(revision, (order,)))

            def found() -> PullState | None:
                state = supernode.peers["node-1"].pulls.get(KEY)
                return state if state and (state.number, state.phase) == (revision, phase) else None

            return await eventually(found)

        failed = await ordered(1, LARGE, PullPhase.FAILED)
        assert "NoSpace" == failed.reason
        assert "(12MiB)" in failed.message
        await ordered(2, 3 * MIB, PullPhase.READY)
        assert not peer.downloads.busy()


@needs_registry
@pytest.mark.parametrize("processes", ONE, ids=["one"], indirect=True)
async def test_containerd_reads_a_blob_that_does_not_fit_from_the_registry(node: ContainerdNode, disk: Path) -> None:
    layout = build_image(node.folder / "image", [Layer(LARGE, seed=1), Layer(1000, seed=2)])
    push(layout, node.registry.host, "team/large", "1")
    node.registry.forget()
    image, supernode = Pushed(layout, "team/large"), Patient()
    async with node.mirrored(supernode, image, disk / "node", mirror_deadlines=DEADLINES, blob_cache=1 << 40) as peer:
        seconds = await node.pull(image, "1")
        assert peer.mirror.server.counts.late <= 1
    assert LARGE < node.registry.blob_bytes()[image.layers[0].digest]
    assert seconds < DEADLINES.blob + 5
