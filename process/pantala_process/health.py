"""The routes ``/healthz`` (the process lives), ``/readyz`` (the process can do its work now) and ``/metrics``.

They have a port and a thread of their own. So probes succeed even if clients use up the connections of other ports.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from pantala_process import metrics
from pantala_process.entrance.server import one_request, serving_at
from pantala_process.http import ErrorDetail, error_response, json_response
from pantala_process.listening import file_limit, listening
from pantala_process.settings import ListenAddress

T = TypeVar("T")

Check = Callable[[], Sequence[str]]
"""Returns the reasons why the process is not healthy, or not ready. Empty: it is healthy, or ready."""

_MOST, _SHARE = 64, 1 / 16
"""The most connections at the port, as a number and as a part of the limit of open files. The lower one counts."""

_PATIENCE = 4.0
"""Seconds that the event loop of the process may take to answer. A probe waits 5 s."""


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
    """Answer 200 if ``reasons`` is empty, else 503 with ``reasons``. ``reason`` is the short name of the error."""
    if not reasons:
        return json_response(Health())
    return json_response(Unhealthy(ErrorDetail(reason, "; ".join(reasons)), tuple(reasons)), 503)


@contextlib.asynccontextmanager
async def serving(
    address: ListenAddress | None, registry: CollectorRegistry | None, *, ready: Check, alive: Check = tuple
) -> AsyncIterator[int]:
    """Serve the routes in a thread while the block runs, and yield the port. Without ``registry``: no ``/metrics``.

    Without ``address``, nothing is served. The checks run in the caller's event loop, because they read its objects.
    Raises :class:`OSError`.
    """
    if address is None:
        yield 0
        return
    loop = asyncio.get_running_loop()
    with listening(address, "--health-listen") as sockets:
        app = _application(loop, registry, ready=ready, alive=alive)
        up: Future[Callable[[], object]] = Future()
        thread = threading.Thread(target=_run, args=(app, sockets, up), name="health", daemon=True)
        thread.start()
        try:
            await asyncio.to_thread(up.result)
            yield int(sockets[0].getsockname()[1])
        finally:
            await asyncio.to_thread(_end, thread, up)


def _run(app: web.Application, sockets: Sequence[socket.socket], up: Future[Callable[[], object]]) -> None:
    """Serve until another thread calls the function in ``up``. If the server fails to start, ``up`` has its error."""
    try:
        with asyncio.Runner() as runner:
            runner.run(_serve(app, sockets, up))
    except Exception as error:
        if up.done():
            raise
        up.set_exception(error)


async def _serve(app: web.Application, sockets: Sequence[socket.socket], up: Future[Callable[[], object]]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    most = min(_MOST, int(file_limit() * _SHARE))
    async with serving_at(app, sockets, grace=1.0, most=most, lingering=0.0):
        up.set_result(lambda: loop.call_soon_threadsafe(stop.set))
        await stop.wait()


def _end(thread: threading.Thread, up: Future[Callable[[], object]]) -> None:
    """Wait until the server has started, stop it, and wait for its thread.

    An earlier stop would close its sockets while it starts.
    """
    with contextlib.suppress(Exception):  # the server has failed
        up.result()()
    thread.join()


async def _called(loop: asyncio.AbstractEventLoop, function: Callable[[], T]) -> T:
    """The result of a function in the event loop of the process. Raises :class:`TimeoutError` if it does not answer."""

    async def called() -> T:
        return function()

    return await asyncio.wait_for(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(called(), loop)), _PATIENCE)


def _application(
    process: asyncio.AbstractEventLoop, registry: CollectorRegistry | None, *, ready: Check, alive: Check
) -> web.Application:
    async def checked(check: Check, reason: str) -> web.Response:
        try:
            return health_response(await _called(process, check), reason)
        except TimeoutError:
            return health_response([_silence()], reason)

    async def healthz(_request: web.Request) -> web.Response:
        return await checked(alive, "NotAlive")

    async def readyz(_request: web.Request) -> web.Response:
        return await checked(ready, "NotReady")

    app = web.Application(middlewares=[one_request])
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    if registry is not None:
        shown = registry

        async def exposition(_request: web.Request) -> web.Response:
            try:
                return await _called(process, lambda: metrics.metrics_response(shown))
            except TimeoutError:
                return error_response(503, "NotAlive", _silence())

        app.router.add_get("/metrics", exposition)
    return app


def _silence() -> str:
    return f"the process has not answered for {_PATIENCE:g} s"
