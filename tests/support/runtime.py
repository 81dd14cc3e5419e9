"""The fake of the port :class:`pantala_runtime.runtime.ContainerRuntime`, in memory."""

import asyncio

from msgspec import structs

from pantala_protocol import image
from pantala_protocol.runtime import PullCredentials, RuntimeImage, RuntimeVersion
from pantala_runtime.errors import HelperError, NoSuchImageError
from pantala_runtime.runtime import ImageStore


class FakeRuntime:
    """A container runtime that pulls the images in ``registry``, which maps names to digests."""

    def __init__(self, registry: dict[str, str]) -> None:
        self.registry = registry
        self.here: dict[str, RuntimeImage] = {}
        self.pulls: list[tuple[str, PullCredentials | None]] = []
        self.running = 0
        """The number of pulls that are running."""
        self.free = asyncio.Event()
        """Pulls end only while this event is set."""
        self.free.set()
        self.error: HelperError | None = None
        self.honours_pins = True
        self.config_path: str | None = "/etc/containerd/certs.d"

    async def pull(self, name: str, credentials: PullCredentials | None) -> None:
        self.pulls.append((name, credentials))
        self.running += 1
        try:
            await self.free.wait()
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error
        if name not in self.registry:
            raise NoSuchImageError(f"{name}: not in the registry")
        digest = self.registry[name]
        tags = () if "@" in name else (name,)
        found = RuntimeImage(tags, (f"{image.parse(name).name}@{digest}",), False, digest, 7)
        self.here.setdefault(name, found)

    async def image(self, name: str) -> RuntimeImage | None:
        return self.here.get(name)

    async def images(self) -> list[RuntimeImage]:
        if self.error is not None:
            raise self.error
        return list(dict.fromkeys(self.here.values()))

    async def digest(self, name: str) -> str:
        self._check(name)
        return self.registry[name]

    async def name(self, source: str, name: str) -> None:
        self._check(source)
        self.registry[name] = self.registry[source]
        tags = dict.fromkeys((*self.here[source].tags, name))
        found = structs.replace(self.here[source], tags=tuple(tags))
        self.here[source] = self.here[name] = found

    async def mark_pinned(self, name: str, pinned: bool) -> None:
        self._check(name)
        if self.honours_pins:
            self.here[name] = structs.replace(self.here[name], pinned=pinned)

    async def version(self) -> RuntimeVersion:
        if self.error is not None:
            raise self.error
        return RuntimeVersion("fake", "1", "v1")

    async def filesystem(self) -> ImageStore | None:
        return ImageStore("/", 7)

    async def certs_d(self) -> str | None:
        return self.config_path

    def _check(self, name: str) -> None:
        if name not in self.here:
            raise NoSuchImageError(f"{name}: not on this node")
