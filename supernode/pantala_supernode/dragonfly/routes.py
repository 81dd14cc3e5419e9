"""The paths of Dragonfly's clients: routes only translate. Every answer is HTTP 200 with an envelope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import structlog
from aiohttp import web

from pantala_protocol import __version__
from pantala_supernode.dragonfly import wire
from pantala_supernode.dragonfly.service import Conversation
from pantala_supernode.dragonfly.wire import BadWordError, Code, Envelope, envelope
from pantala_supernode.http.access import Access, Guard, Handler

_log = structlog.get_logger(__name__)

_MAX_BODY = 1024 * 1024
"""Bytes: a registration with certificates."""

Answer = Callable[[web.Request], Awaitable[Envelope]]


class DragonflyAPI:
    """The routes, at the root and below ``/v<version>``, as Dragonfly mounts them."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def add_routes(self, router: web.UrlDispatcher, guard: Guard) -> None:
        """Put them on an application's router."""
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
        """A run of dfget wants a file."""
        return await self._conversation.register(wire.registration(await _body(request)), _host(request))

    async def pull(self, request: web.Request) -> Envelope:
        """A client reports a piece and wants more."""
        return await self._conversation.pull(wire.pull(request.query))

    async def piece_taken(self, request: web.Request) -> Envelope:
        """A client can serve a piece."""
        query = request.query
        return self._conversation.piece_taken(
            query.get("taskId", ""), query.get("cid", ""), query.get("pieceRange", "")
        )

    async def piece_failed(self, request: web.Request) -> Envelope:
        """A client tells what was wrong with a piece."""
        query = request.query
        task_id, cid, provider = query.get("taskId", ""), query.get("srcCid", ""), query.get("dstCid", "")
        return self._conversation.piece_failed(
            task_id, cid, provider, query.get("range", ""), query.get("errorType", "")
        )

    async def down(self, request: web.Request) -> Envelope:
        """An uploader stopped to serve a file."""
        return self._conversation.down(request.query.get("taskId", ""), request.query.get("cid", ""))

    async def metrics(self, request: web.Request) -> Envelope:
        """A client tells how it went. Taken and not kept: it is not proven."""
        await _body(request)
        return envelope(Code.METRIC_TAKEN)

    async def heartbeat(self, request: web.Request) -> Envelope:
        """A seed says that it lives. There are no seeds here."""
        await _body(request)
        return envelope(Code.OK, data={"needRegister": False, "seedTaskIDs": [], "version": __version__})

    async def network(self, request: web.Request) -> Envelope:
        """A seed asks for other seeds. There are none."""
        await _body(request)
        return envelope(Code.OK, data={"nodes": []})


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > _MAX_BODY or request.headers.get("Transfer-Encoding"):
        raise BadWordError(f"a body of at most {_MAX_BODY} bytes and a Content-Length are required")
    return await request.read()


def _host(request: web.Request) -> str:
    """Where the connection came from, an IPv4 address as such."""
    return (request.remote or "").removeprefix("::ffff:")


def _enveloped(answer: Answer) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        try:
            said = await answer(request)
        except BadWordError as error:
            said = envelope(Code.BAD_REQUEST, str(error))
        except web.RequestPayloadError:
            said = envelope(Code.BAD_REQUEST, "the body is not what its headers say")
        except Exception:
            _log.exception("a request failed", path=request.path)
            said = envelope(Code.SYSTEM_ERROR, "see the supernode's log")
        return web.Response(body=msgspec.json.encode(said), content_type="application/json")

    return handler
