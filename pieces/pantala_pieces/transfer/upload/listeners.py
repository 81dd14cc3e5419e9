"""The sockets at which connections for pieces arrive."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Sequence

import structlog

from pantala_process.listening import plain_address

_log = structlog.get_logger(__name__)

_WARNING_INTERVAL = 60.0
"""Seconds between two log lines about connections that cannot be accepted."""

_AT_ONCE = 64
"""Connections that are accepted before other work gets its turn."""


class Listeners:
    """Accepts connections, and hands each with its address to ``welcome``. Only one thread may use it.

    Without a descriptor or memory for a connection, it pauses until the next :meth:`listen`.
    """

    def __init__(
        self, sockets: Sequence[socket.socket], epoll: select.epoll, welcome: Callable[[socket.socket, str], None]
    ) -> None:
        self.accepting = False
        self._sockets = {each.fileno(): each for each in sockets}
        self._epoll = epoll
        self._welcome = welcome
        self._warned_at = float("-inf")

    def __contains__(self, number: int) -> bool:
        return number in self._sockets

    def listen(self, wanted: bool) -> None:
        if self.accepting != wanted:
            self.accepting = wanted
            for number in self._sockets:
                if wanted:
                    self._epoll.register(number, select.EPOLLIN)
                else:
                    self._epoll.unregister(number)

    def accept(self, number: int) -> None:
        """Accept the connections that wait at one socket."""
        for _ in range(_AT_ONCE):
            try:
                accepted, source = self._sockets[number].accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # the client has gone
            except OSError as error:  # no descriptor or memory is left
                self.listen(False)
                self.warn("cannot accept connections for pieces; trying again", reason=str(error))
                return
            self._welcome(accepted, plain_address(str(source[0])))

    def close(self) -> None:
        self.listen(False)
        for each in self._sockets.values():
            each.close()

    def warn(self, event: str, **values: object) -> None:
        now = time.monotonic()
        if now - self._warned_at >= _WARNING_INTERVAL:
            self._warned_at = now
            _log.warning(event, **values)
