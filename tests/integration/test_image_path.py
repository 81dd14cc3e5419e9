"""The whole path of an ordered image, with each containerd and no scripted part. Needs root.

The parts are statement, supernode, peer, runtime helper, CRI, mirror and registry. ``pantala-peer configure`` writes
hosts.toml.
"""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pantala_peer.app import PeerApp
from pantala_peer.images import orders
from pantala_peer.images import runtime as runtime_watch
from pantala_process.settings import ListenAddress
from pantala_protocol.images import PullOrder, PullPhase, PullState, RuntimeState, WantedImage
from pantala_protocol.runtime import RuntimeImage as Listed
from pantala_protocol.statement import PeerReport
from pantala_runtime.containerd import Containerd as Runtime
from testbed import image as images
from testbed.containerd import Containerd
from testbed.image import Image, Layer
from testbed.process import free_ports
from testbed.registry import Registry
from tests.support.containerds import EACH, MARKS, Helper, crictl_remove
from tests.support.eventually import eventually
from tests.support.registry_images import registry_of
from tests.support.supernode_lab import SupernodeLab

pytestmark = MARKS

KEY, NODE = "ns/web", "n1"


@dataclass
class Way:
    """All processes of the path, and the part of the operator."""

    containerd: Containerd
    registry: Registry
    image: Image
    lab: SupernodeLab
    peer: PeerApp
    runtime: Runtime

    @property
    def name(self) -> str:
        return f"{self.registry.host}/team/app"

    async def state(self, *, number: int = 0, pin: bool = False) -> None:
        """State the image as an operator does. Without a number, state none."""
        wanted = WantedImage(
            KEY, f"{self.name}:1@{self.image.digest}", pin=pin, orders={NODE: PullOrder("run", number, timeout=60)}
        )
        await self.lab.state(images=(wanted,) if number else ())

    async def report(self, is_it: Callable[[PeerReport], bool]) -> PeerReport:
        """The node's report to the operator, as soon as ``is_it`` accepts it."""

        async def reported() -> PeerReport | None:
            peers = (await self.lab.changes()).peers
            return next((found for found in peers if found.name == NODE and is_it(found)), None)

        return await eventually(reported)

    async def reach(self, phase: PullPhase, number: int) -> PullState:
        report = await self.report(
            lambda found: KEY in found.pulls and (phase, number) == (found.pulls[KEY].phase, found.pulls[KEY].number)
        )
        return report.pulls[KEY]

    async def of_runtime(self, is_it: Callable[[RuntimeState], bool]) -> RuntimeState:
        report = await self.report(lambda found: found.runtime is not None and is_it(found.runtime))
        return report.runtime or RuntimeState()

    async def listed(self) -> Listed | None:
        return next((image for image in await self.runtime.images() if f"{self.name}:1" in image.tags), None)

    async def collect_garbage(self) -> None:
        """Remove the image by its ID, as the kubelet does."""
        await crictl_remove(self.containerd, (await eventually(self.listed)).id)
        assert await self.listed() is None


@pytest.fixture(params=EACH)
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return images.build(tmp_path_factory.mktemp("image"), [Layer(3_000_000, seed=31), Layer(2000, seed=32)])


@pytest.fixture
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "_LOOK", 0.3)
    monkeypatch.setattr(runtime_watch, "_SHORT_INTERVAL", 0.3)


@contextlib.asynccontextmanager
async def way(program: str, image: Image, folder: Path, *, config_path: str | None = None) -> AsyncIterator[Way]:
    token = folder / "mirror-token"
    async with contextlib.AsyncExitStack() as stack:
        registry = stack.enter_context(registry_of(image, folder / "registry"))
        containerd = stack.enter_context(Containerd(folder / "containerd", program, config_path=config_path))
        helper = stack.enter_context(Helper(folder, containerd))
        (port,) = free_ports(1)
        subprocess.run(
            [
                *(sys.executable, "-m", "pantala_peer", "configure", "--certs-d", str(containerd.certs_d)),
                *("--containerd-state", str(folder / "state"), "--mirror-token-file", str(token)),
                *("--registries", f"http://{registry.host}", "--mirror", f"http://127.0.0.1:{port}"),
            ],
            check=True,
            timeout=30,
        )
        await helper.ready()
        lab = await stack.enter_async_context(SupernodeLab(folder))
        peer = await lab.mirror(
            NODE, mirror_listen=ListenAddress("127.0.0.1", port), mirror_token_file=token, runtime_socket=helper.socket
        )
        runtime = await stack.enter_async_context(Runtime(containerd.address))
        yield Way(containerd, registry, image, lab, peer, runtime)


async def test_an_ordered_image_is_pinned_and_read_once_by_its_tag(program: str, image: Image, tmp_path: Path) -> None:
    async with way(program, image, tmp_path) as it:
        honours = it.containerd.version >= (1, 7)
        await it.state(number=1, pin=True)
        state = await it.reach(PullPhase.READY, 1)
        assert sum(image.blobs.values()) == state.fetched
        runtime = await it.of_runtime(lambda found: found.pins is not None)
        assert ("containerd", True, "", honours) == (runtime.name, runtime.mirror, runtime.message, runtime.pins)
        listed = await eventually(it.listed)
        assert ((f"{it.name}@{image.digest}",), honours) == (listed.digests, listed.pinned)
        assert dict(image.blobs) == dict(it.registry.blob_bytes())
        counts = it.peer.mirror.server.counts
        assert (len(image.blobs), 0) == (counts.blobs, counts.broken)

        await it.state(number=1)
        await eventually(lambda: not it.peer.images.ledger.pins)
        await asyncio.sleep(0.5)  # the runtime interface shows it after an event
        listed = await eventually(it.listed)
        assert not listed.pinned


@pytest.mark.usefixtures("short_intervals")
async def test_a_removal_by_the_kubelet_is_reported_not_repaired(program: str, image: Image, tmp_path: Path) -> None:
    async with way(program, image, tmp_path) as it:
        pin = it.containerd.version >= (1, 7)  # the kubelet keeps a pinned image, but another program may remove it
        for number in (1, 2):
            await it.state(number=number, pin=pin)
            await it.reach(PullPhase.READY, number)
            await it.collect_garbage()
            gone = await it.reach(PullPhase.GONE, number)
            assert number == len(gone.gone)
        served = it.peer.mirror.server.counts.blobs
        await asyncio.sleep(1)  # about three looks at the images
        assert await it.listed() is None
        assert gone == await it.reach(PullPhase.GONE, 2)
        assert served == it.peer.mirror.server.counts.blobs
        await asyncio.sleep(0.2)  # the registry logs an answer at its end
        assert dict(image.blobs) == dict(it.registry.blob_bytes()), "the second pull must read the cache"


@pytest.mark.usefixtures("short_intervals")
async def test_a_folder_that_is_not_read_is_reported_with_a_remedy(program: str, image: Image, tmp_path: Path) -> None:
    async with way(program, image, tmp_path, config_path="") as it:
        runtime = await it.of_runtime(lambda found: bool(found.message))
        assert runtime.mirror is False
        advice = 'In a file with version = 2 the line belongs below [plugins."io.containerd.grpc.v1.cri".registry]'
        assert advice in runtime.message
        it.containerd.stop()
        it.containerd.config_path = str(it.containerd.certs_d)
        it.containerd.start()
        runtime = await it.of_runtime(lambda found: bool(found.name and found.mirror))
        assert "" == runtime.message
        await it.state(number=1)
        await it.reach(PullPhase.READY, 1)
        assert len(image.blobs) == it.peer.mirror.server.counts.blobs
