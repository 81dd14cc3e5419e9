"""The helper's HTTP API, which the peer uses through a unix socket."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec
import structlog
from aiohttp import web

from pantala_process.http import error_response, json_response
from pantala_protocol import digest as digests
from pantala_protocol import image as images
from pantala_protocol.digest import Digest
from pantala_protocol.image import ImageReference
from pantala_protocol.rules.fields import decode
from pantala_protocol.runtime import (
    BlobsRequest,
    ImageFilesystem,
    ImageNameRequest,
    ImagePin,
    ImagePinRequest,
    ImagePullRequest,
    MirrorStatus,
    PinningStatus,
    PresentBlobs,
    ProbeOutcome,
    ProbeRequest,
    RuntimeStatus,
)
from pantala_runtime.errors import HelperError, InvalidImageError, InvalidRequestError, RuntimeSilentError
from pantala_runtime.pulls import Pulls
from pantala_runtime.runtime import ContainerRuntime

_MAX_BODY = 512 * 1024
"""The largest request in bytes. About six thousand digests fit."""
_PROBE_TIMEOUT = 10.0
"""Seconds for the pull of a probe. A running mirror answers in milliseconds."""

_log = structlog.get_logger(__name__)
_Body = TypeVar("_Body")


class HelperAPI:
    """The HTTP routes. They accept only image names and digests. They cannot remove images or run programs."""

    def __init__(
        self, runtime: ContainerRuntime, pulls: Pulls, image_filesystem: Path | None, content: Path | None = None
    ) -> None:
        self._runtime = runtime
        self._pulls = pulls
        self._image_filesystem = image_filesystem or content
        self._content = content

    def application(self) -> web.Application:
        """The web application. Its server must cancel a handler when the client disconnects, so that the pull ends."""
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
        order = await _body(request, ImagePullRequest)
        if order.auth is not None:
            _check_server(order.auth.server)
        image = _image(order.image)
        _log.info("pulling", image=str(image), pin=order.pin)
        pulled = await self._pulls.pull(image, order.auth, timeout=order.timeout_seconds, pin=order.pin)
        _log.info("pulled", image=str(image), **msgspec.structs.asdict(pulled))
        return json_response(pulled)

    async def _name(self, request: web.Request) -> web.Response:
        order = await _body(request, ImageNameRequest)
        image, name = _image(order.image), _image(order.name)
        if not image.digest or not name.tag or image.name != name.name:
            raise InvalidRequestError(
                f"{name} cannot name {image}. Give an image by digest, and a tag of its repository."
            )
        await self._pulls.name(image, name)
        return web.Response(status=204)

    async def _pin(self, request: web.Request) -> web.Response:
        return json_response(ImagePin(await self._pulls.pin(_image((await _body(request, ImagePinRequest)).image))))

    async def _unpin(self, request: web.Request) -> web.Response:
        await self._pulls.unpin(_image((await _body(request, ImagePinRequest)).image))
        return web.Response(status=204)

    async def _blobs(self, request: web.Request) -> web.Response:
        try:
            wanted = [digests.parse(text) for text in (await _body(request, BlobsRequest)).digests]
        except ValueError as error:
            raise InvalidRequestError(str(error)) from None
        if self._content is None:
            return json_response(PresentBlobs(None))
        return json_response(PresentBlobs(await asyncio.to_thread(_present, self._content / "blobs", wanted)))

    async def _probe(self, request: web.Request) -> web.Response:
        probe = await _body(request, ProbeRequest)
        image = _image(f"localhost:{probe.port}/probe/{probe.node}:1")
        try:
            await self._pulls.pull(image, timeout=_PROBE_TIMEOUT)
        except RuntimeSilentError:
            raise
        except HelperError as error:
            return json_response(ProbeOutcome(str(image), error.reason, str(error)))
        return json_response(ProbeOutcome(str(image), "Pulled"))

    async def _list(self, _request: web.Request) -> web.Response:
        return json_response(await self._runtime.images())

    async def _status(self, _request: web.Request) -> web.Response:
        version, path = await self._runtime.version(), await self._runtime.certs_d()
        mirror = MirrorStatus(path, None if path is None else bool(path))
        honoured = self._pulls.pins_honoured
        if honoured is None and any(image.pinned for image in await self._runtime.images()):
            honoured = True  # a runtime that knows pins pins its own pause image
        return json_response(RuntimeStatus(version, mirror, PinningStatus(honoured), await self._filesystem()))

    async def _filesystem(self) -> ImageFilesystem:
        reported = await self._runtime.filesystem()
        path = self._image_filesystem or (Path(reported.path) if reported is not None else None)
        free, total = await asyncio.to_thread(_space, path) if path is not None else (None, None)
        if reported is None:
            return ImageFilesystem(free, total=total)
        return ImageFilesystem(free, reported.path, reported.used, total)


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except HelperError as error:
        _log.info("a request failed", path=request.path, reason=error.reason, message=str(error))
        return error_response(error.status, error.reason, str(error))
    except web.HTTPException as error:
        return error_response(error.status, error.reason.replace(" ", ""), error.reason)
    except Exception:
        _log.exception("a request failed because of a bug; please report it", path=request.path)
        return error_response(500, "InternalError", "the request failed because of a bug; see the runtime helper's log")


async def _body(request: web.Request, kind: type[_Body]) -> _Body:
    try:
        return decode(await request.read(), kind)
    except ValueError as error:
        raise InvalidRequestError(f"the request's body is not valid: {error}") from None


def _image(text: str) -> ImageReference:
    try:
        return images.parse(text)
    except ValueError as error:
        raise InvalidImageError(str(error)) from None


def _check_server(text: str) -> None:
    """Reject an invalid URL of a registry. With such a URL, the runtime might send the password to any host."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good:
        raise InvalidRequestError(
            "auth.server is not a valid URL of a registry. Give a URL like https://registry.example.com."
        )


def _space(path: Path) -> tuple[int, int] | tuple[None, None]:
    try:
        status = os.statvfs(path)
    except OSError:
        return None, None
    return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize


def _present(blobs: Path, wanted: Sequence[Digest]) -> list[str] | None:
    """The ``wanted`` digests that the runtime has stored completely. ``None`` if ``blobs`` cannot be read."""
    if not os.access(blobs, os.X_OK):
        return None
    return [str(digest) for digest in wanted if (blobs / digest.algorithm / digest.hex).is_file()]
