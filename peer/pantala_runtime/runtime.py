"""The container runtime, as the helper needs it: a port, and what goes through it."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For one registry; never shown, never kept longer than the pull."""

    username: str
    password: str
    server: str
    """The registry's URL. The runtime shows them to that host alone, so neither to a mirror nor to a redirect's end."""

    def __repr__(self) -> str:
        return "Credentials(…)"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class Image(msgspec.Struct, frozen=True):
    """An image on this node."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    """``name@digest``, once for each name it was pulled by."""
    bytes: int
    """Of the whole, as the runtime counts: layers as they were sent."""
    pinned: bool
    """The kubelet leaves it alone when the disk fills."""


class Version(msgspec.Struct, frozen=True):
    """Who answers at the socket."""

    name: str
    version: str
    api_version: str


class Filesystem(msgspec.Struct, frozen=True):
    """Where the runtime keeps images."""

    path: str
    """On the node."""
    used: int
    """Bytes that images take."""


class ContainerRuntime(Protocol):
    """All raise :class:`~pantala_runtime.errors.RequestError`. ``name`` is an image's whole name."""

    async def pull(self, name: str, credentials: Credentials | None) -> None:
        """Have the image on this node. To cancel it stops the runtime, which forgets what it had of the image."""

    async def image(self, name: str) -> Image | None:
        """One image; ``None``: it is not here."""

    async def images(self) -> list[Image]:
        """All that are here."""

    async def digest(self, name: str) -> str:
        """The digest that ``name`` stands for on this node."""

    async def name(self, source: str, name: str) -> None:
        """Let ``name`` stand for what ``source`` stands for; the runtime interface knows it a moment later."""

    async def mark_pinned(self, name: str, pinned: bool) -> None:
        """Ask that the image stay; whether that is heeded is seen in :attr:`Image.pinned` a moment later."""

    async def version(self) -> Version:
        """Who answers."""

    async def filesystem(self) -> Filesystem | None:
        """Where images are; ``None``: it does not tell."""

    async def certs_d(self) -> str | None:
        """The folders of registries' settings that are in force, empty for none; ``None``: it does not tell."""
