"""The routes of dfget and dfdaemon. Every answer is HTTP 200 with an envelope (see ``wire``)."""

from collections.abc import Awaitable, Callable

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

_log = structlog.get_logger(__name__)

_MAX_BODY = 1024 * 1024
"""The largest body of a request in bytes: enough for a registration with certificates."""


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

    async def pull(self, request: web.Request) -> Envelope:
        return await self._service.pull(read_pull(request.query))

    async def piece_taken(self, request: web.Request) -> Envelope:
        return self._service.piece_taken(*_parameters(request, "taskId", "cid", "pieceRange"))

    async def piece_failed(self, request: web.Request) -> Envelope:
        return self._service.piece_failed(*_parameters(request, "taskId", "srcCid", "dstCid", "range", "errorType"))

    async def down(self, request: web.Request) -> Envelope:
        return self._service.down(*_parameters(request, "taskId", "cid"))

    async def metrics(self, request: web.Request) -> Envelope:
        """Accept a client's metrics and drop them, because the client does not prove that they are true."""
        await _body(request)
        return envelope(Code.METRIC_TAKEN)

    async def heartbeat(self, request: web.Request) -> Envelope:
        """Accept the heartbeat of one of Dragonfly's seed peers. The supernode does not use seed peers."""
        await _body(request)
        return envelope(Code.OK, data={"needRegister": False, "seedTaskIDs": [], "version": __version__})

    async def network(self, request: web.Request) -> Envelope:
        """Answer a seed peer that looks for other seed peers: there are none."""
        await _body(request)
        return envelope(Code.OK, data={"nodes": []})


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > _MAX_BODY or request.headers.get("Transfer-Encoding"):
        raise MalformedRequestError(f"the body must have a Content-Length of at most {_MAX_BODY} bytes")
    return await request.read()


def _parameters(request: web.Request, *names: str) -> list[str]:
    return [request.query.get(name, "") for name in names]


def _enveloped(answer: Callable[[web.Request], Awaitable[Envelope]]) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        try:
            body = await answer(request)
        except (MalformedRequestError, RequestError) as error:
            body = envelope(Code.BAD_REQUEST, str(error))
        except web.RequestPayloadError:
            body = envelope(Code.BAD_REQUEST, "the body does not match its headers; send it without Content-Encoding")
        except Exception:
            _log.exception("a client's request failed because of a bug; please report it", path=request.path)
            body = envelope(Code.SYSTEM_ERROR, "the request failed because of a bug; see the supernode's log")
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    return handler
