"""An origin in a thread."""

import asyncio
import threading

from testbed.origin import Origin


class OriginThread:
    """Runs an origin in a thread, for tests that are not coroutines. Tests may read the origin's state."""

    def __init__(self, host: str) -> None:
        self.origin = Origin(host)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="origin")

    def __enter__(self) -> Origin:
        self._thread.start()
        return asyncio.run_coroutine_threadsafe(self.origin.__aenter__(), self._loop).result(timeout=10)

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.origin.__aexit__(None, None, None), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
