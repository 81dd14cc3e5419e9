"""``/healthz``: the process lives. ``/readyz``: it is registered with the supernode, or why not."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from pantala_pieces.server import error_response


def application(why_not_ready: Callable[[], str]) -> web.Application:
    """The two routes; ``why_not_ready`` says what is missing, or nothing."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        why_not = why_not_ready()
        return error_response(503, "NotReady", why_not) if why_not else web.Response(text="ok\n")

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app
