"""The helper's HTTP interface on its own socket: image names go in, what became of them comes out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import msgspec
import structlog
from aiohttp import web
from msgspec import Meta, Struct

from pantala_protocol import digest as digests
from pantala_protocol import image as images
from pantala_protocol.digest import Digest
from pantala_protocol.image import ImageReference
from pantala_runtime.errors import InvalidImageError, InvalidRequestError, RequestError, UnavailableError
from pantala_runtime.pulls import Pulled, Pulls
from pantala_runtime.runtime import ContainerRuntime, Credentials, Image, Version

_MAX_BODY = 512 * 1024
"""Bytes: some six thousand digests."""
_PROBE_TIMEOUT = 10.0
"""Seconds; a mirror that is there answers in milliseconds."""

_log = structlog.get_logger(__name__)
_Body = TypeVar("_Body")


class PullRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/pull``."""

    image: str
    timeout_seconds: Annotated[float, Meta(gt=0, le=86400)]
    auth: Credentials | None = None
    pin: bool = False


class NameRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/name``: an image by its digest, and a tag of the same repository that shall stand for it."""

    image: str
    name: str


class PinRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/pin``."""

    image: str


class Pinned(Struct, frozen=True):
    """Whether the runtime heeds it."""

    pinned: bool


class BlobsRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/blobs``."""

    digests: list[str]


class Blobs(Struct, frozen=True):
    """Which of them the runtime's content store has; ``None``: it is not seen here."""

    present: list[str] | None


class UnpinRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/unpin``."""

    image: str


class ProbeRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """``POST /v1/probe``."""

    node: str
    port: Annotated[int, Meta(ge=1, le=65535)] = 65001


class Probed(Struct, frozen=True):
    """What the pull of a name met that only the mirror knows. Whether it was asked as a mirror, it has seen itself."""

    image: str
    outcome: str
    """``Pulled``, or an error's reason; of a mirror in force: ``NotFound``."""
    message: str = ""


class MirrorStatus(Struct, frozen=True):
    """Whether the runtime reads ``certs.d``, as far as it tells."""

    config_path: str | None
    in_force: bool | None


class PinningStatus(Struct, frozen=True):
    """Whether the runtime heeds pins, as far as was seen."""

    honoured: bool | None


class ImageFilesystem(Struct, frozen=True):
    """Bytes where images are kept; ``None``: not known here."""

    path: str | None
    used: int | None
    free: int | None
    total: int | None


class Status(Struct, frozen=True):
    """``GET /v1/status``."""

    runtime: Version
    mirror: MirrorStatus
    pinning: PinningStatus
    image_filesystem: ImageFilesystem


