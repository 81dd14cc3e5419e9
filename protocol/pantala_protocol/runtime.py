"""The runtime helper's HTTP interface: the peer asks it about images in the node's container runtime."""

from typing import Annotated, Any

from msgspec import Meta, Struct


class PullCredentials(Struct, frozen=True, forbid_unknown_fields=True):
    """Credentials for one registry. They are never shown, and not kept longer than the pull."""

    username: str
    password: str
    server: str
    """The registry's URL. The runtime sends the password only to its host, not to the target of a redirect."""

    def __repr__(self) -> str:
        return "PullCredentials(…)"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class ImagePullRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``POST /v1/pull``: pull an image."""

    image: str
    timeout_seconds: Annotated[float, Meta(gt=0, le=86400)]
    auth: PullCredentials | None = None
    pin: bool = False


class PulledImage(Struct, frozen=True):
    """An image that is now on this node."""

    digest: str
    """The digest of the index or manifest that the image's name stands for."""
    bytes: int
    seconds: float
    """How long the runtime took for the pull: nearly 0 if the image was there already."""
    pinned: bool


class ImageNameRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/name``: add the tag ``name`` of the same repository to an image by digest."""

    image: str
    name: str


class ImagePinRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/pin`` and ``POST /v1/unpin``: protect an image from the kubelet's clean-up, or end the protection."""

    image: str


class ImagePin(Struct, frozen=True):
    """The answer to ``POST /v1/pin``."""

    pinned: bool
    """Whether the runtime protects the image now."""


class BlobsRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/blobs``: ask which blobs the runtime has."""

    digests: list[str]


class PresentBlobs(Struct, frozen=True):
    """The answer to ``POST /v1/blobs``: which of the requested blobs are in the runtime's content store."""

    present: list[str] | None
    """The digests of the blobs that are there. ``None``: the helper cannot read the content store."""


class ProbeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/probe``: pull a name that no registry has, to find out whether the runtime asks the mirror."""

    node: str
    port: Annotated[int, Meta(ge=1, le=65535)] = 65001


class ProbeOutcome(Struct, frozen=True):
    """How the pull of the probe's image ended.

    This does not show whether the runtime asked the mirror. Only the mirror itself knows that.
    """

    image: str
    outcome: str
    """``Pulled``, or the reason of an error: ``NotFound`` if the runtime uses the mirror."""
    message: str = ""


class RuntimeImage(Struct, frozen=True):
    """An image in the container runtime, in the list of ``GET /v1/images``."""

    tags: tuple[str, ...]
    digests: tuple[str, ...]
    """The names by which the image was pulled, as ``registry/repository@digest``."""
    pinned: bool
    """True if the kubelet must keep the image when the disk is full."""
    id: str = ""
    bytes: int = 0
    """The size of the whole image, as the runtime counts it. containerd counts compressed layers."""


class RuntimeVersion(Struct, frozen=True):
    """The name and the version of the container runtime."""

    name: str
    version: str
    api_version: str = ""


class MirrorStatus(Struct, frozen=True):
    """Whether the runtime reads a ``certs.d`` folder, which can name mirrors. Not every runtime reports this."""

    config_path: str | None
    """The folder in the runtime's configuration. Empty: no folder is set. ``None``: the runtime does not report it."""
    in_force: bool | None = None


class PinningStatus(Struct, frozen=True):
    """Whether the runtime protects pinned images from the kubelet's clean-up. ``None``: not known yet."""

    honoured: bool | None


class ImageFilesystem(Struct, frozen=True):
    """The file system that holds the images. Sizes are in bytes; ``None``: not known."""

    free: int | None
    path: str | None = None
    used: int | None = None
    total: int | None = None


class RuntimeStatus(Struct, frozen=True):
    """``GET /v1/status``: the state of the runtime."""

    runtime: RuntimeVersion
    mirror: MirrorStatus
    pinning: PinningStatus
    image_filesystem: ImageFilesystem
