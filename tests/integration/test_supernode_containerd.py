"""Two nodes with a real containerd each, their peers, one supernode and a real registry: who pulls what from where."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import aiohttp
import msgspec
import pytest

from pantala_peer.containerd import registry as registries
from pantala_peer.containerd.configuration import configure
from pantala_process.settings import ListenAddress
from pantala_protocol.statement import Statement
from pantala_runtime.containerd import Containerd as Runtime
from pantala_runtime.runtime import Credentials
from pantala_supernode.app import serving
from testbed import image as images
from testbed.containerd import Containerd
from testbed.image import Layer
from testbed.registry import Registry
from tests.integration.test_runtime import Helper
from tests.support import scripted_supernode
from tests.support.containerds import MARKS, ONE
from tests.support.eventually import eventually
from tests.support.loopback import loopback

pytestmark = MARKS
ANN = ("ann", "s3cr3t-of-ann")
TOKEN = "t0ken"


@pytest.mark.parametrize("accounts", [{}, dict([ANN])], ids=["public", "private"])
async def test_two_nodes_pull_an_image_and_its_blobs_leave_the_registry_once(
    accounts: dict[str, str], tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    port = unused_tcp_port_factory()
    settings = loopback(tmp_path / "volume", port, unused_tcp_port_factory())
    image = images.build(tmp_path / "image", [Layer(6_000_000, seed=1), Layer(2000, seed=2)])
    async with contextlib.AsyncExitStack() as stack:
        registry = stack.enter_context(Registry(tmp_path / "registry", accounts=accounts))
        images.push(image, registry.host, "team/app", "1", account=ANN if accounts else None)
        registry.forget()
        await stack.enter_async_context(serving(settings))
        async with aiohttp.ClientSession() as session:
            body = msgspec.json.encode(Statement(1))
            async with session.put(f"http://127.0.0.1:{port}/api/v1/statement", data=body) as answer:
                assert 200 == answer.status
        for name in ("n1", "n2"):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "token").write_text(TOKEN)
            containerd = stack.enter_context(Containerd(folder / "containerd", ONE[0]))
            await stack.enter_context(Helper(folder, containerd)).ready()
            changes = {"mirror_listen": ListenAddress("127.0.0.1", 0), "mirror_token_file": folder / "token"}
            peer = await stack.enter_async_context(
                scripted_supernode.peer(f"http://127.0.0.1:{port}", folder / "peer", name, **changes)
            )
            await eventually(lambda peer=peer: peer.supernodes.answered_at > 0 and peer.mirror.port > 0)  # type: ignore[misc]
            url = f"http://127.0.0.1:{peer.mirror.port}"
            configure([containerd.certs_d], folder / "state", [registries.parse(f"http://{registry.host}")], url, TOKEN)
            async with Runtime(containerd.address) as runtime:
                shown = Credentials(*ANN, server="") if accounts else None
                await runtime.pull(f"{registry.host}/team/app@{image.digest}", shown)
            counts = peer.mirror.mirror.counts
            assert (3, 0, 0) == (counts.blobs, counts.misses, counts.broken)
        await asyncio.sleep(0.3)  # the registry logs at the end
        assert dict(image.blobs) == dict(registry.blob_bytes())
