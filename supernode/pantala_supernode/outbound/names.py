"""Resolves host names in threads that end with the process, because a name server may never answer."""

import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from pantala_supernode.outbound.errors import CancelledTransferError, Fault, OutboundError

Lookup = Callable[[str, int], Sequence[str]]
"""Returns the addresses of a host name. Raises :class:`OSError`."""

_LOOKUPS = 512
"""The most lookups at once. 128 requests leave that many behind if each lookup takes 40 s and each wait 10 s."""


def system_lookup(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver."""
    return list(dict.fromkeys(str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))


class Names:
    """Asks for the addresses of host names. Requests that wait for the same name share one lookup.

    Nothing can end a lookup that has begun. So each has a thread of its own, which does not delay the end of the
    process.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, int], Future[Sequence[str]]] = {}

    def addresses(self, host: str, port: int, *, seconds: float, cancelled: Future[None]) -> Sequence[str]:
        """The addresses of ``host``, after at most ``seconds``. The future ``cancelled`` ends the wait.

        Raises :class:`OutboundError` and :class:`CancelledTransferError`.
        """
        pending = self._asked(host, port)
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

    def _asked(self, host: str, port: int) -> Future[Sequence[str]]:
        name = host, port
        with self._lock:
            if name in self._pending:
                return self._pending[name]
            if len(self._pending) >= _LOOKUPS:
                raise OutboundError(Fault.TIMEOUT, "the name server does not answer, and too many lookups wait for it")
            found = self._pending[name] = Future[Sequence[str]]()
        threading.Thread(target=self._ask, args=(name, found), name="lookup", daemon=True).start()
        return found

    def _ask(self, name: tuple[str, int], found: Future[Sequence[str]]) -> None:
        try:
            addresses = self._lookup(*name)
        except BaseException as error:
            self._end(name)
            found.set_exception(error)
        else:
            self._end(name)
            found.set_result(addresses)

    def _end(self, name: tuple[str, int]) -> None:
        with self._lock:
            del self._pending[name]
