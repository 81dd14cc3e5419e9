"""A mirror in a real peer, and a scripted supernode with an image."""

import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pantala_peer.app import PeerApp
from tests.support.eventually import eventually
from tests.support.peer_lab import mirror
from tests.support.scripted_files import PIECE
from tests.support.scripted_images import Answer, BlobFile, Image, RegistrySupernode, Reply, asked, get

LAYER = random.Random(3).randbytes(10 * PIECE + 17)


class MirrorStage:
    """A supernode with an image of one layer, and a peer with a mirror."""

    def __init__(self, folder: Path, life: contextlib.AsyncExitStack) -> None:
        self.folder = folder
        self.supernode = RegistrySupernode()
        self.image = self.supernode.add(Image([BlobFile("layer", LAYER)]))
        self.peer: PeerApp
        self.life = life
        self.supernode_life = contextlib.AsyncExitStack()

    @property
    def layer(self) -> BlobFile:
        return self.image.layers[0]

    async def start(self, **settings: Any) -> None:
        """Start the supernode and the mirror."""
        url = await self.supernode_life.enter_async_context(self.supernode.serving())
        self.life.push_async_callback(self.supernode_life.aclose)
        self.peer = await self.life.enter_async_context(mirror(url, self.folder / "root", **settings))

    async def begin_pull(self, **settings: Any) -> None:
        """Start, and request the manifest as containerd does first."""
        await self.start(**settings)
        assert 200 == (await self.manifest()).status

    async def start_with_token(self) -> None:
        (self.folder / "token").write_text("right\n")
        await self.start(mirror_token_file=self.folder / "token")

    async def get(self, path: str, **request: Any) -> Reply:
        return await get(self.peer.mirror.port, path, **request)

    async def manifest(self, **request: Any) -> Reply:
        return await self.get(self.image.path(), **request)

    async def blob(self, file: BlobFile, **request: Any) -> Reply:
        return await self.get(self.image.blob(file), **request)

    def asked(self, file: BlobFile) -> contextlib.AbstractAsyncContextManager[Answer]:
        return asked(self.peer.mirror.port, self.image.blob(file))

    async def until_nothing_is_wanted(self) -> None:
        await eventually(lambda: self.supernode.wanted[-1] == {})


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[MirrorStage]:
    async with contextlib.AsyncExitStack() as life:
        yield MirrorStage(tmp_path, life)
