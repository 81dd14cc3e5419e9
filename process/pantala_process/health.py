"""The routes ``/healthz`` (the process lives), ``/readyz`` (the process can do its work now) and ``/metrics``."""

from collections.abc import Callable, Sequence

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from pantala_process import metrics
from pantala_process.http import ErrorDetail, json_response

Check = Callable[[], Sequence[str]]
"""Returns the reasons why the process is not healthy, or not ready. Empty if it is."""


class Health(msgspec.Struct, frozen=True):
    """The body of ``/healthz`` and ``/readyz`` with status 200."""

    status: str = "ok"
    reasons: tuple[str, ...] = ()


class Unhealthy(msgspec.Struct, frozen=True):
    """The body of ``/healthz`` and ``/readyz`` with status 503. Its field ``error`` is as in all error answers."""

    error: ErrorDetail
    reasons: tuple[str, ...]
    status: str = "unavailable"


def health_response(reasons: Sequence[str], reason: str = "NotReady") -> web.Response:
    """Answer 200 if ``reasons`` is empty, else 503 with them. ``reason`` is the short name of the error."""
    if not reasons:
        return json_response(Health())
    return json_response(Unhealthy(ErrorDetail(reason, "; ".join(reasons)), tuple(reasons)), 503)


def application(registry: CollectorRegistry, *, ready: Check, alive: Check = tuple) -> web.Application:
    """An application with the routes ``/healthz``, ``/readyz`` and ``/metrics``."""

    async def healthz(_request: web.Request) -> web.Response:
        return health_response(alive(), "NotAlive")

    async def readyz(_request: web.Request) -> web.Response:
        return health_response(ready())

    async def exposition(_request: web.Request) -> web.Response:
        return metrics.metrics_response(registry)

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", exposition)
    return app
