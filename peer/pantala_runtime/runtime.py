"""The interface to the node's container runtime, as a :class:`typing.Protocol`."""

from typing import NamedTuple, Protocol

from pantala_protocol.runtime import PullCredentials, RuntimeImage, RuntimeVersion


class ImageStore(NamedTuple):
    """The directory in which the runtime keeps images."""

    path: str
    """The path on the node, which may differ from the path in this container."""
    used: int
    """The bytes of all images."""


class ContainerRuntime(Protocol):
    """A node's container runtime. All methods raise :class:`~pantala_runtime.errors.HelperError`.

    ``name`` is the full name of an image, with its registry.
    """

    async def pull(self, name: str, credentials: PullCredentials | None) -> None:
        """Pull an image. If the call is cancelled, the runtime stops the pull and discards the partial image."""

    async def image(self, name: str) -> RuntimeImage | None: ...

    async def images(self) -> list[RuntimeImage]: ...

    async def digest(self, name: str) -> str:
        """The digest of the image with this name on this node."""

    async def name(self, source: str, name: str) -> None:
        """Add ``name`` to the image ``source``. The runtime shows the name after a short time."""

    async def mark_pinned(self, name: str, pinned: bool) -> None:
        """Set or remove the pin. After a short time, :attr:`RuntimeImage.pinned` shows whether the pin is honoured."""

    async def version(self) -> RuntimeVersion: ...

    async def filesystem(self) -> ImageStore | None:
        """The directory of images. ``None`` if the runtime does not report it."""

    async def certs_d(self) -> str | None:
        """The runtime's ``config_path``. Empty if it is not set, ``None`` if the runtime does not report it."""
