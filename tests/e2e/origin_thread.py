"""An origin that serves while a test, which is no coroutine, waits for something else."""

import asyncio
import threading
from types import TracebackType
from typing import Self

from testbed.origin import Origin


class OriginThread:
    """Runs an :class:`Origin` in a thread of its own; gives the origin itself, whose state may be read from outside."""

    def __init__(self, host: str) -> None:
        self.origin = Origin(host)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="origin")

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.origin.__aenter__(), self._loop).result(timeout=10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self.origin.__aexit__(None, None, None), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
