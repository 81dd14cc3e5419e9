"""Where an application is served."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from pantala_supernode.settings import Listen

_GRACE = 25.0
"""Seconds that requests under way may take after a signal to stop; less than a pod's 30."""


@contextlib.asynccontextmanager
async def site(app: web.Application, listen: Listen) -> AsyncIterator[None]:
    """Serve ``app`` while the block runs.

    A peer whose connection is gone must not be held on: its exchange is cancelled, and it counts as quiet.
    """
    runner = web.AppRunner(
        app, handler_cancellation=True, access_log=None, shutdown_timeout=_GRACE, keepalive_timeout=75
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, listen.host, listen.port, backlog=1024).start()
        yield
    finally:
        await runner.cleanup()
