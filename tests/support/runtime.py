"""A container runtime in memory, for tests: pulls end when they are let, errors come when they are set."""

import asyncio

from msgspec import structs

from pantala_protocol import image
from pantala_protocol.runtime import PullCredentials, RuntimeImage, RuntimeVersion
from pantala_runtime.errors import HelperError, NoSuchImageError
from pantala_runtime.runtime import ImageStore


class FakeRuntime:
    """Has the images of :attr:`registry`, by name and digest; keeps what was pulled."""

    def __init__(self, registry: dict[str, str]) -> None:
        self.registry = registry
        self.here: dict[str, RuntimeImage] = {}
        self.pulls: list[tuple[str, PullCredentials | None]] = []
        self.running = 0
        """Pulls that have begun and neither ended nor been cancelled."""
        self.free = asyncio.Event()
        """Pulls end while it is set."""
        self.free.set()
        self.error: HelperError | None = None
        self.honours_pins = True
        self.config_path: str | None = "/etc/containerd/certs.d"

    async def pull(self, name: str, credentials: PullCredentials | None) -> None:
        """Have the image here, once :attr:`free` is set."""
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
        repository = image.parse(name).name
        found = RuntimeImage((name,), (f"{repository}@{self.registry[name]}",), False, self.registry[name], 7)
        self.here.setdefault(name, found)

    async def image(self, name: str) -> RuntimeImage | None:
        """One image; ``None``: it is not here."""
        return self.here.get(name)

    async def images(self) -> list[RuntimeImage]:
        """All that are here."""
        if self.error is not None:
            raise self.error
        return list(dict.fromkeys(self.here.values()))

    async def digest(self, name: str) -> str:
        """The digest that ``name`` stands for."""
        return self.registry[name]

    async def name(self, source: str, name: str) -> None:
        """Let ``name`` stand for what ``source`` stands for."""
        if source not in self.here:
            raise NoSuchImageError(f"{source}: not on this node")
        self.registry[name] = self.registry[source]
        found = structs.replace(self.here[source], tags=(*self.here[source].tags, name))
        self.here[source] = self.here[name] = found

    async def mark_pinned(self, name: str, pinned: bool) -> None:
        """Heeded or not, as :attr:`honours_pins` says."""
        if name not in self.here:
            raise NoSuchImageError(f"{name}: not on this node")
        if self.honours_pins:
            self.here[name] = structs.replace(self.here[name], pinned=pinned)

    async def version(self) -> RuntimeVersion:
        """Of nothing real."""
        if self.error is not None:
            raise self.error
        return RuntimeVersion("fake", "1", "v1")

    async def filesystem(self) -> ImageStore | None:
        """The root."""
        return ImageStore("/", 7)

    async def certs_d(self) -> str | None:
        """What :attr:`config_path` says."""
        return self.config_path
