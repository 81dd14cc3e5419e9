"""A file that is opened on its first use, and closed after its last one."""

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
    """The file descriptor of ``path``, for any number of threads. ``flags`` returns the flags for each opening.

    A descriptor is never closed while a thread uses it, because another file could get its number. At most one unused
    descriptor is open, because an open descriptor of a deleted file keeps its room on the disk.
    """

    def __init__(self, path: Path, flags: Callable[[], int]) -> None:
        self._path = path
        self._flags = flags
        self._lock = threading.Lock()
        self._opened: _Opened | None = None
        self._ended = False

    @contextlib.contextmanager
    def using(self) -> Iterator[int]:
        """Use the descriptor inside the block. Raises :class:`OSError`, also after :meth:`end`."""
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
        """Close the descriptor now, or after its last use. A later use opens it again."""
        with self._lock:
            opened, self._opened = self._opened, None
            if opened is not None:
                opened.outdated = True
                if not opened.users:
                    os.close(opened.fd)

    def end(self) -> None:
        """Close it forever, because the file at ``path`` is deleted or replaced."""
        with self._lock:
            self._ended = True
        self.close()

    def _open(self) -> _Opened:
        if self._ended:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._path))
        fd = os.open(self._path, self._flags() | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._opened = _Opened(fd)
        return self._opened
