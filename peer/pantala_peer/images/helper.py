"""Calls the runtime helper over HTTP at its unix socket."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TypeVar, cast

import aiohttp
import msgspec

from pantala_peer.images.errors import OrderError, RuntimeUnavailableError
from pantala_process.http import error_detail, read_bounded
from pantala_protocol.rules.fields import decode
from pantala_protocol.runtime import (
    BlobsRequest,
    ImageNameRequest,
    ImagePin,
    ImagePinRequest,
    ImagePullRequest,
    PresentBlobs,
    ProbeOutcome,
    ProbeRequest,
    PullCredentials,
    PulledImage,
    RuntimeImage,
    RuntimeStatus,
)

_TIMEOUT = 30.0
"""The most seconds for a call that is not a pull."""

_EXTRA = 15.0
"""Seconds to wait for the answer after a pull's own timeout, which the helper enforces."""

_MAX_ANSWER = 16 * 1024 * 1024
"""The largest answer in bytes: enough for a list of some ten thousand images."""

_Answer = TypeVar("_Answer")


class RuntimeHelper:
    """A client of the helper. ``socket`` is ``None`` on a node without a helper.

    All methods raise :class:`OrderError`.
    """

    def __init__(self, socket: Path | None) -> None:
        self._socket = socket
        self._client: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        if self._socket is None:
            yield
            return
        connector = aiohttp.UnixConnector(str(self._socket), limit=0)
        async with aiohttp.ClientSession("http://runtime", connector=connector) as self._client:
            yield

    async def images(self) -> list[RuntimeImage]:
        return await self._ask("GET", "/v1/images", list[RuntimeImage])

    async def pull(self, image: str, *, timeout: int, credentials: PullCredentials | None) -> None:
        """Pull an image. Cancelling closes the connection, and the helper ends the pull."""
        body = ImagePullRequest(image, max(1, timeout), credentials)
        await self._ask("POST", "/v1/pull", PulledImage, body, seconds=timeout + _EXTRA)

    async def name(self, image: str, name: str) -> None:
        """Give the image a further ``name`` with a tag in the runtime."""
        await self._ask("POST", "/v1/name", None, ImageNameRequest(image, name))

    async def pin(self, image: str) -> bool:
        """Pin an image, so that the kubelet does not remove it. Returns False if the runtime ignores pins."""
        return (await self._ask("POST", "/v1/pin", ImagePin, ImagePinRequest(image))).pinned

    async def unpin(self, image: str) -> None:
        """Remove an image's pin, so that the kubelet may remove the image."""
        await self._ask("POST", "/v1/unpin", None, ImagePinRequest(image))

    async def status(self) -> RuntimeStatus:
        return await self._ask("GET", "/v1/status", RuntimeStatus)

    async def probe(self, node: str, port: int) -> None:
        """Let the runtime pull a name that no registry has, to find out if the runtime asks the mirror at ``port``."""
        await self._ask("POST", "/v1/probe", ProbeOutcome, ProbeRequest(node, port))

    async def blobs(self, digests: Sequence[str]) -> frozenset[str] | None:
        """The ``digests`` that the runtime has. ``None``: the helper cannot read the runtime's store."""
        present = (await self._ask("POST", "/v1/blobs", PresentBlobs, BlobsRequest(list(digests)))).present
        return None if present is None else frozenset(present)

    async def _ask(
        self, method: str, path: str, kind: type[_Answer] | None, body: object = None, *, seconds: float = _TIMEOUT
    ) -> _Answer:
        if self._client is None:
            raise RuntimeUnavailableError("the peer has no runtime helper to pull images; set --runtime-socket")
        data = None if body is None else msgspec.json.encode(body)
        timeout = aiohttp.ClientTimeout(total=seconds, connect=5)
        try:
            async with self._client.request(method, path, data=data, timeout=timeout) as response:
                content = await read_bounded(response, _MAX_ANSWER)
        except TimeoutError:
            raise RuntimeUnavailableError(f"the runtime helper did not answer {path} in {seconds:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise RuntimeUnavailableError(
                f"the runtime helper at {self._socket} does not answer ({getattr(error, 'strerror', None) or error})"
            ) from None
        if response.status >= 300:
            raise _refusal(response.status, content)
        try:
            return decode(content or b"null", cast("type[_Answer]", kind))
        except ValueError as error:
            raise RuntimeUnavailableError(
                f"the runtime helper's answer to {path} is not valid ({error}); run helper and peer of one version"
            ) from None


def _refusal(status: int, content: bytes) -> OrderError:
    detail = error_detail(content)
    if detail is None or not detail.reason:
        return RuntimeUnavailableError(
            f"the runtime helper answered {status} without a reason; run helper and peer of one version"
        )
    return OrderError(detail.message, detail.reason)
