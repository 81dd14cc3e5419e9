"""Resolves host names in threads of their own, because a name server may never answer.

asyncio resolves names in the threads that also read files. Then no file can be read until the name server answers.
"""

import asyncio
import functools
import ipaddress
import socket
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")

_LIMIT = 10.0
"""Seconds that a caller in the event loop waits for a name server."""

_MOST = 512
"""The most lookups at once. If 128 callers wait 10 s each, and each lookup takes 40 s, 512 lookups run at once."""


class LookupsBusyError(OSError):
    """Too many lookups wait for a name server, or the system has no thread for another one."""

    def __init__(self) -> None:
        super().__init__("the name server does not answer, and too many lookups wait for it")


class LookupThreads(Generic[K, R]):
    """Calls ``lookup`` in threads. Callers with the same key share one call. Any thread may use this.

    Nothing can end a lookup that has begun. So each lookup has a thread of its own, which does not delay the end of the
    process.
    """

    def __init__(self, lookup: Callable[[K], R], most: int = _MOST) -> None:
        self._lookup = lookup
        self._most = most
        self._lock = threading.Lock()
        self._pending: dict[K, Future[R]] = {}

    def ask(self, key: K) -> Future[R]:
        """The future result for ``key``. A caller cannot cancel the lookup. Raises :class:`LookupsBusyError`."""
        with self._lock:
            if key in self._pending:
                return self._pending[key]
            if len(self._pending) >= self._most:
                raise LookupsBusyError
            found = self._pending[key] = Future[R]()
            found.set_running_or_notify_cancel()
        try:
            threading.Thread(target=self._ask, args=(key, found), name="lookup", daemon=True).start()
        except RuntimeError as error:  # the system has no thread left
            busy = LookupsBusyError()
            self._end(key)
            found.set_exception(busy)  # for callers that share it since a moment
            raise busy from error
        return found

    def _ask(self, key: K, found: Future[R]) -> None:
        try:
            result = self._lookup(key)
        except BaseException as error:
            self._end(key)
            found.set_exception(error)
        else:
            self._end(key)
            found.set_result(result)

    def _end(self, key: K) -> None:
        with self._lock:
            del self._pending[key]


AddressInfo = list[tuple[Any, ...]]
"""What :func:`socket.getaddrinfo` returns."""

_Query = tuple[Any, ...]
"""The arguments of :func:`socket.getaddrinfo`."""


class NamesEventLoop(asyncio.SelectorEventLoop):
    """asyncio's event loop, but names are resolved in threads of their own, within :data:`_LIMIT` seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._lookups: LookupThreads[_Query, AddressInfo] = LookupThreads(_getaddrinfo)

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's name
        proto: int = 0,
        flags: int = 0,
    ) -> AddressInfo:
        query = host, port, family, type, proto, flags
        if is_address(host):
            return _getaddrinfo(query)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._lookups.ask(query)), _LIMIT)
        except TimeoutError:
            raise TimeoutError(f"the name server does not answer for {host!r}") from None


def addresses(host: str, port: int, *, seconds: float) -> AddressInfo:
    """Resolve a host name for a TCP connection, for a caller in any thread. Raises :class:`OSError`."""
    query = host, port, 0, socket.SOCK_STREAM, 0, 0
    if is_address(host):
        return _getaddrinfo(query)
    try:
        return _shared().ask(query).result(max(seconds, 0.0))
    except FutureTimeoutError:
        raise TimeoutError(f"the name server does not answer for {host!r}") from None


def is_address(host: object) -> bool:
    """True if ``host`` is an IP address, which needs no lookup."""
    try:
        ipaddress.ip_address(host if isinstance(host, str) else "")
    except ValueError:
        return False
    return True


@functools.cache
def _shared() -> LookupThreads[_Query, AddressInfo]:
    """The lookups of all threads of the process."""
    return LookupThreads(_getaddrinfo)


def _getaddrinfo(query: _Query) -> AddressInfo:
    try:
        return list(socket.getaddrinfo(*query))
    except UnicodeError as error:
        raise OSError(f"{query[0]!r} is not a valid name of a host") from error
