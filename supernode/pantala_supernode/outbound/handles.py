"""A pool of libcurl's easy handles. A handle keeps its open connections, and serves the origin that used it last."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pycurl

Origin = tuple[str, str, int]

_IDLE = 64
"""The most idle handles. If there are more, the handle that has been idle the longest is closed."""


@dataclass(frozen=True, slots=True)
class Handle:
    """An easy handle, and duplicates of its sockets. Another thread can end a transfer only by shutting these down."""

    curl: pycurl.Curl = field(default_factory=pycurl.Curl)
    sockets: list[socket.socket] = field(default_factory=list)

    def keep_active(self) -> None:
        """Keep only the duplicate of the socket that the next transfer may use again."""
        descriptor = self.curl.getinfo(pycurl.ACTIVESOCKET)
        self._close_sockets()
        if descriptor >= 0:
            with contextlib.suppress(OSError):  # no descriptor is left; the pool then closes the handle
                self.sockets.append(socket.socket(fileno=os.dup(descriptor)))

    def close(self) -> None:
        self.curl.close()
        self._close_sockets()

    def _close_sockets(self) -> None:
        for each in self.sockets:
            each.close()
        self.sockets.clear()


class HandlePool:
    """Lends handles to threads. A handle keeps its connections while it is idle."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[Origin, Handle]] = []
        self._closed = False

    @contextlib.contextmanager
    def borrowed(self, origin: Origin) -> Iterator[Handle]:
        """Lend a handle without options. If an idle handle has a connection to ``origin``, that handle is lent."""
        handle = self._taken(origin) or Handle()
        try:
            yield handle
        finally:
            handle.keep_active()
            if handle.sockets:
                handle.curl.reset()  # its connections stay open
                self._give_back(origin, handle)
            else:  # without a duplicate of its socket, its connection could not be checked or cancelled
                handle.close()

    def close(self) -> None:
        """Close the idle handles. Lent handles are closed when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for _, handle in idle:
            handle.close()

    def _taken(self, origin: Origin) -> Handle | None:
        with self._lock:
            for place in reversed(range(len(self._idle))):
                if self._idle[place][0] == origin:
                    return self._idle.pop(place)[1]
        return None

    def _give_back(self, origin: Origin, handle: Handle) -> None:
        with self._lock:
            self._idle.append((origin, handle))
            outdated = self._idle[: len(self._idle) if self._closed else -_IDLE]
            del self._idle[: len(outdated)]
        for _, each in outdated:
            each.close()
