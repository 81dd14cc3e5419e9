"""The site that serves an application, with limits on connections."""

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator

import structlog
from aiohttp import web

from pantala_process.settings import ListenAddress

_log = structlog.get_logger(__name__)

_GRACE = 25.0
"""Seconds that running requests get after a signal to stop; less than a pod's 30."""

_BACKLOG = 1024
"""Connections that may wait to be accepted. They are all accepted at once."""

_FILES = 1 << 16
"""The most files that a supernode needs."""

_WARNING_INTERVAL = 60.0
"""Seconds between two log lines about refused connections."""


def allow_files() -> None:
    """Raise this process's limit of open files as far as needed and permitted; the default is often 1024."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    allowed = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if _files() < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _files() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _FILES if soft == resource.RLIM_INFINITY else soft


@contextlib.asynccontextmanager
async def site(app: web.Application, listen: ListenAddress, *, share: float) -> AsyncIterator[None]:
    """Serve ``app`` while the block runs, with at most this ``share`` of the files that the process may open.

    Further connections are closed at once: reading origins and the volume needs files, too. When a peer's connection
    closes, its exchange is cancelled, so that the peer counts as quiet.
    """
    runner = web.AppRunner(
        app, handler_cancellation=True, access_log=None, shutdown_timeout=_GRACE, keepalive_timeout=75
    )
    await runner.setup()
    listening: asyncio.Server | None = None
    try:
        files = _files()
        accept = _Entrance(runner, int(files * share))
        backlog = max(min(_BACKLOG, files // 16), 1)
        listening = await asyncio.get_running_loop().create_server(accept, listen.host, listen.port, backlog=backlog)
        yield
    finally:
        if listening is not None:
            listening.close()
        await runner.cleanup()


class _Entrance:
    """Accepts connections, at most ``most`` at once."""

    def __init__(self, runner: web.AppRunner, most: int) -> None:
        self._runner = runner
        self._most = most
        self._warned_at = float("-inf")

    def __call__(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        if server is not None and len(server.connections) < self._most:
            return server()
        now = asyncio.get_running_loop().time()
        if now - self._warned_at >= _WARNING_INTERVAL:
            self._warned_at = now
            _log.warning("too many connections: new ones are refused; raise the limit of open files", most=self._most)
        return _Refusal()


class _Refusal(asyncio.Protocol):
    """Closes a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
