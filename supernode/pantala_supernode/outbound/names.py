"""Resolves host names in threads that do not delay the end of the process, because a name server may never answer."""

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from pantala_process.names import LookupsBusyError, LookupThreads
from pantala_supernode.outbound.errors import CancelledTransferError, Fault, OutboundError

Lookup = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a host name. Raises :class:`OSError`."""


def system_lookup(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


class Names:
    """Finds the addresses of host names. Requests that wait for the same name share one lookup."""

    def __init__(self, lookup: Lookup) -> None:
        self._threads: LookupThreads[tuple[str, int], Sequence[str]] = LookupThreads(lambda name: lookup(*name))

    def addresses(self, host: str, port: int, *, seconds: float, cancelled: Future[None]) -> Sequence[str]:
        """The addresses of ``host``, after at most ``seconds``. The future ``cancelled`` ends the wait.

        Raises :class:`OutboundError` and :class:`CancelledTransferError`.
        """
        try:
            pending = self._threads.ask((host, port))
        except LookupsBusyError as error:
            raise OutboundError(Fault.TIMEOUT, str(error)) from None
        ends: tuple[Future[Any], ...] = pending, cancelled
        wait(ends, seconds, FIRST_COMPLETED)
        if cancelled.done():
            raise CancelledTransferError
        if not pending.done():
            raise OutboundError(Fault.TIMEOUT, "the name server does not answer")
        try:
            return pending.result()
        except (OSError, UnicodeError):
            raise OutboundError(Fault.HOST_UNKNOWN) from None
