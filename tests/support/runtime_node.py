"""A node with containerd, two registries and the files of a mirror."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from pantala_peer.containerd import registry as registries
from pantala_peer.containerd.configuration import cleanup, configure
from testbed.containerd import Containerd
from testbed.image import Image
from tests.support.containerd_node import ContainerdNode
from tests.support.containerds import Helper
from tests.support.web_server import web_server


@dataclass
class RuntimeNode(ContainerdNode):
    """A node whose registries have the image ``team/app:1``."""

    image: Image = field(kw_only=True)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def by_digest(self) -> str:
        return f"{self.registry.host}/team/app@{self.image.digest}"

    @contextlib.contextmanager
    def configured(self, port: int, *names: str, folders: Sequence[Path] = ()) -> Iterator[None]:
        """The files of ``pantala-peer configure`` exist during the block."""
        listed = [registries.parse_registry(name) for name in names]
        where = folders or [self.containerd.certs_d]
        configure(where, self.state, listed, f"http://127.0.0.1:{port}", "t0ken")
        try:
            yield
        finally:
            cleanup(where, self.state)

    @contextlib.asynccontextmanager
    async def another(self, folder: Path, **settings: Any) -> AsyncIterator[tuple[Containerd, Helper]]:
        """Another containerd of the same version, and its helper."""
        with (
            Containerd(folder, self.containerd.program, **settings) as containerd,
            Helper(folder.parent, containerd) as helper,
        ):
            await helper.ready()
            yield containerd, helper


class ScriptedMirror:
    """A server in the place of a peer's mirror or a registry. The test sets its answer."""

    def __init__(self, answer: Callable[[web.Request], Any] | None = None) -> None:
        self.requests: list[tuple[str, str, str | None, str | None]] = []
        self.answer = answer
        self.gone = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        asked = request.headers.get("x-pantala-mirror")
        self.requests.append((request.method, request.path, request.query.get("ns"), asked))
        if self.answer is None:
            return web.Response(status=404)
        try:
            response = await self.answer(request)
        except asyncio.CancelledError:
            self.gone.set()
            raise
        assert isinstance(response, web.StreamResponse)
        return response

    def serving(self) -> AbstractAsyncContextManager[int]:
        return web_server(web.route("*", "/{path:.*}", self.handle))
