"""Serves an application at an address, with a limit on connections."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from pantala_process.entrance.server import accepting, runner_of
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
    app: web.Application, front: Front, listen: ListenAddress, *, share: float, tls: TLSContexts | None = None
) -> AsyncIterator[int]:
    """Serve ``app`` while the block runs, and yield the port. ``front`` serves its own routes instead of ``app``.

    Its connections may use the fraction ``share`` of the limit of open files. Further connections are closed at once,
    because the supernode also needs files for origins and the volume. When a connection closes, the handler of its
    request is cancelled.
    """
    runner = runner_of(app, grace=GRACE, lingering=_LINGERING, handler_cancellation=True)
    await runner.setup()
    most, context = int(file_limit() * share), tls.listener if tls else None
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(front.close, _LAST)
        stack.push_async_callback(runner.cleanup)
        stack.callback(front.drain)
        sockets = stack.enter_context(listening(listen, "--listen"))
        await stack.enter_async_context(accepting(runner, sockets, most=most, tls=context, protocol=front.protocol))
        yield int(sockets[0].getsockname()[1])
