"""What orders stand on: the runtime helper, the cache of blobs, and those who want to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from pantala_protocol.images import NodeOrder, PullState, RuntimeState


class Image(msgspec.Struct, frozen=True):
    """An image in the runtime, under all its names."""

    tags: tuple[str, ...]
    digests: tuple[str, ...]
    """``registry/repository@digest``."""
    pinned: bool


@dataclass(frozen=True, slots=True)
class Credentials:
    """For one pull, at one server."""

    username: str
    password: str = field(repr=False)
    server: str


class Status(msgspec.Struct, frozen=True):
    """The runtime, as the helper sees it."""

    name: str
    version: str
    config_path: str | None
    """Empty: it reads no ``certs.d``. ``None``: it does not tell."""
    pins: bool | None
    disk_free: int | None


class Helper(Protocol):
    """The port to who speaks with the container runtime. All raise :class:`OrderError`."""

    async def images(self) -> list[Image]:
        """All that are there."""
        ...

    async def pull(self, image: str, *, timeout: int, credentials: Credentials | None) -> None:
        """Have an image there. To cancel it ends the pull."""
        ...

    async def name(self, image: str, name: str) -> None:
        """Let a tag stand for an image that is there."""
        ...

    async def pin(self, image: str) -> bool:
        """Ask that it stay; tell whether that is heeded."""
        ...

    async def unpin(self, image: str) -> None:
        """It may go."""
        ...

    async def status(self) -> Status:
        """The runtime itself."""
        ...

    async def probe(self, node: str, port: int) -> None:
        """Have the runtime pull a name that only the mirror at ``port`` knows."""
        ...

    async def blobs(self, digests: Sequence[str]) -> frozenset[str] | None:
        """Which of them the runtime has; ``None``: not known."""
        ...


class BlobStore(Protocol):
    """The port to the peer's cache, for images that go no deeper."""

    async def fetch(self, order: NodeOrder) -> None:
        """Have all its blobs here, however long it takes. Raises :class:`OrderError`."""
        ...

    def holds(self, order: NodeOrder) -> bool:
        """Whether all are here."""
        ...

    def bytes(self, order: NodeOrder) -> int:
        """Of those blobs that are here."""
        ...


class Told(Protocol):
    """The port to the supernodes."""

    def report_pulls(self, pulls: dict[str, PullState], *, urgent: bool) -> None:
        """How far all ordered images are; what is not ``urgent`` waits for an exchange with other news."""
        ...

    def report_runtime(self, runtime: RuntimeState, *, urgent: bool) -> None:
        """How the node's container runtime is."""
        ...
