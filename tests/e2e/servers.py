"""The origin and the registries that the cases read from."""

import asyncio
import secrets
import threading
from contextlib import ExitStack
from typing import Self

from testbed.cluster.registry_host import RegistryHost
from testbed.origin import Origin

USER = "ann"


class OriginThread:
    """Runs an :class:`Origin` in a thread, because the cases are not coroutines. They may read its state."""

    def __init__(self, host: str) -> None:
        self.origin = Origin(host)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="origin")

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.origin.__aenter__(), self._loop).result(timeout=10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.origin.__aexit__(None, None, None), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Registries:
    """A public and a private registry. Another registry has Pantala's own images."""

    def __init__(self) -> None:
        # No encoding changes these characters, so a case can search for the password.
        self.password = secrets.token_hex(16)
        self.site = RegistryHost("site")
        self.private = RegistryHost("private", {USER: self.password})
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for host in (self.site, self.private):
                stack.enter_context(host)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def reset(self) -> None:
        for host in (self.site, self.private):
            host.registry.stop()
            host.registry.start()
            host.shape("")
            host.registry.forget()
