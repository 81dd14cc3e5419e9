"""The registries that the cases pull from, beside the one that Pantala's own images are in."""

import secrets
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from testbed.cluster.registry_host import RegistryHost

USER = "ann"


class Registries:
    """Run while entered."""

    def __init__(self) -> None:
        self.password = secrets.token_hex(16)
        """Of :data:`USER` at the private one; of characters that no encoding changes, so that it can be looked for."""
        self.site = RegistryHost("site")
        self.private = RegistryHost("private", {USER: self.password})
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for host in (self.site, self.private):
                stack.enter_context(host)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def reset(self) -> None:
        """Both run, at full speed, and have not sent anything yet."""
        for host in (self.site, self.private):
            host.registry.stop()
            host.registry.start()
            host.shape("")
            host.registry.forget()
