"""containerd with the files of k3s, RKE2 and kind at their real paths, and the chart's values for them."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pantala_process.settings import ListenAddress
from testbed.image import Layer, build, push
from testbed.registry import Registry
from tests.support.containerd_node import Pushed
from tests.support.containerds import MARKS
from tests.support.peer_lab import mirror
from tests.support.platform_node import PLATFORMS, PlatformNode
from tests.support.registry_images import sent
from tests.support.scripted_images import RegistrySupernode

pytestmark = MARKS

PART = re.compile(r"^# >>> pantala.*?^# <<< pantala\n", re.MULTILINE | re.DOTALL)
"""What ``pantala-peer configure`` adds to a file."""


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "registry") as registry:
        yield registry


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


def pushed(registry: Registry, folder: Path, number: int) -> Pushed:
    layout = build(folder / f"image-{number}", [Layer(1_000_000, seed=number)])
    push(layout, registry.host, f"team/{number}", "1")
    registry.forget()
    return Pushed(layout, f"team/{number}")


@pytest.mark.parametrize("platform", PLATFORMS)
async def test_containerd_of_a_platform_asks_the_mirror_also_after_a_restart_of_the_platform(
    platform: str, registry: Registry, tmp_path: Path
) -> None:
    supernode = RegistrySupernode()
    supernode.registry = registry.host
    first, second = (pushed(registry, tmp_path, number) for number in (1, 2))
    for image in (first, second):
        supernode.add(image)
    port = free_port()
    node = PlatformNode(PLATFORMS[platform], tmp_path, registry.host)
    with node, node.helper() as helper:
        await helper.ready()
        settings: dict[str, Any] = {
            "mirror_listen": ListenAddress("127.0.0.1", port),
            "mirror_token_file": tmp_path / "mirror-token",
        }
        for image in (first, second):
            node.restart_of_the_platform()
            hosts = node.certs_d / registry.host / "hosts.toml"
            written = node.read(hosts)
            node.configure(f"http://127.0.0.1:{port}")
            assert written == PART.sub("", node.read(hosts)), "the text of the platform stays"
            async with (
                supernode.serving(),
                mirror(supernode.url, tmp_path / f"peer-{image.repository[-1]}", **settings) as peer,
            ):
                status, answer = await helper.pull(f"{registry.host}/{image.repository}:1")
                assert (200, image.digest) == (status, answer["digest"] if status == 200 else answer)
                counts = peer.mirror.server.counts
                assert (2, 0) == (counts.blobs, counts.misses)
        assert {} == await sent(registry), "the registry sends no blob"
        status = await helper.get("/v1/status")
        assert status, "the helper reads the runtime of the platform"
