"""The runtime helper over HTTP, on its unix socket."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import msgspec

from pantala_peer.images.errors import OrderError, RuntimeUnavailableError
from pantala_peer.images.ports import Credentials, Image, Status
from pantala_process.http import read_bounded

_TIMEOUT = 30.0
"""Seconds for all that loads nothing."""

_LONGER = 15.0
"""Seconds more than a pull may take that its answer is waited for: the helper itself keeps the time."""

_MAX_ANSWER = 16 * 1024 * 1024
"""Bytes: some ten thousand images."""

_Answer = TypeVar("_Answer")


class _Error(msgspec.Struct):
    reason: str
    message: str


class _Refusal(msgspec.Struct):
    error: _Error


class _Pinned(msgspec.Struct):
    pinned: bool


class _Blobs(msgspec.Struct):
    present: list[str] | None


class _Runtime(msgspec.Struct):
    name: str
    version: str


class _Mirror(msgspec.Struct):
    config_path: str | None


class _Pinning(msgspec.Struct):
    honoured: bool | None


class _Filesystem(msgspec.Struct):
    free: int | None


class _Status(msgspec.Struct):
    runtime: _Runtime
    mirror: _Mirror
    pinning: _Pinning
    image_filesystem: _Filesystem


class RuntimeHelper:
    """The adapter. ``socket`` is ``None`` where there is no helper. Use it as an asynchronous context manager."""

    def __init__(self, socket: Path | None) -> None:
        self._socket = socket
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if self._socket is not None:
            connector = aiohttp.UnixConnector(str(self._socket), limit=0)
            self._client = aiohttp.ClientSession("http://runtime", connector=connector)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def images(self) -> list[Image]:
        """All that the runtime has. All here raise :class:`OrderError`."""
        return await self._ask("GET", "/v1/images", list[Image])

    async def pull(self, image: str, *, timeout: int, credentials: Credentials | None) -> None:
        """Have an image in the runtime. To cancel it closes the connection, and the helper ends the pull."""
        body: dict[str, Any] = {"image": image, "timeout_seconds": max(1, timeout)}
        if credentials is not None:
            body["auth"] = {
                "username": credentials.username,
                "password": credentials.password,
                "server": credentials.server,
            }
        await self._ask("POST", "/v1/pull", dict[str, Any], body, seconds=timeout + _LONGER)

    async def name(self, image: str, name: str) -> None:
        """Let a tag stand for an image that is there."""
        await self._ask("POST", "/v1/name", None, {"image": image, "name": name})

    async def pin(self, image: str) -> bool:
        """Ask that it stay; tell whether that is heeded."""
        return (await self._ask("POST", "/v1/pin", _Pinned, {"image": image})).pinned

    async def unpin(self, image: str) -> None:
        """It may go."""
        await self._ask("POST", "/v1/unpin", None, {"image": image})

    async def status(self) -> Status:
        """The runtime itself."""
        said = await self._ask("GET", "/v1/status", _Status)
        return Status(
            said.runtime.name,
            said.runtime.version,
            said.mirror.config_path,
            said.pinning.honoured,
            said.image_filesystem.free,
        )

    async def probe(self, node: str, port: int) -> None:
        """Have the runtime pull a name that only the mirror at ``port`` knows."""
        await self._ask("POST", "/v1/probe", dict[str, Any], {"node": node, "port": port})

    async def blobs(self, digests: Sequence[str]) -> frozenset[str] | None:
        """Which of them the runtime has; ``None``: its store is not seen."""
        present = (await self._ask("POST", "/v1/blobs", _Blobs, {"digests": digests})).present
        return None if present is None else frozenset(present)

    async def _ask(
        self, method: str, path: str, kind: type[_Answer] | None, body: object = None, *, seconds: float = _TIMEOUT
    ) -> _Answer:
        if self._client is None:
            raise RuntimeUnavailableError(
                "no runtime helper: run pantala-runtime beside the peer and give the peer its socket (--runtime-socket)"
            )
        data = None if body is None else msgspec.json.encode(body)
        timeout = aiohttp.ClientTimeout(total=seconds, connect=5)
        try:
            async with self._client.request(method, path, data=data, timeout=timeout) as response:
                content = await read_bounded(response, _MAX_ANSWER)
        except TimeoutError:
            raise RuntimeUnavailableError(
                f"the runtime helper did not answer {path} in {seconds:g} s; look at its log, and at the node's load"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise RuntimeUnavailableError(
                f"the runtime helper at {self._socket} does not answer ({error}); check that pantala-runtime runs"
            ) from None
        if response.status >= 300:
            raise _refusal(response.status, content)
        try:
            return msgspec.json.decode(content or b"null", type=kind)
        except msgspec.DecodeError as error:
            raise RuntimeUnavailableError(
                f"the runtime helper's answer to {path} cannot be read ({error}); run the peer's own version of it"
            ) from None


def _refusal(status: int, content: bytes) -> OrderError:
    try:
        said = msgspec.json.decode(content, type=_Refusal).error
    except msgspec.DecodeError:
        return RuntimeUnavailableError(
            f"the runtime helper answered {status} and no reason; run the peer's own version of it"
        )
    return OrderError(said.reason, said.message)
