"""A client of containerd's socket. It uses the CRI for pulls, and containerd's own API for names and labels."""

import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from pantala_protocol.runtime import PullCredentials, RuntimeImage, RuntimeVersion
from pantala_runtime.errors import NoSuchImageError, PullTimeoutError, RuntimeSilentError
from pantala_runtime.proto import cri_pb2, images_pb2
from pantala_runtime.runtime import ImageStore
from pantala_runtime.translation import translate

_PINNED_LABEL = "io.cri-containerd.pinned"
_PINNED = "pinned"
_MANAGED = {"io.cri-containerd.image": "managed"}
"""The label that an image needs to be visible in the CRI."""
_NAMESPACE = (("containerd-namespace", "k8s.io"),)
_NAMES = "/containerd.services.images.v1.Images"
_TIMEOUT = 10.0
"""Seconds for each call except pulls."""

_OPTIONS = (
    ("grpc.max_receive_message_length", 16 << 20),  # containerd's own limit: a list of thousands of images
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),  # containerd restarts in about a second
    ("grpc.enable_http_proxy", 0),
)

_Answer = TypeVar("_Answer", bound=Message)


class Containerd:
    """A client of containerd, used as an asynchronous context manager. It connects at first use and after restarts."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._socket, options=_OPTIONS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._channel is not None:
            await self._channel.close()

    async def pull(self, name: str, credentials: PullCredentials | None) -> None:
        request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=name))
        if credentials is not None:
            request.auth.username = credentials.username
            request.auth.password = credentials.password
            request.auth.server_address = credentials.server
        await self._images("PullImage", request, cri_pb2.PullImageResponse, about=name, timeout=None)

    async def image(self, name: str) -> RuntimeImage | None:
        request = cri_pb2.ImageStatusRequest(image=cri_pb2.ImageSpec(image=name))
        answer = await self._images("ImageStatus", request, cri_pb2.ImageStatusResponse, about=name)
        return _image(answer.image) if answer.HasField("image") else None

    async def images(self) -> list[RuntimeImage]:
        answer = await self._images("ListImages", cri_pb2.ListImagesRequest(), cri_pb2.ListImagesResponse)
        return [_image(image) for image in answer.images]

    async def digest(self, name: str) -> str:
        return (await self._named(name)).target.digest

    async def mark_pinned(self, name: str, pinned: bool) -> None:
        """Set the label that the CRI shows as a pin, or set the label to an empty text, which removes the pin."""
        image = await self._named(name)
        image.labels[_PINNED_LABEL] = _PINNED if pinned else ""
        mask = FieldMask(paths=[f"labels.{_PINNED_LABEL}"])
        # The update must contain the complete image: containerd (seen with 2.3.4) crashes without a target.
        request = images_pb2.UpdateImageRequest(image=image, update_mask=mask)
        await self._call(f"{_NAMES}/Update", request, images_pb2.UpdateImageResponse, about=name)

    async def name(self, source: str, name: str) -> None:
        target = (await self._named(source)).target
        image = images_pb2.Image(name=name, labels=_MANAGED, target=target)
        try:
            former = await self._named(name)
        except NoSuchImageError:
            request = images_pb2.CreateImageRequest(image=image)
            await self._call(f"{_NAMES}/Create", request, images_pb2.CreateImageResponse, about=name)
            return
        if former.target.digest != target.digest:
            mask = FieldMask(paths=["target", *(f"labels.{label}" for label in _MANAGED)])
            update = images_pb2.UpdateImageRequest(image=image, update_mask=mask)
            await self._call(f"{_NAMES}/Update", update, images_pb2.UpdateImageResponse, about=name)

    async def _named(self, name: str) -> images_pb2.Image:
        request = images_pb2.GetImageRequest(name=name)
        answer = await self._call(f"{_NAMES}/Get", request, images_pb2.GetImageResponse, about=name)
        if not answer.image.target.digest:
            raise NoSuchImageError(f"{name}: the container runtime has no image of this name. Pull the image.")
        return answer.image

    async def version(self) -> RuntimeVersion:
        request = cri_pb2.VersionRequest()
        answer = await self._call("/runtime.v1.RuntimeService/Version", request, cri_pb2.VersionResponse)
        return RuntimeVersion(answer.runtime_name, answer.runtime_version, answer.runtime_api_version)

    async def filesystem(self) -> ImageStore | None:
        answer = await self._images("ImageFsInfo", cri_pb2.ImageFsInfoRequest(), cri_pb2.ImageFsInfoResponse)
        for each in answer.image_filesystems:
            return ImageStore(each.fs_id.mountpoint, each.used_bytes.value)
        return None

    async def certs_d(self) -> str | None:
        """The setting ``config_path``. ``None`` for containerd 2, whose API does not show it."""
        request = cri_pb2.StatusRequest(verbose=True)
        answer = await self._call("/runtime.v1.RuntimeService/Status", request, cri_pb2.StatusResponse)
        try:
            found = json.loads(answer.info.get("config", ""))["registry"]["configPath"]
        except (ValueError, LookupError, TypeError):
            return None
        return found if isinstance(found, str) else None

    async def _images(
        self, method: str, request: Message, kind: type[_Answer], *, about: str = "", timeout: float | None = _TIMEOUT
    ) -> _Answer:
        return await self._call(f"/runtime.v1.ImageService/{method}", request, kind, about=about, timeout=timeout)

    async def _call(
        self, path: str, request: Message, kind: type[_Answer], *, about: str = "", timeout: float | None = _TIMEOUT
    ) -> _Answer:
        if self._channel is None:
            raise RuntimeSilentError("the connection to the container runtime is not open")
        serialize: Callable[[Any], bytes] = type(request).SerializeToString
        call = self._channel.unary_unary(path, serialize, kind.FromString)
        try:
            return await call(request, timeout=timeout, metadata=_NAMESPACE)
        except grpc.aio.AioRpcError as error:
            code, text = error.code().name, error.details() or ""
            if code == "DEADLINE_EXCEEDED" and timeout is not None:
                raise PullTimeoutError(
                    f"the container runtime did not answer in {timeout:g} s. Check its load."
                ) from None
            raise translate(code, text, about or path) from None


def _image(image: cri_pb2.Image) -> RuntimeImage:
    return RuntimeImage(
        id=image.id,
        tags=tuple(image.repo_tags),
        digests=tuple(image.repo_digests),
        bytes=image.size,
        pinned=image.pinned,
    )
