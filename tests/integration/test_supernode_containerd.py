"""Two nodes with a real containerd each, their peers, one supernode and a real registry."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from pantala_peer.containerd import registry as registries
from pantala_peer.containerd.configuration import configure
from pantala_protocol.runtime import PullCredentials
from pantala_runtime.containerd import Containerd as Runtime
from testbed import image as images
from testbed.containerd import Containerd
from testbed.image import Layer
from tests.support.containerds import MARKS, ONE, Helper
from tests.support.registry_images import ANN, registry_of
from tests.support.supernode_lab import SupernodeLab

pytestmark = MARKS
TOKEN = "t0ken"


@pytest.mark.parametrize("private", [False, True], ids=["public", "private"])
async def test_two_nodes_pull_an_image_and_the_registry_sends_its_blobs_once(private: bool, tmp_path: Path) -> None:
    image = images.build(tmp_path / "image", [Layer(6_000_000, seed=1), Layer(2000, seed=2)])
    async with contextlib.AsyncExitStack() as stack:
        registry = stack.enter_context(registry_of(image, tmp_path / "registry", private=private))
        lab = await stack.enter_async_context(SupernodeLab(tmp_path))
        await lab.state()
        for name in ("n1", "n2"):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "token").write_text(TOKEN)
            containerd = stack.enter_context(Containerd(folder / "containerd", ONE[0]))
            await stack.enter_context(Helper(folder, containerd)).ready()
            peer = await lab.mirror(name, mirror_token_file=folder / "token")
            url = f"http://127.0.0.1:{peer.mirror.port}"
            configure(
                [containerd.certs_d],
                folder / "state",
                [registries.parse_registry(f"http://{registry.host}")],
                url,
                TOKEN,
            )
            async with Runtime(containerd.address) as runtime:
                shown = PullCredentials(*ANN, server="") if private else None
                await runtime.pull(f"{registry.host}/team/app@{image.digest}", shown)
            counts = peer.mirror.server.counts
            assert (3, 0, 0) == (counts.blobs, counts.misses, counts.broken)
        await asyncio.sleep(0.3)  # the registry logs an answer at its end
        assert dict(image.blobs) == dict(registry.blob_bytes())
