"""The routes of dfget and dfdaemon. Every answer is HTTP 200 with an envelope (see ``wire``)."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import msgspec
import structlog
from aiohttp import web

from pantala_process.listening import client_address
from pantala_protocol import __version__
from pantala_supernode.dragonfly.service import DragonflyService
from pantala_supernode.dragonfly.wire import (
    Code,
    Envelope,
    MalformedRequestError,
    envelope,
    read_pull,
    read_registration,
)
from pantala_supernode.errors import RequestError
from pantala_supernode.http.access import Access, Guard, Handler
from pantala_supernode.http.failures import INVALID_BODY
from pantala_supernode.http.operations import HotRequest, HotRoute, receive_body

_log = structlog.get_logger(__name__)

_MAX_BODY = 1024 * 1024
"""The most bytes of a request's body: enough for a registration with certificates."""


class DragonflyAPI:
    """The routes, at the root and below ``/v<version>``, as in Dragonfly."""

    def __init__(self, service: DragonflyService) -> None:
        self._service = service

    def add_routes(self, router: web.UrlDispatcher, guard: Guard) -> None:
        for method, path, answer in (
            ("POST", "/peer/registry", self.register),
            ("GET", "/peer/task", self.pull),
            ("GET", "/peer/piece/suc", self.piece_taken),
            ("GET", "/peer/piece/error", self.piece_failed),
            ("GET", "/peer/service/down", self.down),
            ("POST", "/task/metrics", self.metrics),
            ("POST", "/peer/heartbeat", self.heartbeat),
            ("POST", "/peer/network", self.network),
        ):
            handler = _enveloped(answer)
            guard.add(router, method, path, handler, Access.DRAGONFLY)
            guard.add(router, method, r"/{version:v[0-9.]+}" + path, handler, Access.DRAGONFLY)

    async def register(self, request: web.Request) -> Envelope:
        registration = read_registration(await _body(request))
        return await self._service.registrations.register(registration, client_address(request))

    def hot_routes(self) -> tuple[HotRoute, ...]:
        """The routes that Dragonfly's clients call for each piece. The API port's front answers them before aiohttp."""
        return tuple(
            HotRoute("GET", path, _enveloped_at_once(answer, path), Access.DRAGONFLY)
            for path, answer in (
                ("/peer/task", lambda query: self._service.begin_pull(read_pull(query))),
                ("/peer/piece/suc", self._piece_taken),
                ("/peer/piece/error", self._piece_failed),
            )
        )

    async def pull(self, request: web.Request) -> Envelope:
        return await self._service.pull(read_pull(request.query))

    async def piece_taken(self, request: web.Request) -> Envelope:
        return self._piece_taken(request.query)

    async def piece_failed(self, request: web.Request) -> Envelope:
        return self._piece_failed(request.query)

    async def down(self, request: web.Request) -> Envelope:
        return self._service.down(*_parameters(request.query, "taskId", "cid"))

    async def metrics(self, request: web.Request) -> Envelope:
        """Accept a client's metrics and drop them, because the client does not prove that they are true."""
        await _body(request)
        return envelope(Code.METRIC_TAKEN)

    async def heartbeat(self, request: web.Request) -> Envelope:
        """Accept the heartbeat of one of Dragonfly's seed peers. The supernode does not use seed peers."""
        await _body(request)
        return envelope(Code.OK, data={"needRegister": False, "seedTaskIDs": [], "version": __version__})

    async def network(self, request: web.Request) -> Envelope:
        """Answer a seed peer that looks for other seed peers. The list is always empty."""
        await _body(request)
        return envelope(Code.OK, data={"nodes": []})

    def _piece_taken(self, query: Mapping[str, str]) -> Envelope:
        return self._service.piece_taken(*_parameters(query, "taskId", "cid", "pieceRange"))

    def _piece_failed(self, query: Mapping[str, str]) -> Envelope:
        return self._service.piece_failed(*_parameters(query, "taskId", "srcCid", "dstCid", "range", "errorType"))


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > _MAX_BODY or request.headers.get("Transfer-Encoding"):
        raise MalformedRequestError(f"the request must have a Content-Length of at most {_MAX_BODY} bytes")
    return await receive_body(request)


def _parameters(query: Mapping[str, str], *names: str) -> list[str]:
    return [query.get(name, "") for name in names]


def _enveloped(answer: Callable[[web.Request], Awaitable[Envelope]]) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        try:
            body = await answer(request)
        except Exception as error:
            body = _error(error, request.path)
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    return handler


def _enveloped_at_once(
    answer: Callable[[Mapping[str, str]], Envelope | Coroutine[Any, Any, Envelope]], path: str
) -> Callable[[HotRequest], object]:
    async def later(awaited: Coroutine[Any, Any, Envelope]) -> Envelope:
        try:
            return await awaited
        except Exception as error:
            return _error(error, path)

    def handler(request: HotRequest) -> object:
        try:
            body = answer(request.query)
        except Exception as error:
            return _error(error, path)
        return asyncio.ensure_future(later(body)) if isinstance(body, Coroutine) else body

    return handler


def _error(error: Exception, path: str) -> Envelope:
    if isinstance(error, MalformedRequestError | RequestError):
        return envelope(Code.BAD_REQUEST, str(error))
    if isinstance(error, web.RequestPayloadError):
        return envelope(Code.BAD_REQUEST, INVALID_BODY)
    _log.error("a client's request failed because of a bug; please report it", path=path, exc_info=error)
    return envelope(Code.SYSTEM_ERROR, "the request failed because of a bug; see the supernode's log")
