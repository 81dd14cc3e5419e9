"""Builds the aiohttp application at the API port from the table of operations."""

from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from pantala_process.metrics import metrics_response
from pantala_supernode.http.access import IDENTITY, Access, Guard, Handler
from pantala_supernode.http.failures import failure_of
from pantala_supernode.http.operations import Operation, document, mount
from pantala_supernode.metrics import Metrics

_REFUSED = frozenset({401, 403, 404, 405})
MAX_BODY = 64 * 1024 * 1024
"""The most bytes of a request's body: enough for a statement of some ten thousand Tasks."""


def application(
    operations: Iterable[Operation], guard: Guard, metrics: Metrics, *, document_access: Access, metrics_access: Access
) -> web.Application:
    """An application with the routes of ``operations``, of their OpenAPI document and of ``metrics``."""

    async def exposition(_request: web.Request) -> web.Response:
        return metrics_response(metrics.registry)

    async def openapi(_request: web.Request) -> web.Response:
        return web.Response(body=described, content_type="application/json")

    table = (
        *operations,
        Operation("GET", "/metrics", exposition, metrics_access, "Read metrics in Prometheus' format", {200: str}),
        Operation("GET", "/openapi.json", openapi, document_access, "Read this document", {200: dict[str, Any]}),
    )
    described = msgspec.json.encode(document(table))
    app = web.Application(middlewares=[_counted(metrics, guard), _errors, guard.middleware], client_max_size=MAX_BODY)
    mount(table, app.router, guard)
    return app


def _counted(metrics: Metrics, guard: Guard) -> Middleware:
    """Count the answers. Close connections of clients without a token, because these could use all connections."""

    @web.middleware
    async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
        answer = await handler(request)
        metrics.answered(answer.status)
        free = guard.decision(request.match_info.route) in (Access.OPEN, Access.METRICS)
        if IDENTITY not in request and (free or answer.status in _REFUSED):
            answer.force_close()
        return answer

    return counted


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Exception as error:
        return failure_of(error, request.method, request.path).response()
