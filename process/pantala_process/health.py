"""The routes ``/healthz`` (the process lives), ``/readyz`` (the process can do its work now) and ``/metrics``.

They have a port and a thread of their own. So probes succeed even if clients use up the connections of other ports.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Sequence
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
    with listening(address) as sockets:
        app = _application(_Process(asyncio.get_running_loop()), registry, ready=ready, alive=alive)
        server = _Server(app, sockets)
        server.start()
        try:
            await asyncio.to_thread(server.wait)
            yield int(sockets[0].getsockname()[1])
        finally:
            await asyncio.to_thread(server.stop)


class _Process:
    """The event loop of the process, seen from the thread of the probes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    async def call(self, function: Callable[[], T]) -> T:
        """The result of a function in the event loop. Raises :class:`TimeoutError` if the loop does not answer."""

        async def called() -> T:
            return function()

        answer = asyncio.run_coroutine_threadsafe(called(), self._loop)
        return await asyncio.wait_for(asyncio.wrap_future(answer), _PATIENCE)


def _application(
    process: _Process, registry: CollectorRegistry | None, *, ready: Check, alive: Check
) -> web.Application:
    async def checked(check: Check, reason: str) -> web.Response:
        try:
            return health_response(await process.call(check), reason)
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
                return await process.call(lambda: metrics.metrics_response(shown))
            except TimeoutError:
                return error_response(503, "NotAlive", _silence())

        app.router.add_get("/metrics", exposition)
    return app


def _silence() -> str:
    return f"the process has not answered for {_PATIENCE:g} s"


class _Server:
    """Serves an application in a thread with its own event loop."""

    def __init__(self, app: web.Application, sockets: Sequence[socket.socket]) -> None:
        self._app = app
        self._sockets = sockets
        self._up = threading.Event()
        self._error: OSError | None = None
        self._stop: Callable[[], object] = lambda: None
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait(self) -> None:
        """Wait until the server accepts connections. Raises :class:`OSError` if it has failed."""
        self._up.wait()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        self._up.wait()  # else the sockets would be closed while the thread begins to use them
        with contextlib.suppress(RuntimeError):  # the server has failed
            self._stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._error = error
        finally:
            self._up.set()

    async def _serve(self) -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        self._stop = lambda: loop.call_soon_threadsafe(stop.set)
        most = min(_MOST, int(file_limit() * _SHARE))
        async with serving_at(self._app, self._sockets, grace=1.0, most=most, lingering=0.0):
            self._up.set()
            await stop.wait()
