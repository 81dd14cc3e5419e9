"""An HTTP server in the test's event loop."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def web_server(*routes: web.RouteDef, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve ``routes`` on 127.0.0.1 while the block runs, and yield the port.

    A handler is cancelled when its client disconnects.
    """
    app = web.Application(client_max_size=1 << 26)
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
