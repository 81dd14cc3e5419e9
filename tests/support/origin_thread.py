"""Servers in a thread, for tests that are not coroutines. Tests may read their state."""

import asyncio
import ssl
import threading
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from testbed.origin import Origin

T = TypeVar("T")


class ServerThread(Generic[T]):
    """Runs a server in a thread with an event loop of its own."""

    def __init__(self, server: AbstractAsyncContextManager[T]) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=type(server).__name__)

    def __enter__(self) -> T:
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self._server.__aenter__(), self._loop).result(timeout=10)

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._server.__aexit__(None, None, None), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class OriginThread(ServerThread[Origin]):
    """Runs an origin."""

    def __init__(self, host: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(Origin(host, tls=tls))
