"""The easy handles of libcurl, each with its connections, kept for the origin that used them last."""

import contextlib
import threading
from collections import defaultdict
from collections.abc import Iterator

import pycurl

Origin = tuple[str, str, int]

_IDLE_PER_ORIGIN = 8


class HandlePool:
    """Lends handles to threads. A handle keeps its connections while it is idle."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[pycurl.Curl]] = defaultdict(list)
        self._closed = False

    @contextlib.contextmanager
    def borrowed(self, origin: Origin) -> Iterator[pycurl.Curl]:
        """A handle without options. It has an open connection to ``origin`` if one is idle."""
        with self._lock:
            handle = self._idle[origin].pop() if self._idle.get(origin) else pycurl.Curl()
        try:
            yield handle
        finally:
            self._give_back(origin, handle)

    def _give_back(self, origin: Origin, handle: pycurl.Curl) -> None:
        handle.reset()  # its connections stay open
        with self._lock:
            keeps = not self._closed and len(self._idle[origin]) < _IDLE_PER_ORIGIN
            if keeps:
                self._idle[origin].append(handle)
        if not keeps:
            handle.close()

    def close(self) -> None:
        """Close the idle handles. The others are closed when they come back."""
        with self._lock:
            self._closed = True
            idle = [handle for handles in self._idle.values() for handle in handles]
            self._idle.clear()
        for handle in idle:
            handle.close()
