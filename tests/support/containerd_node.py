"""A containerd that pulls through the mirror of a real peer, and the registries of its images."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pantala_peer.app import PeerApp
from pantala_peer.containerd import registry as registries
from pantala_peer.containerd.configuration import configure
from pantala_runtime.containerd import Containerd as Runtime
from testbed.containerd import Containerd
from testbed.image import Image as Layout
from testbed.image import Layer, build, push
from testbed.registry import Registry
from tests.support.containerds import Helper, crictl_remove
from tests.support.peer_lab import mirror
from tests.support.registry_images import ANN, SHOWN
from tests.support.scripted_images import BlobFile, Image, RegistrySupernode

TOKEN = "t0ken"


class Pushed(Image):
    """An image that is in a real registry and that a scripted supernode also has."""

    def __init__(self, layout: Layout, repository: str, authorization: str = "") -> None:
        self.layout = layout
        said = json.loads(layout.read(layout.digest))
        config, *layers = (BlobFile("blob", layout.read(d["digest"])) for d in [said["config"], *said["layers"]])
        super().__init__(layers, config, repository, authorization)

    @property
    def manifest(self) -> bytes:
        return self.layout.read(self.layout.digest)


@dataclass
class ContainerdNode:
    """A containerd with a runtime helper, a public registry and a private registry."""

    containerd: Containerd
    helper: Helper
    registry: Registry
    private: Registry
    folder: Path
    made: int = 0

    def push(self, *, private: bool = False) -> Pushed:
        """Push a new image to one of the registries."""
        self.made += 1
        layers = [Layer(3_000_000, seed=10 * self.made), Layer(1000, seed=10 * self.made + 1)]
        layout = build(self.folder / str(self.made), layers)
        registry, account = (self.private, ANN) if private else (self.registry, None)
        push(layout, registry.host, f"team/{self.made}", "1", account=account)
        registry.forget()
        return Pushed(layout, f"team/{self.made}", SHOWN if private else "")

    @contextlib.asynccontextmanager
    async def mirrored(
        self, supernode: RegistrySupernode, image: Pushed, root: Path, **changes: Any
    ) -> AsyncIterator[PeerApp]:
        """Run a peer whose mirror this containerd asks, because of files from ``pantala-peer configure``."""
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
        """Pull an image. Return the seconds that it took."""
        registry = self.private if image.authorization else self.registry
        loop = asyncio.get_running_loop()
        begun = loop.time()
        separator = "@" if ":" in reference else ":"
        status, pulled = await self.helper.pull(f"{registry.host}/{image.repository}{separator}{reference}", **body)
        assert (200, image.digest) == (status, pulled["digest"] if status == 200 else pulled)
        await asyncio.sleep(0.2)  # the registry logs at the end
        return loop.time() - begun

    def clear(self) -> None:
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
