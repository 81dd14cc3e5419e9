"""Serves the console: the views as JSON, and the web page. Read-only, and only for programs on the same machine.

Every program that reaches the port may read. So the port is on loopback. Users reach it by ``kubectl port-forward``:
the API server asks for the user's own rights. A web page of another site could reach a loopback port through the user's
browser under a name of its own (DNS rebinding). So requests must name a loopback host.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web

from pantala_operator.console.assets import Asset, read_assets
from pantala_operator.console.overview import ConsoleOverview
from pantala_operator.resources.api import TaskResource
from pantala_operator.resources.prefetch import ImagePrefetch
from pantala_process.entrance.server import serving
from pantala_process.http import error_response, json_response
from pantala_process.settings import ListenAddress, names_loopback
from pantala_protocol.console.views import MOST_TASKS

_MOST: Final = 64
"""Connections at the port. The users of a console are few."""
_METHODS: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})

DEFAULT_LIMIT: Final = 500

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""The headers of each answer. The page uses only what this server sends."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ConsoleServer:
    """The routes of the console."""

    def __init__(self, views: ConsoleOverview) -> None:
        self._views = views

    @contextlib.asynccontextmanager
    async def serving(self, address: ListenAddress | None) -> AsyncIterator[int]:
        """Serve while the block runs, and yield the port. Without an address, nothing is served.

        Raises :class:`OSError` if the address cannot be used.
        """
        if address is None:
            yield 0
            return
        async with serving(self.application(), address, grace=1.0, most=_MOST, flag="--console-listen") as port:
            yield port

    def application(self) -> web.Application:
        app = web.Application(middlewares=[_guard], client_max_size=1)
        app.router.add_get("/api/v1/console", self._console)
        app.router.add_get("/api/v1/console/{room:tasks|images}/{namespace}/{name}", self._detail)
        for path, asset in read_assets().items():
            app.router.add_get(path, _serve(asset))
        return app

    async def _console(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        try:
            limit = _limit(query.get("limit", ""))
            unfinished = _flag(query.get("unfinished", ""))
        except ValueError as error:
            return error_response(400, "BadRequest", str(error))
        found = await self._views.console(query.get("namespace", ""), unfinished=unfinished, limit=limit)
        return json_response(found)

    async def _detail(self, request: web.Request) -> web.StreamResponse:
        room, namespace, name = (request.match_info[each] for each in ("room", "namespace", "name"))
        detail = self._views.detail(TaskResource if room == "tasks" else ImagePrefetch, namespace, name)
        if detail is None:
            kind = "Task" if room == "tasks" else "ImagePrefetch"
            text = f"The {kind} {namespace[:253]}/{name[:253]} does not exist. Check its namespace and its name."
            return error_response(404, "NotFound", text)
        return json_response(detail)


def _serve(asset: Asset) -> Handler:
    async def served(request: web.Request) -> web.StreamResponse:
        headers = {"ETag": asset.tag, "Cache-Control": "no-cache"}
        if request.headers.get(hdrs.IF_NONE_MATCH) == asset.tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=asset.body, content_type=asset.kind, charset="utf-8", headers=headers)

    return served


def _limit(text: str) -> int:
    if not text:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MOST_TASKS):
        raise ValueError(f"limit is not a number from 1 to {MOST_TASKS}.")
    return int(text)


def _flag(text: str) -> bool:
    if text.lower() not in {"", "0", "1", "false", "no", "true", "yes"}:
        raise ValueError("unfinished is not true or false.")
    return text.lower() in {"1", "true", "yes"}


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse requests for other hosts, give all errors the same form, and add the headers."""
    response = await _answer(request, handler)
    response.headers.update(HEADERS)
    response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not is_loopback(request.headers.getall(hdrs.HOST, [])):
        text = (
            "The console answers only requests to localhost. Reach it with kubectl pantala ui or kubectl port-forward."
        )
        return error_response(421, "MisdirectedRequest", text)
    if request.method not in _METHODS:
        return error_response(405, "MethodNotAllowed", "The console is read-only. Use GET.", Allow="GET, HEAD")
    try:
        return await handler(request)
    except web.HTTPException as error:
        return error_response(error.status, error.reason.replace(" ", ""), "The console has no such route.")


def is_loopback(hosts: list[str]) -> bool:
    """True if the only ``Host`` header names a loopback host, with any port."""
    return len(hosts) == 1 and names_loopback(hosts[0])
