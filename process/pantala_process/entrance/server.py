"""Serves an aiohttp application at sockets, within the limits of :class:`Acceptor`."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from aiohttp import web

from pantala_process.entrance.acceptor import Acceptor, FirstHead, Visit
from pantala_process.listening import listening
from pantala_process.settings import ListenAddress


@web.middleware
async def one_request(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Close each connection after its first answer. Otherwise, a few clients that stay could keep all others out."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        error.force_close()
        raise
    response.force_close()
    return response


def runner_of(
    app: web.Application,
    *,
    grace: float,
    lingering: float = 10.0,
    handler_cancellation: bool = False,
) -> web.AppRunner:
    """The runner of an application. Running requests get ``grace`` seconds to finish.

    After the answer, a request gets ``lingering`` seconds to send the rest of its body.

    It does not decompress bodies. A few compressed bytes of any client could otherwise stop the process for seconds.
    """
    return web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        shutdown_timeout=grace,
        keepalive_timeout=75.0,
        lingering_time=lingering,
        handler_cancellation=handler_cancellation,
    )


@contextlib.asynccontextmanager
async def accepting(
    runner: web.AppRunner,
    sockets: Sequence[socket.socket],
    *,
    most: int,
    tls: ssl.SSLContext | None = None,
    protocol: Callable[[Callable[[], asyncio.Protocol], Visit], asyncio.Protocol] = FirstHead,
) -> AsyncIterator[None]:
    """Accept connections for a runner that is set up, while the block runs. Open connections then continue."""
    server = runner.server
    if server is None:
        raise RuntimeError("the runner is not set up")
    acceptor = Acceptor(sockets, lambda visit: protocol(server, visit), most=most, tls=tls)
    acceptor.start()
    try:
        yield
    finally:
        acceptor.close()


@contextlib.asynccontextmanager
async def serving(
    app: web.Application, address: ListenAddress, *, grace: float, most: int, flag: str = ""
) -> AsyncIterator[int]:
    """Serve ``app`` while the block runs, and yield the port. Then running requests get ``grace`` seconds to finish.

    ``flag`` names the address in an error.
    """
    with listening(address, flag) as sockets:
        async with serving_at(app, sockets, grace=grace, most=most):
            yield int(sockets[0].getsockname()[1])


@contextlib.asynccontextmanager
async def serving_at(
    app: web.Application,
    sockets: Sequence[socket.socket],
    *,
    grace: float,
    most: int,
    lingering: float = 10.0,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[None]:
    """Serve ``app`` at bound sockets while the block runs. A client that disconnects does not end its request."""
    runner = runner_of(app, grace=grace, lingering=lingering)
    await runner.setup()
    try:
        async with accepting(runner, sockets, most=most, tls=tls):
            yield
    finally:
        await runner.cleanup()