class API:
    """The routes. Nothing here removes an image, runs anything or takes anything but an image's name."""

    def __init__(
        self, runtime: ContainerRuntime, pulls: Pulls, image_filesystem: Path | None, content: Path | None = None
    ) -> None:
        self._runtime = runtime
        self._pulls = pulls
        self._image_filesystem = image_filesystem or content
        self._content = content

    def application(self) -> web.Application:
        """What a server is to serve, cancelling a handler whose client is gone."""
        app = web.Application(middlewares=[_errors], client_max_size=_MAX_BODY)
        app.router.add_post("/v1/pull", self._pull)
        app.router.add_post("/v1/name", self._name)
        app.router.add_post("/v1/pin", self._pin)
        app.router.add_post("/v1/unpin", self._unpin)
        app.router.add_post("/v1/blobs", self._blobs)
        app.router.add_post("/v1/probe", self._probe)
        app.router.add_get("/v1/images", self._list)
        app.router.add_get("/v1/status", self._status)
        return app

    async def _pull(self, request: web.Request) -> web.Response:
        order = await _body(request, PullRequest)
        if order.auth is not None:
            _check_server(order.auth.server)
        image = _image(order.image)
        _log.info("pulling", image=str(image), pin=order.pin)
        pulled = await self._pulls.pull(image, order.auth, timeout=order.timeout_seconds, pin=order.pin)
        _log.info("pulled", image=str(image), **msgspec.structs.asdict(pulled))
        return _answer(pulled)

    async def _name(self, request: web.Request) -> web.Response:
        asked = await _body(request, NameRequest)
        image, name = _image(asked.image), _image(asked.name)
        if not image.digest or not name.tag or image.name != name.name:
            raise InvalidRequestError(f"{name} cannot stand for {image}; give a tag of the repository, and a digest")
        await self._pulls.name(image, name)
        return web.Response(status=204)

    async def _pin(self, request: web.Request) -> web.Response:
        return _answer(Pinned(await self._pulls.pin(_image((await _body(request, PinRequest)).image))))

    async def _blobs(self, request: web.Request) -> web.Response:
        asked = (await _body(request, BlobsRequest)).digests
        try:
            parsed = [digests.parse(text) for text in asked]
        except ValueError as error:
            raise InvalidRequestError(str(error)) from None
        if self._content is None:
            return _answer(Blobs(None))
        return _answer(Blobs(await asyncio.to_thread(_present, self._content / "blobs", parsed)))

    async def _unpin(self, request: web.Request) -> web.Response:
        await self._pulls.unpin(_image((await _body(request, UnpinRequest)).image))
        return web.Response(status=204)

    async def _probe(self, request: web.Request) -> web.Response:
        asked = await _body(request, ProbeRequest)
        image = _image(f"localhost:{asked.port}/probe/{asked.node}:1")
        try:
            await self._pulls.pull(image, timeout=_PROBE_TIMEOUT)
        except UnavailableError:
            raise
        except RequestError as error:
            return _answer(Probed(str(image), error.reason, str(error)))
        return _answer(Probed(str(image), "Pulled"))

    async def _list(self, _request: web.Request) -> web.Response:
        return _answer(await self._runtime.images())

    async def _status(self, _request: web.Request) -> web.Response:
        version, path = await self._runtime.version(), await self._runtime.certs_d()
        mirror = MirrorStatus(path, None if path is None else bool(path))
        heeded = self._pulls.pinning_heeded
        if heeded is None and any(image.pinned for image in await self._runtime.images()):
            heeded = True  # a runtime that knows the word pins its own pause image
        return _answer(Status(version, mirror, PinningStatus(heeded), await self._filesystem()))

    async def _filesystem(self) -> ImageFilesystem:
        told = await self._runtime.filesystem()
        path = self._image_filesystem or (Path(told.path) if told is not None else None)
        free, total = await asyncio.to_thread(_space, path) if path is not None else (None, None)
        return ImageFilesystem(told.path if told else None, told.used if told else None, free, total)


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except RequestError as error:
        _log.info("not done", path=request.path, reason=error.reason, message=str(error))
        return _refusal(error.status, error.reason, str(error))
    except web.HTTPException as error:
        return _refusal(error.status, error.reason.replace(" ", ""), error.reason)
    except Exception:
        _log.exception("a request failed", path=request.path)
        return _refusal(500, "InternalError", "see the runtime helper's log")


async def _body(request: web.Request, kind: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.DecodeError as error:
        raise InvalidRequestError(f"the body cannot be read: {error}") from None


def _image(text: str) -> ImageReference:
    try:
        return images.parse(text)
    except ValueError as error:
        raise InvalidImageError(f"{error}") from None


def _check_server(text: str) -> None:
    """The runtime compares hosts: what is no URL would fail each pull, or have the password shown to anybody."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good:
        raise InvalidRequestError("auth.server is no URL of a registry; give one like https://registry.example.com")


def _space(path: Path) -> tuple[int, int] | tuple[None, None]:
    try:
        status = os.statvfs(path)
    except OSError:
        return None, None
    return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize


def _present(blobs: Path, asked: Sequence[Digest]) -> list[str] | None:
    """A blob appears there when it is whole and verified."""
    if not os.access(blobs, os.X_OK):
        return None
    return [str(digest) for digest in asked if (blobs / digest.algorithm / digest.hex).is_file()]


def _answer(value: Pulled | Probed | Pinned | Blobs | Status | list[Image]) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


def _refusal(status: int, reason: str, message: str) -> web.Response:
    body = msgspec.json.encode({"error": {"reason": reason, "message": message}})
    return web.Response(status=status, body=body, content_type="application/json")
