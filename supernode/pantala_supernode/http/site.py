"""Serves an application at an address, with a limit on connections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from aiohttp import web

from pantala_process.listening import file_limit, listening
from pantala_process.settings import ListenAddress
from pantala_process.tls.contexts import TLSContexts
from pantala_supernode.http.front import Front

_log = structlog.get_logger(__name__)

GRACE = 25.0
"""Seconds that running requests get to finish after a signal to stop. A pod is killed after 30 s."""

_HANDSHAKE = 10.0
"""Seconds that a client has for the TLS handshake."""

_LAST = 5.0
"""Seconds that the last answers of the front get, after all held requests were released."""

_BACKLOG = 1024
"""How many connections may wait in the kernel until the process accepts them."""

_WARNING_INTERVAL = 60.0
"""Seconds between two log lines about refused connections."""


@contextlib.asynccontextmanager
async def site(
    app: web.Application,
    listen: ListenAddress,
    *,
    share: float,
    front: Front | None = None,
    tls: TLSContexts | None = None,
) -> AsyncIterator[None]:
    """Serve ``app`` while the block runs. Its connections may use the fraction ``share`` of the limit of open files.

    Further connections are closed at once, because the supernode needs files for origins and the volume, too. When a
    connection closes, the handler of its request is cancelled. ``front`` serves its own routes instead of ``app``.
    """
    runner = web.AppRunner(
        app, handler_cancellation=True, access_log=None, shutdown_timeout=GRACE, keepalive_timeout=75
    )
    await runner.setup()
    files = file_limit()
    accept = _Entrance(runner, int(files * share), front)
    backlog = max(min(_BACKLOG, files // 16), 1)
    async with contextlib.AsyncExitStack() as stack:
        if front is not None:
            stack.push_async_callback(front.close, _LAST)
        stack.push_async_callback(runner.cleanup)
        if front is not None:
            stack.callback(front.drain)
        for each in stack.enter_context(listening(listen)):
            server = await asyncio.get_running_loop().create_server(
                accept,
                sock=each,
                backlog=backlog,
                ssl=tls.listener if tls else None,
                ssl_handshake_timeout=_HANDSHAKE if tls else None,
            )
            stack.callback(server.close)
        yield


class _Entrance:
    """Accepts connections while fewer than ``most`` are open, and closes further ones at once."""

    def __init__(self, runner: web.AppRunner, most: int, front: Front | None) -> None:
        self._runner = runner
        self._front = front
        self._most = most
        self._warned_at = float("-inf")

    def __call__(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        waiting = len(self._front.connections) if self._front is not None else 0
        if server is not None and len(server.connections) + waiting < self._most:
            return server() if self._front is None else self._front.protocol(server)
        now = asyncio.get_running_loop().time()
        if now - self._warned_at >= _WARNING_INTERVAL:
            self._warned_at = now
            _log.warning("too many connections: new ones are refused; raise the limit of open files", most=self._most)
        return _Refusal()


class _Refusal(asyncio.Protocol):
    """The protocol of a refused connection: it closes the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
