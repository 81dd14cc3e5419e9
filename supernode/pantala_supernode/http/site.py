"""Where an application is served."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator

import structlog
from aiohttp import web

from pantala_supernode.settings import Listen

_log = structlog.get_logger(__name__)

_GRACE = 25.0
"""Seconds that requests under way may take after a signal to stop; less than a pod's 30."""

_BACKLOG = 1024
"""Connections that wait to be accepted, and that are accepted in one go."""

_FILES = 1 << 16
"""More files are not needed."""

_QUIET = 60.0
"""Seconds between two words in the log about connections that are refused."""


def allow_files() -> None:
    """Let this process open as many files and connections as it needs, if it may: often it begins with 1024."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    allowed = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if _files() < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _files() -> int:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _FILES if soft == resource.RLIM_INFINITY else soft


@contextlib.asynccontextmanager
async def site(app: web.Application, listen: Listen, *, share: float) -> AsyncIterator[None]:
    """Serve ``app`` while the block runs, with at most this ``share`` of the files that the process may open.

    A connection more is closed at once: without a file left, neither origins nor the volume could be read for those
    who are there. A peer whose connection is gone must not be held on: its exchange is cancelled, it counts as quiet.
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
    """Takes connections, ``most`` at once."""

    def __init__(self, runner: web.AppRunner, most: int) -> None:
        self._runner = runner
        self._most = most
        self._told = float("-inf")

    def __call__(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        if server is not None and len(server.connections) < self._most:
            return server()
        now = asyncio.get_running_loop().time()
        if now - self._told >= _QUIET:
            self._told = now
            _log.warning("connections are refused; raise the limit of open files", most=self._most)
        return _Refusal()


class _Refusal(asyncio.Protocol):
    """Closes a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
