"""One file, opened by whoever needs it first and closed when nobody reads or writes it any more."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(eq=False, slots=True)
class _Opened:
    fd: int
    users: int = 0
    outdated: bool = False


class Descriptor:
    """The file descriptor of ``path``, for any number of threads. ``flags`` says how it is opened each time.

    Promise: at most one is open beside those that are in use, and none is closed while it is in use: its number would
    be another file's in the next moment. One that nobody closed would keep a deleted file's room on the disk taken.
    """

    def __init__(self, path: Path, flags: Callable[[], int]) -> None:
        self._path = path
        self._flags = flags
        self._lock = threading.Lock()
        self._opened: _Opened | None = None
        self._ended = False

    @contextlib.contextmanager
    def using(self) -> Iterator[int]:
        """Give the descriptor while the block runs. Raises :class:`OSError`, also after :meth:`end`."""
        with self._lock:
            opened = self._opened or self._open()
            opened.users += 1
        try:
            yield opened.fd
        finally:
            with self._lock:
                opened.users -= 1
                if opened.outdated and not opened.users:
                    os.close(opened.fd)

    def close(self) -> None:
        """Give the descriptor back, now or after its last use; who needs it later opens it anew."""
        with self._lock:
            opened, self._opened = self._opened, None
            if opened is not None:
                opened.outdated = True
                if not opened.users:
                    os.close(opened.fd)

    def end(self) -> None:
        """Give it back for good: at ``path`` is nothing, or another file, from here on."""
        with self._lock:
            self._ended = True
        self.close()

    def _open(self) -> _Opened:
        if self._ended:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._path))
        fd = os.open(self._path, self._flags() | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._opened = _Opened(fd)
        return self._opened
