"""kopf, embedded: it watches, and does nothing else.

It runs in a thread with an event loop of its own, since it ends all other tasks of its event loop when it ends; and it
ends when credentials are refused or a CRD goes. Then it is started anew.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import random
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import kopf
import structlog

from pantala_operator.backoff import Backoff
from pantala_operator.ports import Inbox, Kinds, Login
from pantala_operator.watch import handlers, login

log = structlog.get_logger(__name__)

FindLogin = Callable[[], Awaitable[Login]]
"""Finds credentials; awaited in kopf's thread, so that it must not hold on to an event loop."""


class EndlessBackoffs:
    """Seconds between kopf's tries: 1 doubling to 8 with jitter, and never the last one.

    With a last one, kopf would give an object up for good.
    """

    def __iter__(self) -> Iterator[float]:
        """Begin anew."""
        pause = 1.0
        while True:
            yield pause * random.uniform(0.5, 1)  # noqa: S311 - not for secrets
            pause = min(pause * 2, 8.0)


class KopfWatch:
    """Keeps kopf running while our kinds are served; ``started`` is called each time it begins."""

    def __init__(self, inbox: Inbox, credentials: FindLogin, kinds: Kinds, started: Callable[[], None]) -> None:
        """``kinds``: kopf would be idle for ever if it were started while ours are not served."""
        self._inbox = inbox
        self._credentials = credentials
        self._kinds = kinds
        self._started = started

    async def run(self) -> None:
        """Watch, for ever."""
        backoff = Backoff(1, 15)
        loop = asyncio.get_running_loop()
        while True:
            await self._kinds.served()
            self._started()
            began = loop.time()
            try:
                await self._watch()
            except Exception as error:
                log.warning("Watching ended; it is started anew", error=f"{type(error).__name__}: {error}")
            if loop.time() - began > 60:
                backoff.reset()
            await backoff.pause()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        stop: concurrent.futures.Future[None] = concurrent.futures.Future()
        inbox = _Bridge(self._inbox, loop)
        thread = threading.Thread(
            target=_run, args=(inbox, self._credentials, stop, loop, done), name="watch", daemon=True
        )
        thread.start()
        missing = asyncio.create_task(self._kinds.missing())
        try:
            await asyncio.wait((done, missing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            missing.cancel()
            stop.set_result(None)
            inbox.close()
            await asyncio.to_thread(thread.join, 10)
        if done.done():
            done.result()


class _Bridge:
    """Takes events in one thread and puts them into an inbox of another."""

    def __init__(self, inbox: Inbox, loop: asyncio.AbstractEventLoop) -> None:
        self._inbox = inbox
        self._loop = loop
        self._open = True

    def put(self, kind: str, event: str | None, body: Mapping[str, Any]) -> None:
        """See :class:`pantala_operator.ports.Inbox`."""
        if self._open:
            self._loop.call_soon_threadsafe(self._inbox.put, kind, event, body)

    def close(self) -> None:
        self._open = False


def _run(
    inbox: Inbox,
    credentials: FindLogin,
    stop: concurrent.futures.Future[None],
    loop: asyncio.AbstractEventLoop,
    done: asyncio.Future[None],
) -> None:
    problem: Exception | None = None
    try:
        asyncio.run(_operate(inbox, credentials, stop))
    except Exception as error:
        problem = error

    def finish() -> None:
        if not done.done():
            if problem is None:
                done.set_result(None)
            else:
                done.set_exception(problem)

    if not loop.is_closed():
        loop.call_soon_threadsafe(finish)


async def _operate(inbox: Inbox, credentials: FindLogin, stop: concurrent.futures.Future[None]) -> None:
    registry = kopf.OperatorRegistry()
    login.register(registry, credentials)
    handlers.register(registry, inbox)
    # kopf would wait for a flag of another thread in a thread that nothing ends when kopf ends by itself.
    flag, loop = asyncio.Event(), asyncio.get_running_loop()

    def raise_flag(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # The loop has ended already.
            loop.call_soon_threadsafe(flag.set)

    stop.add_done_callback(raise_flag)
    await kopf.operator(
        registry=registry,
        settings=_settings(),
        clusterwide=True,
        standalone=True,
        # Else it asks for the user's name, which a pod's user has not.
        identity="pantala-operator",  # type: ignore[arg-type]
        stop_flag=flag,
    )


def _settings() -> kopf.OperatorSettings:
    """Each value was measured; the reasons are in docs/adr/0002-level-based-operator.md."""
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
