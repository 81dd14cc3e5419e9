"""Watches with kopf. Its handlers only pass events on: they write nothing and set no finalizer.

kopf ends all other tasks of its event loop when it ends. It ends when credentials are refused or a CRD is removed.
So it runs in a thread with an event loop of its own. When it ends, this module starts it again.
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import kopf
import structlog

from pantala_operator.resources.api import GROUP, VERSION, Node
from pantala_operator.watch.kinds import ServedKinds
from pantala_operator.watch.observation import KINDS, ResourceInbox
from pantala_process.backoff import Backoff
from pantala_process.http import connection_problem

log = structlog.get_logger(__name__)

FindLogin = Callable[[], Awaitable[kopf.ConnectionInfo]]
"""Finds credentials. kopf's thread awaits it, so it must not belong to another event loop."""
Put = Callable[[str, kopf.RawEvent], None]
"""Takes the plural name of a kind, and an event about one of its objects."""
_LOGGERS = ("kopf._cogs.clients.watching", "kopf._core.reactor.observation")
"""kopf's loggers of failed requests."""


class EndlessBackoffs:
    """The seconds between kopf's attempts: 1, doubled up to 8, with jitter, without end.

    After the last value of a finite sequence, kopf would never try again.
    """

    def __iter__(self) -> Iterator[float]:
        backoff = Backoff(1.0, 8.0)
        while True:
            yield backoff.next()


async def watch(inbox: ResourceInbox, kinds: ServedKinds, find_login: FindLogin) -> None:
    """Keep kopf running while the API server serves our custom resources. Without them, kopf would do nothing."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_without_classes)
    backoff = Backoff(1, 15)
    loop = asyncio.get_running_loop()
    while True:
        await kinds.served()
        inbox.begin()
        began = loop.time()
        try:
            await _watch_once(inbox, kinds, find_login)
        except Exception as error:
            log.warning("The API watch ended. The operator restarts it.", error=f"{type(error).__name__}: {error}")
        if loop.time() - began > 60:
            backoff.reset()
        await backoff.pause()


def _without_classes(record: logging.LogRecord) -> bool:
    """Replace the text of a failed request, because kopf writes the name of a Python class for the reason."""
    (what, arrow, _), error = record.getMessage().partition(" -> "), sys.exc_info()[1]
    if arrow and isinstance(error, Exception):
        status, text = getattr(error, "status", None), getattr(error, "message", None)
        why = text or (connection_problem(error) if status is None else f"HTTP {status}")
        record.msg = f"A request of the watch failed: {what.partition(': ')[2]} ({why}). The operator retries."
        record.args, record.levelno, record.levelname = None, logging.WARNING, "WARNING"
    return True


async def _watch_once(inbox: ResourceInbox, kinds: ServedKinds, find_login: FindLogin) -> None:
    """Run kopf until it ends, or until a CRD of ours is removed."""
    loop = asyncio.get_running_loop()
    stop: concurrent.futures.Future[None] = concurrent.futures.Future()
    ended: concurrent.futures.Future[None] = concurrent.futures.Future()

    def put(kind: str, event: kopf.RawEvent) -> None:
        if not stop.done():
            loop.call_soon_threadsafe(inbox.put, kind, event["type"], event["object"])

    def operate() -> None:
        try:
            asyncio.run(_operate(put, find_login, stop))
        except Exception as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    # A daemon thread: if kopf does not stop, the process still ends.
    thread = threading.Thread(target=operate, name="watch", daemon=True)
    thread.start()
    kopf_ended = asyncio.wrap_future(ended)
    missing = asyncio.create_task(kinds.missing())
    try:
        await asyncio.wait((kopf_ended, missing), return_when=asyncio.FIRST_COMPLETED)
    finally:
        missing.cancel()
        stop.set_result(None)
        await asyncio.to_thread(thread.join, 10)
    if kopf_ended.done():
        kopf_ended.result()


async def _operate(put: Put, find_login: FindLogin, stop: concurrent.futures.Future[None]) -> None:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def credentials(**_: Any) -> kopf.ConnectionInfo:
        """Log in at the start, and when the API server refuses a token that was rotated since."""
        return await find_login()

    for kind, into in KINDS.items():
        group, version = ("", "v1") if into is Node else (GROUP, VERSION)

        @kopf.on.event(group, version, kind, registry=registry, id=kind)
        async def handle(event: kopf.RawEvent, kind: str = kind, **_: Any) -> None:
            put(kind, event)

    # An event of kopf's own loop: kopf would wait for a threading.Event in a thread that outlives kopf.
    flag, loop = asyncio.Event(), asyncio.get_running_loop()

    def raise_flag(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(flag.set)

    stop.add_done_callback(raise_flag)
    await kopf.operator(
        registry=registry,
        settings=_settings(),
        clusterwide=True,
        standalone=True,
        # Without an identity, kopf looks up the user's name, and the pod's user has no name.
        identity="pantala-operator",  # type: ignore[arg-type]
        stop_flag=flag,
    )


def _settings() -> kopf.OperatorSettings:
    """Return kopf's settings. Each value was measured; docs/adr/0002-level-based-operator.md has the reasons."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.networking.error_backoffs = EndlessBackoffs()
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 30
    settings.watching.server_timeout = 45
    settings.watching.inactivity_timeout = 60
    settings.watching.connect_timeout = 5
    settings.watching.chunk_size = 500
    settings.process.ultimate_exiting_timeout = None
    return settings
