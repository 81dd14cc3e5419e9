"""Serves an application at an address, with a limit on connections."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from pantala_process.entrance.acceptor import Acceptor, FirstHead
from pantala_process.entrance.server import runner_of
from pantala_process.listening import file_limit, listening
from pantala_process.settings import ListenAddress
from pantala_process.tls.contexts import TLSContexts
from pantala_supernode.http.front import Front

GRACE = 25.0
"""Seconds that running requests get to finish after a signal to stop. Kubernetes kills a pod after 30 s."""

_LINGERING = 2.0
"""Seconds that a refused request gets to send the rest of its body. Otherwise the client may lose the answer."""

_LAST = 5.0
"""Seconds that the front's last answers get, after all held requests were answered."""


@contextlib.asynccontextmanager
async def site(
    app: web.Application,
    listen: ListenAddress,
    *,
    share: float,
    front: Front | None = None,
    tls: TLSContexts | None = None,
) -> AsyncIterator[int]:
    """Serve ``app`` while the block runs, and yield the port.

    Its connections may use the fraction ``share`` of the limit of open files. Further connections are closed at once,
    because the supernode also needs files for origins and the volume. When a connection closes, the handler of its
    request is cancelled. ``front`` serves its own routes instead of ``app``.
    """
    runner = runner_of(app, grace=GRACE, lingering=_LINGERING, handler_cancellation=True)
    await runner.setup()
    server = runner.server
    if server is None:
        raise RuntimeError("the runner is not set up")
    async with contextlib.AsyncExitStack() as stack:
        if front is not None:
            stack.push_async_callback(front.close, _LAST)
        stack.push_async_callback(runner.cleanup)
        if front is not None:
            stack.callback(front.drain)
        sockets = stack.enter_context(listening(listen))
        acceptor = Acceptor(
            sockets,
            lambda visit: FirstHead(server(), visit) if front is None else front.protocol(server, visit),
            most=int(file_limit() * share),
            tls=tls.listener if tls else None,
        )
        acceptor.start()
        stack.callback(acceptor.close)
        yield int(sockets[0].getsockname()[1])
