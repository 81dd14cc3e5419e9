"""One large file on a slow link does not delay other files of the node."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pantala_peer.app import PeerApp
from pantala_protocol import task_id
from pantala_protocol.statement import WantedTask
from testbed import image as images
from testbed import registry as testbed_registry
from testbed.image import Image, Layer
from tests.support.eventually import eventually
from tests.support.links import SlowLink
from tests.support.registry_images import largest, pull_manifests, registry_of
from tests.support.scripted_images import get
from tests.support.supernode_lab import SupernodeLab

pytestmark = pytest.mark.alone

MIB = 1024 * 1024
RATE = 4 * MIB
PIECE = 4 * MIB
"""The size of a large piece. Eight of them take 8 s on the link, and the peer fetches eight at once."""

LINK = "127.0.0.3"
"""The address of the link's end. The supernode itself listens at 127.0.0.1."""


class Lab(SupernodeLab):
    """A node behind a slow link, which fetches large pieces of a file."""

    node: PeerApp
    large: WantedTask

    def wanted(self, name: str, size: int, **more: object) -> WantedTask:
        self.serve(size, f"/{name}")
        url = self.origin.url(f"/{name}")
        return WantedTask(name, name, task_id.compute(url), url, path=name, peers=("n1",), **more)  # type: ignore[arg-type]

    async def fetch_large_file(self) -> None:
        self.large = self.wanted("large", 32 * PIECE)
        await self.state(self.large)
        await self.cached()
        self.node = await self.mirror("n1")
        await eventually(self.node.downloads.busy)
        await asyncio.sleep(0.5)

    @property
    def large_bytes(self) -> int:
        return self.node.cache.bytes_of(self.large.task_id)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    lab = Lab(tmp_path, advertise=LINK, piece_size_rule="dragonfly")
    link = SlowLink(RATE, delay=0.01).serving(port := lab.settings.piece_listen.port, LINK, port)
    async with link, lab:
        yield lab


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return images.build(tmp_path_factory.mktemp("image"), [Layer(100_000, seed=1)])


@pytest.mark.skipif(not testbed_registry.installed(), reason="docker-registry is not installed")
async def test_a_layer_does_not_wait_for_the_pieces_of_a_large_file(lab: Lab, image: Image, tmp_path: Path) -> None:
    with registry_of(image, tmp_path / "registry") as registry:
        await lab.fetch_large_file()
        await pull_manifests(lab.node, registry, image)
        digest, size = largest(image)
        begun = asyncio.get_running_loop().time()
        status, _, body = await get(lab.node.mirror.port, f"/v2/team/app/blobs/{digest}?ns={registry.host}")
        took = asyncio.get_running_loop().time() - begun
    assert (200, size, 0) == (status, len(body), lab.large_bytes)
    assert took < 2, took


async def test_a_small_file_does_not_wait_for_the_pieces_of_a_large_file(lab: Lab) -> None:
    await lab.fetch_large_file()
    await lab.state(lab.large, lab.wanted("small", 50_000))
    await eventually((lab.folder / "n1" / "files" / "small").exists, within=3)
    assert 0 == lab.large_bytes


async def test_another_file_takes_turns_with_a_large_file(lab: Lab) -> None:
    await lab.fetch_large_file()
    await lab.state(lab.large, lab.wanted("other", PIECE + 1000))
    await eventually((lab.folder / "n1" / "files" / "other").exists, within=30)
    assert lab.large_bytes < 16 * PIECE
